"""Validation during training: loss on validation records, AP on test images, and a picture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bodyposenet.console import logger
from bodyposenet.data.coco import CocoImage
from bodyposenet.data.dataset import DatasetSource, SampleSet
from bodyposenet.data.dataset_check import is_copy_of_training_data
from bodyposenet.decoding import DecodingOptions, decode
from bodyposenet.evaluation import KeypointAP
from bodyposenet.evaluation.evaluator import (
    ImageResult,
    load_test_images,
    predict_test_images,
    score_results,
)
from bodyposenet.files import is_folder
from bodyposenet.inference.engines.pytorch import PyTorchEngine
from bodyposenet.inference.parallel.executor import LocalExecutor
from bodyposenet.inference.predictor import Predictor
from bodyposenet.media.draw import draw
from bodyposenet.media.draw_maps import draw_heatmaps, draw_pafs
from bodyposenet.model.loss import Targets, stage_losses
from bodyposenet.model.network import BodyPoseNetwork, StageMaps
from bodyposenet.specs.dataset import DatasetSpec
from bodyposenet.specs.inference import InferenceSpec
from bodyposenet.specs.training import TrainSpec
from bodyposenet.training.batches import Batch, BatchLoader
from bodyposenet.training.distributed import DistributedContext
from bodyposenet.training.samples import validation_samples, without_augmentation
from bodyposenet.training.step import TargetGenerator
from bodyposenet.types import Maps

_MAX_PICTURE_ROWS = 4


@dataclass(frozen=True, eq=False)
class ValidationResult:
    """Result of a validation.

    Args:
        loss: Loss per sample, summed over all stages; None without validation records.
        ap: Keypoint AP by dataset; empty without test images.
        picture: (H, W, 3) uint8 RGB, see `draw_predictions`.
    """

    loss: float | None
    ap: Mapping[str, KeypointAP]
    picture: NDArray[np.uint8]


class Validation:
    """Validates a network during training.

    The ranks share the work; every image and record counts once. The loss and the AP of datasets
    without suitable data are turned off, and the reason is logged.

    Args:
        spec: The train spec.
        dataset_specs: Its dataset specs, by name.
        sources: Image folders and joint mappings, by dataset.
        samples: Training samples, which the picture shows if there are no validation records.
        network: The network to validate.
        distributed: The ranks. All of them validate with rank 0's batch normalization statistics.

    Raises:
        BodyPoseNetError: Test annotations, records or the inference spec are invalid.
    """

    def __init__(
        self,
        spec: TrainSpec,
        dataset_specs: Mapping[str, DatasetSpec],
        sources: Mapping[str, DatasetSource],
        samples: SampleSet,
        network: BodyPoseNetwork,
        distributed: DistributedContext,
    ) -> None:
        self._network = network
        self._distributed = distributed
        self._target_generator = TargetGenerator(spec)
        engine = PyTorchEngine(network, distributed.device)
        self._predictor = Predictor(engine, _inference_spec(spec))
        self._test_sets = {
            name: (dataset_spec, images)
            for name, dataset_spec in dataset_specs.items()
            if (images := _test_images(dataset_spec, spec.validation_max_images))
        }
        held_out = validation_samples(spec, sources)
        self._has_loss = held_out is not None
        shown = without_augmentation(samples) if held_out is None else held_out
        share = spec.dataloader.max_unreadable_share
        size = min(spec.dataloader.batch_size, len(shown))
        self._loader = BatchLoader(shown, size, distributed, max_unreadable_share=share)
        self._picture_loader = BatchLoader(
            shown, size, DistributedContext(distributed.device), max_unreadable_share=share
        )

    def run(self) -> ValidationResult | None:
        """Validate the network, which is in evaluation mode afterwards. Every rank must call this.

        Returns:
            The result on rank 0, None on the other ranks.

        Raises:
            BodyPoseNetError: Too many images or records cannot be read.
        """
        self._network.eval()
        self._distributed.broadcast_buffers(self._network)
        with _without_cudnn_benchmark():
            return self._validate()

    def _validate(self) -> ValidationResult | None:
        """Run the predictions and the loss on all ranks, and combine them on rank 0."""
        results = {name: self._predict(*test_set) for name, test_set in self._test_sets.items()}
        loss = self._loss() if self._has_loss else None
        if not self._distributed.is_main:
            return None
        skeleton = self._network.skeleton
        ap = {
            name: score_results(results[name], skeleton, *test_set).accuracy
            for name, test_set in self._test_sets.items()
        }
        return ValidationResult(loss, ap, self._picture())

    def _predict(self, spec: DatasetSpec, images: Sequence[CocoImage]) -> list[ImageResult]:
        """Predict the poses in test images on all ranks, and return them in order of the images."""
        executor = LocalExecutor(self._predictor)
        results = predict_test_images(executor, spec, self._distributed.shard(images))
        shards = self._distributed.gather(results)
        return [shards[i % len(shards)][i // len(shards)] for i in range(len(images))]

    def _loss(self) -> float:
        """Compute the loss per sample, summed over all stages, on all ranks together."""
        total, count = 0.0, 0
        for batch in self._loader.iterate(range(1)):
            targets, maps = self._targets_and_maps(batch)
            heatmap_losses, paf_losses = stage_losses(maps.heatmaps, maps.pafs, targets)
            total += float(torch.stack(heatmap_losses + paf_losses).sum())
            count += len(batch)
        totals, counts = zip(*self._distributed.gather((total, count)), strict=True)
        return sum(totals) / sum(counts)

    def _picture(self) -> NDArray[np.uint8]:
        """Draw the predictions for the first samples."""
        batch = next(self._picture_loader.iterate(range(1)))
        return draw_predictions(batch.image.numpy(), *self._targets_and_maps(batch), self._network)

    @torch.inference_mode()
    def _targets_and_maps(self, batch: Batch) -> tuple[Targets, StageMaps]:
        """Return the target maps and the predicted maps of a batch."""
        batch = batch.to(self._distributed.device)
        return self._target_generator(batch), self._network(self._network.normalize(batch.image))


def draw_predictions(
    images: NDArray[np.uint8], targets: Targets, maps: StageMaps, network: BodyPoseNetwork
) -> NDArray[np.uint8]:
    """Draw a row per image: poses, target and predicted heatmaps, target and predicted PAFs.

    Args:
        images: (B, H, W, 3) uint8 RGB, the network inputs; at most four are drawn.
        targets: Target maps.
        maps: Predicted maps.
        network: The network, for its skeleton, stride and sigma.

    Returns:
        (rows * H, 5 * W, 3) uint8 RGB.
    """
    rows = []
    for row, image in enumerate(images[:_MAX_PICTURE_ROWS]):
        predicted = Maps(
            _to_numpy(maps.heatmaps[-1][row]), _to_numpy(maps.pafs[-1][row]),
            network.stride, network.heatmap_sigma,
        )  # fmt: skip
        poses = decode(predicted, network.skeleton, DecodingOptions())
        panels = [
            draw(image, poses, score_threshold=0),
            draw_heatmaps(image, _to_numpy(targets.heatmaps[row])),
            draw_heatmaps(image, predicted.heatmaps),
            draw_pafs(image, _to_numpy(targets.pafs[row])),
            draw_pafs(image, predicted.pafs),
        ]
        rows.append(np.concatenate(panels, axis=1))
    return np.concatenate(rows, axis=0)


def _to_numpy(maps: Tensor) -> NDArray[np.float32]:
    return maps.float().cpu().numpy()


@contextmanager
def _without_cudnn_benchmark() -> Iterator[None]:
    """Turn off cuDNN's benchmark mode, which would search kernels for every image size."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def _inference_spec(spec: TrainSpec) -> InferenceSpec:
    """Return the inference spec for the AP: the given one, or padding to the training size."""
    if spec.inference_spec is not None:
        return InferenceSpec.load(spec.existing_path("inference_spec", spec.inference_spec))
    logger.info(
        "Validation AP uses the accurate decoder; to use TAO's, set inference_spec to a spec with "
        "mode: tao"
    )
    dims = spec.dataloader.image_config.image_dims
    return InferenceSpec(
        input_shape=(dims.height, dims.width), keep_aspect_ratio_mode="pad_image_input"
    )


def _test_images(spec: DatasetSpec, limit: int | None) -> list[CocoImage]:
    """Return the test images of a dataset: none if they are missing or equal the training data."""
    if spec.test_data is None:
        reason = "no test_data"
    elif not spec.has_annotations("test"):
        reason = f"file not found: {spec.test_data.annotation_root_dir_path}"
    elif spec.has_annotations("train") and is_copy_of_training_data(spec):
        reason = "test_data is a copy of train_data"
    elif not is_folder(spec.images_folder("test")):
        reason = f"folder not found: {spec.test_data.images_root_dir_path}"
    elif images := load_test_images(spec, limit):
        return images
    else:
        reason = f"{spec.test_data.annotation_root_dir_path} lists no images"
    logger.info("Validation AP on %s is off: %s", spec.dataset, reason)
    return []
