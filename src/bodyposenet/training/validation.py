"""A network in training in, its loss on held-out records and its AP on held-out images out."""

from __future__ import annotations

import filecmp
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from bodyposenet.console import logger
from bodyposenet.data.coco import CocoImage
from bodyposenet.data.dataset import DatasetSource, Sample
from bodyposenet.evaluation import KeypointAP
from bodyposenet.evaluation.dataset import evaluate_dataset, load_test_images
from bodyposenet.model.loss import Targets, stage_losses
from bodyposenet.model.network import BodyPoseNetwork, StageMaps
from bodyposenet.model.targets import TargetOptions
from bodyposenet.runtime.predictor import Predictor
from bodyposenet.runtime.pytorch import PyTorchEngine
from bodyposenet.specs.dataset import DatasetSpec
from bodyposenet.specs.inference import InferenceSpec
from bodyposenet.specs.training import TrainSpec
from bodyposenet.training.batches import Batches, make_targets
from bodyposenet.training.pictures import draw_predictions
from bodyposenet.training.samples import training_samples, validation_samples


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

    Args:
        spec: The train spec.
        dataset_specs: Its dataset specs, by name.
        sources: Where their images lie.
        network: What is trained.
        device: Where it runs.

    Raises:
        BodyPoseNetError: Test annotations, records or the inference spec are wrong.
    """

    def __init__(
        self,
        spec: TrainSpec,
        dataset_specs: Mapping[str, DatasetSpec],
        sources: Mapping[str, DatasetSource],
        network: BodyPoseNetwork,
        device: torch.device,
    ) -> None:
        self._spec = spec
        self._network = network
        self._device = device
        self._predictor = Predictor(PyTorchEngine(network, device), _inference_spec(spec))
        self._tested = {
            name: (dataset_spec, images)
            for name, dataset_spec in dataset_specs.items()
            if (images := _test_images(dataset_spec, spec.validation_max_images))
        }
        held_out = validation_samples(spec, sources)
        self._has_loss = held_out is not None
        shown = training_samples(spec, sources, varied=False) if held_out is None else held_out
        size = min(spec.dataloader.batch_size, len(shown))
        self._batches = Batches(shown, size, workers=0, seed=None)

    def run(self) -> ValidationResult:
        """Validate; the network is in evaluation mode afterwards.

        Raises:
            BodyPoseNetError: An image or a record cannot be read.
        """
        self._network.eval()
        ap = {
            name: evaluate_dataset(self._predictor, dataset_spec, images).accuracy
            for name, (dataset_spec, images) in self._tested.items()
        }
        return ValidationResult(self._loss() if self._has_loss else None, ap, self._picture())

    def _loss(self) -> float:
        """The loss per sample, all stages."""
        total, count = 0.0, 0
        for batch in self._batches.epoch(0):
            targets, maps = self._compare(batch)
            heat, paf = stage_losses(maps.heatmaps, maps.pafs, targets)
            total += float(torch.stack(heat + paf).sum())
            count += len(batch.image)
        return total / count

    def _picture(self) -> NDArray[np.uint8]:
        batch = next(self._batches.epoch(0))
        return draw_predictions(batch, *self._compare(batch), self._network)

    @torch.inference_mode()
    def _compare(self, batch: Sample) -> tuple[Targets, StageMaps]:
        """What the network should say of a batch, and what it says."""
        network = self._network
        loader = self._spec.dataloader
        options = TargetOptions.from_spec(loader.label_processor_config, batch.image.shape[1])
        normalization = loader.normalization_params
        targets = make_targets(batch, self._device, network.skeleton, options, normalization)
        images = network.normalize(torch.from_numpy(batch.image).to(self._device))
        return targets, network(images)


def _inference_spec(spec: TrainSpec) -> InferenceSpec:
    """The settings of the AP: the named inference spec, or the training size with padding."""
    if spec.inference_spec is not None:
        return InferenceSpec.load(spec.existing("inference_spec", spec.inference_spec))
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
    elif not spec.images_folder("test").is_dir():
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
