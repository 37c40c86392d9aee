"""The front of VGG19 in, the light network's first weights out: its layers with fewer filters.

python examples/default_model/narrow.py -e examples/default_model/light.yaml
    --weights vgg19_front.safetensors --images data/coco-person/images -o data/light_start.tlt

Layer by layer the filters stay that the next layer hears most, and their weights are fitted anew,
by least squares on photos, to what they gave when all filters before them were there ("Channel
Pruning for Accelerating Very Deep Neural Networks", He, Zhang, Sun 2017). What follows is fresh.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from bodyposenet.console import say
from bodyposenet.ending import exit_code_of
from bodyposenet.media.source import list_images, read_image
from bodyposenet.model.checkpoint import save_model
from bodyposenet.model.network import BodyPoseNetwork
from bodyposenet.model.weights import load_pretrained
from bodyposenet.specs.training import TrainSpec

FRONT = {
    "block_1a_conv_1": 24, "block_1b_conv_1": 24,
    "block_2a_conv_1": 48, "block_2b_conv_1": 64,
    "block_3a_conv_1": 112, "block_3b_conv_1": 112,
    "block_3c_conv_1": 112, "block_3d_conv_1": 128,
}  # fmt: skip
"""Filters of the layers that VGG19's weights are known of."""

REST = {
    "block_4a_conv_1": 192, "block_4b_conv_1": 192, "block_6a_conv_1": 128,
    "channel_reduction_conv": 96,
    **{f"stage1/conv{layer}": 96 for layer in (1, 2, 3)},
    **{f"stage1/{branch}/conv4": 128 for branch in ("paf", "cmap")},
    **{f"stage2/conv{layer}": 96 for layer in (1, 2, 3, 4, 5)},
    **{f"stage2/{branch}/conv6": 128 for branch in ("paf", "cmap")},
}  # fmt: skip
"""Filters of the layers that begin fresh."""

_PHOTOS = 240
_SIDE = 192
_POINTS_PER_PHOTO = 160
"""Of each layer's output: the equations of the least squares."""

_RIDGE = 1e-3
"""Pull towards the weights as they were, as a share of the inputs' mean square."""

_BATCH = 16


def main() -> None:
    """Write the start of the training."""
    flags = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    flags.add_argument("-e", "--experiment_spec", required=True, metavar="FILE", help="train spec")
    flags.add_argument("--weights", required=True, metavar="FILE", help="VGG19's front")
    flags.add_argument(
        "--images", required=True, metavar="DIR", help="photos to fit the weights to"
    )
    flags.add_argument("-o", "--output_file", required=True, metavar="FILE", help="model to write")
    arguments = flags.parse_args()
    spec = TrainSpec.load(arguments.experiment_spec)
    torch.manual_seed(spec.random_seed)
    full = BodyPoseNetwork(spec.skeleton, spec.model)
    load_pretrained(full, arguments.weights)
    narrow = BodyPoseNetwork(spec.skeleton, spec.model, widths=FRONT | REST)
    photos = _read_squares(Path(arguments.images), spec.random_seed)
    with torch.inference_mode():
        narrow_front(full, narrow, full.normalize(photos))
    save_model(arguments.output_file, narrow)
    say(f"written: {arguments.output_file}")


def narrow_front(full: BodyPoseNetwork, narrow: BodyPoseNetwork, photos: Tensor) -> None:
    """Fill the front of the narrow network.

    Args:
        full: With VGG19's weights.
        narrow: Is changed.
        photos: (N, 3, H, W) normalized.
    """
    theirs, ours = photos, photos
    kept = torch.arange(photos.shape[1])
    following = dict(zip(FRONT, [*list(FRONT)[1:], None], strict=True))
    layers, narrow_layers = full.layers(), narrow.layers()
    for name, layer in full.backbone.named_children():
        if not isinstance(layer, nn.Conv2d):
            theirs, ours = layer(theirs), layer(ours)
            continue
        if name not in FRONT:
            return
        complete = _in_batches(layer, theirs)
        importance = complete.relu().square().mean((0, 2, 3))
        if (listener := following[name]) is not None:
            importance = importance * layers[listener].weight.square().sum((0, 2, 3))
        filters = importance.topk(FRONT[name]).indices.sort().values
        wanted = complete[:, filters]
        fitted = narrow_layers[name]
        assert isinstance(fitted, nn.Conv2d)
        assert layer.bias is not None and fitted.bias is not None
        fitted.weight.copy_(layer.weight[filters][:, kept])
        fitted.bias.copy_(layer.bias[filters])
        _fit(fitted, ours, wanted)
        theirs, ours, kept = complete, _in_batches(fitted, ours), filters
        error = (ours.relu() - wanted.relu()).square().mean() / wanted.relu().var()
        say(f"{name}: {FRONT[name]} of {len(importance)} filters, error {error:.3f}")


def _fit(layer: nn.Conv2d, inputs: Tensor, wanted: Tensor) -> None:
    """Change a 3x3 convolution so that it makes what is wanted, (N, C, H, W), of its inputs."""
    assert layer.bias is not None
    random = torch.Generator().manual_seed(0)
    height, width = wanted.shape[2:]
    patches, values = [], []
    for image, target in zip(functional.pad(inputs, (1, 1, 1, 1)), wanted, strict=True):
        rows = torch.randint(height, (_POINTS_PER_PHOTO,), generator=random)
        columns = torch.randint(width, (_POINTS_PER_PHOTO,), generator=random)
        around = [image[:, rows + i, columns + j] for i in range(3) for j in range(3)]
        patches.append(torch.stack(around, dim=1).permute(2, 0, 1).flatten(1))
        values.append(target[:, rows, columns].T)
    points = functional.pad(torch.cat(patches), (0, 1), value=1.0).double()  # 1: for the bias
    start = torch.cat([layer.weight.flatten(1), layer.bias[:, None]], dim=1).T.double()
    gram = points.T @ points
    gram += _RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
    change = torch.linalg.solve(gram, points.T @ (torch.cat(values) - points @ start))
    solved = (start + change).T.float()
    layer.weight.copy_(solved[:, :-1].view_as(layer.weight))
    layer.bias.copy_(solved[:, -1])


def _in_batches(layer: nn.Module, inputs: Tensor) -> Tensor:
    return torch.cat([layer(batch) for batch in inputs.split(_BATCH)])


def _read_squares(folder: Path, seed: int) -> Tensor:
    """(N, H, W, 3) uint8: a random square of each of some random photos."""
    entries = list_images("dir", folder).entries
    random = np.random.default_rng(seed)
    squares = []
    for index in random.permutation(len(entries))[:_PHOTOS]:
        image = read_image(entries[index].path)
        side = min(image.shape[:2])
        top, left = (random.integers(length - side + 1) for length in image.shape[:2])
        square = image[top : top + side, left : left + side]
        squares.append(cv2.resize(square, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA))
    return torch.from_numpy(np.stack(squares))


if __name__ == "__main__":
    sys.exit(exit_code_of("narrow.py", main))
