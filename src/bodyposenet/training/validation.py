"""A network in training in, its loss on held-out records and its AP on held-out images out."""

from __future__ import annotations

import filecmp
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bodyposenet.console import logger
from bodyposenet.data.coco import CocoImage
from bodyposenet.data.dataset import DatasetSource, SampleSet
from bodyposenet.decoding import DecodingOptions, decode
from bodyposenet.evaluation import KeypointAP, evaluate_poses
from bodyposenet.evaluation.evaluator import Finding, find_people, load_test_images, score_findings
from bodyposenet.files import is_folder
from bodyposenet.inference.engines.pytorch import PyTorchEngine
from bodyposenet.inference.predictor import Predictor, network_affine
from bodyposenet.media.draw import draw
from bodyposenet.model.loss import Targets, stage_losses
from bodyposenet.model.network import BodyPoseNetwork, StageMaps
from bodyposenet.model.targets import TargetOptions, render_targets
from bodyposenet.skeleton import JointMap, Skeleton
from bodyposenet.specs.dataset import COCO_FLAGS, DatasetSpec
from bodyposenet.specs.inference import InferenceSpec
from bodyposenet.specs.training import TrainSpec
from bodyposenet.training.batches import Batch, Batches
from bodyposenet.training.distributed import DistributedContext
from bodyposenet.training.samples import unvaried, validation_samples
from bodyposenet.training.step import TargetGenerator
from bodyposenet.types import Maps, Poses


@dataclass(frozen=True, eq=False)
class ValidationResult:
    """What a validation found.

    Args:
        loss: Per sample, all stages; None where there are no validation records.
        ap: Dataset name -> its keypoint AP; empty where there are no test images.
        picture: (H, W, 3) uint8 RGB, some inputs beside target and predicted maps.
    """

    loss: float | None
    ap: Mapping[str, KeypointAP]
    picture: NDArray[np.uint8]


class Validation:
    """The validation of a training; what the data do not allow is turned off with a line.

    The ranks share the work, and every image and record counts once.

    Args:
        spec: The train spec.
        dataset_specs: Its dataset specs, by name.
        sources: Where their images lie.
        samples: What is trained on; shown where there are no validation records.
        network: What is evaluated.
        ranks: Who shares the work; they validate with the first one's batch statistics.

    Raises:
        BodyPoseNetError: Test annotations, records or the inference spec are wrong.
    """

    def __init__(
        self,
        spec: TrainSpec,
        dataset_specs: Mapping[str, DatasetSpec],
        sources: Mapping[str, DatasetSource],
        samples: SampleSet,
        network: BodyPoseNetwork,
        ranks: DistributedContext,
    ) -> None:
        self._network = network
        self._ranks = ranks
        self._labels = TargetGenerator(spec)
        self._predictor = Predictor(PyTorchEngine(network, ranks.device), _inference_spec(spec))
        self._tested = {
            name: (dataset_spec, images)
            for name, dataset_spec in dataset_specs.items()
            if (images := _test_images(dataset_spec, spec.validation_max_images))
        }
        held_out = validation_samples(spec, sources)
        self._has_loss = held_out is not None
        shown = unvaried(samples) if held_out is None else held_out
        share = spec.dataloader.max_unreadable_share
        size = min(spec.dataloader.batch_size, len(shown))
        self._batches = Batches(shown, size, ranks, most_unreadable=share)
        self._shown = Batches(shown, size, DistributedContext(ranks.device), most_unreadable=share)

    def run(self) -> ValidationResult | None:
        """Validate; the network is in evaluation mode afterwards. All ranks must call it.

        Returns:
            What was found, to the first rank; None to the others.

        Raises:
            BodyPoseNetError: Too many images or records cannot be read.
        """
        self._network.eval()
        self._ranks.take_statistics(self._network)
        with _any_shape():
            return self._validate()

    def _validate(self) -> ValidationResult | None:
        found = {name: self._find(*tested) for name, tested in self._tested.items()}
        loss = self._loss() if self._has_loss else None
        if not self._ranks.is_first:
            return None
        skeleton = self._network.skeleton
        ap = {
            name: score_findings(found[name], skeleton, *tested).accuracy
            for name, tested in self._tested.items()
        }
        return ValidationResult(loss, ap, self._picture())

    def _find(self, spec: DatasetSpec, images: Sequence[CocoImage]) -> list[Finding]:
        """What all ranks together find in test images, in the order of the images."""
        shares = self._ranks.gather(find_people(self._predictor, spec, self._ranks.share(images)))
        return [shares[i % len(shares)][i // len(shares)] for i in range(len(images))]

    def _loss(self) -> float:
        """The loss per sample, all stages."""
        total, count = 0.0, 0
        for batch in self._batches.run(range(1)):
            targets, maps = self._compare(batch)
            heat, paf = stage_losses(maps.heatmaps, maps.pafs, targets)
            total += float(torch.stack(heat + paf).sum())
            count += len(batch)
        totals, counts = zip(*self._ranks.gather((total, count)), strict=True)
        return sum(totals) / sum(counts)

    def _picture(self) -> NDArray[np.uint8]:
        batch = next(self._shown.run(range(1)))
        return draw_predictions(batch.image.numpy(), *self._compare(batch), self._network)

    @torch.inference_mode()
    def _compare(self, batch: Batch) -> tuple[Targets, StageMaps]:
        """What the network should say of a batch, and what it says."""
        batch = batch.to(self._ranks.device)
        return self._labels(batch), self._network(self._network.normalize(batch.image))


@contextmanager
def _any_shape() -> Iterator[None]:
    """Turn off cuDNN's search for the quickest kernels, which begins anew for every size."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def _inference_spec(spec: TrainSpec) -> InferenceSpec:
    """The settings of the AP: the named inference spec, or the training size with padding."""
    if spec.inference_spec is not None:
        return InferenceSpec.load(spec.existing_path("inference_spec", spec.inference_spec))
    logger.info(
        "the AP is measured with the decoder accurate; for TAO's decoder name an inference_spec "
        "with mode: tao"
    )
    dims = spec.dataloader.image_config.image_dims
    return InferenceSpec(
        input_shape=(dims.height, dims.width), keep_aspect_ratio_mode="pad_image_input"
    )


def _test_images(spec: DatasetSpec, limit: int | None) -> list[CocoImage]:
    """The images to measure the AP on; none where the test data are no test data."""
    if spec.test_data is None:
        why = "no test_data"
    elif not spec.has_annotations("test"):
        why = f"no such file: {spec.test_data.annotation_root_dir_path}"
    elif spec.has_annotations("train") and _is_copy(*map(spec.annotations, ("test", "train"))):
        why = "test_data is a copy of train_data"
    elif not is_folder(spec.images_folder("test")):
        why = f"no such folder: {spec.test_data.images_root_dir_path}"
    elif images := load_test_images(spec, limit):
        return images
    else:
        why = f"{spec.test_data.annotation_root_dir_path} lists no images"
    logger.info("AP on %s is off while training: %s", spec.dataset, why)
    return []


def _is_copy(one: Path, other: Path) -> bool:
    """Whether two files are the same, or hold the same."""
    return filecmp.cmp(one, other, shallow=False)


def evaluate_perfect_maps(
    images: Sequence[CocoImage],
    joints: Sequence[str],
    skeleton: Skeleton,
    spec: InferenceSpec,
    options: TargetOptions = TargetOptions(),
) -> KeypointAP:
    """Decode the targets of annotated images and measure their keypoint AP; no image is read.

    Args:
        images: The images; every person with labelled keypoints (by COCO's flags) is drawn.
        joints: Names of the annotated keypoints.
        skeleton: Joints and limbs of the maps.
        spec: How an image would become a network input, and how maps become poses.
        options: How targets are drawn.
    """
    joint_map = skeleton.joints_from(joints)
    results = []
    for image in images:
        poses = decode_perfect_maps(image, joint_map, spec, options)
        results += poses.to_coco(image.image_id, tuple(joints))
    return evaluate_poses(results, images, joints, skeleton)


def decode_perfect_maps(
    image: CocoImage, joint_map: JointMap, spec: InferenceSpec, options: TargetOptions
) -> Poses:
    """The poses, in image pixels, that are found in one image's targets."""
    skeleton = joint_map.skeleton
    people = [person.keypoints for person in image.persons if person.num_keypoints > 0]
    if not people:
        return Poses.empty(skeleton)
    to_network, (height, width) = network_affine(image.height, image.width, spec)
    triples = np.stack(people)
    is_labelled = np.isin(triples[..., 2], list(COCO_FLAGS.labelled()))
    points, labelled = joint_map.keypoints(triples[..., :2], is_labelled)
    keypoints = torch.tensor(to_network.apply(points), dtype=torch.float32)[None]
    heatmaps, pafs = render_targets(
        keypoints, torch.tensor(labelled)[None], skeleton, height, width, options
    )
    maps = Maps(heatmaps[0].numpy(), pafs[0].numpy(), options.stride, options.heatmap_sigma)
    poses = decode(maps, skeleton, DecodingOptions.from_spec(spec))
    return poses.transform(to_network.inverse())


_MOST_ROWS = 4


def draw_predictions(
    images: NDArray[np.uint8], targets: Targets, maps: StageMaps, network: BodyPoseNetwork
) -> NDArray[np.uint8]:
    """One row per sample: skeletons; target and predicted joints; target and predicted limbs.

    Args:
        images: (B, H, W, 3) uint8 RGB, the inputs.
        targets: What the network should say.
        maps: What it says.
        network: Its skeleton, stride and sigma.

    Returns:
        (rows x H, 5 x W, 3) uint8 RGB.
    """
    rows = []
    for row, image in enumerate(images[:_MOST_ROWS]):
        said = Maps(
            _array(maps.heatmaps[-1][row]), _array(maps.pafs[-1][row]),
            network.stride, network.heatmap_sigma,
        )  # fmt: skip
        poses = decode(said, network.skeleton, DecodingOptions())
        panels = [
            draw(image, poses, score_threshold=0),
            _overlay(image, _joint_strength(_array(targets.heatmaps[row]))),
            _overlay(image, _joint_strength(said.heatmaps)),
            _overlay(image, _limb_strength(_array(targets.pafs[row]))),
            _overlay(image, _limb_strength(said.pafs)),
        ]
        rows.append(np.concatenate(panels, axis=1))
    return np.concatenate(rows, axis=0)


def _array(maps: Tensor) -> NDArray[np.float32]:
    return maps.float().cpu().numpy()


def _joint_strength(heatmaps: NDArray[np.float32]) -> NDArray[np.float32]:
    return heatmaps[:-1].max(axis=0)


def _limb_strength(pafs: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.hypot(pafs[0::2], pafs[1::2]).max(axis=0)


def _overlay(image: NDArray[np.uint8], strength: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The image, darkened, with a map of 0..1 glowing over it."""
    height, width = image.shape[:2]
    glow = cv2.resize((strength.clip(0, 1) * 255).astype(np.uint8), (width, height))
    color = cv2.cvtColor(cv2.applyColorMap(glow, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
    return cv2.addWeighted(image, 0.4, color, 0.8, 0)  # type: ignore[return-value]
