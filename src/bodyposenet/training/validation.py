"""A network in training in, its loss on held-out records and its AP on held-out images out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from bodyposenet.console import logger
from bodyposenet.data.dataset import DatasetSource, Sample
from bodyposenet.evaluation import KeypointAP
from bodyposenet.evaluation.dataset import evaluate_dataset
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
        device: Where the network runs.
    """

    def __init__(
        self,
        spec: TrainSpec,
        dataset_specs: Mapping[str, DatasetSpec],
        sources: Mapping[str, DatasetSource],
        device: torch.device,
    ) -> None:
        self._spec = spec
        self._device = device
        self._inference_spec = _inference_spec(spec)
        self._tested = {name: one for name, one in dataset_specs.items() if _has_test_data(one)}
        held_out = validation_samples(spec, sources)
        self._has_loss = held_out is not None
        shown = training_samples(spec, sources, varied=False) if held_out is None else held_out
        self._batches = Batches(shown, spec.dataloader.batch_size, workers=0, seed=None)

    def run(self, network: BodyPoseNetwork) -> ValidationResult:
        """Validate; the network is in evaluation mode afterwards.

        Raises:
            BodyPoseNetError: An image or a record cannot be read.
        """
        network.eval()
        predictor = Predictor(PyTorchEngine(network, self._device), self._inference_spec)
        limit = self._spec.validation_max_images
        ap = {
            name: evaluate_dataset(predictor, dataset_spec, max_images=limit).accuracy
            for name, dataset_spec in self._tested.items()
        }
        loss = self._loss(network) if self._has_loss else None
        return ValidationResult(loss, ap, self._picture(network))

    def _loss(self, network: BodyPoseNetwork) -> float:
        """The loss per sample, all stages."""
        total, count = 0.0, 0
        for batch in self._batches.epoch(0):
            targets, maps = self._compare(network, batch)
            heat, paf = stage_losses(maps.heatmaps, maps.pafs, targets)
            total += float(torch.stack(heat + paf).sum())
            count += len(batch.image)
        return total / count

    def _picture(self, network: BodyPoseNetwork) -> NDArray[np.uint8]:
        batch = next(self._batches.epoch(0))
        return draw_predictions(batch, *self._compare(network, batch), network)

    @torch.inference_mode()
    def _compare(self, network: BodyPoseNetwork, batch: Sample) -> tuple[Targets, StageMaps]:
        """What the network should say of a batch, and what it says."""
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


def _has_test_data(spec: DatasetSpec) -> bool:
    """Whether a dataset has test data that are not a copy of its training data."""
    if spec.test_data is None:
        why = "no test_data"
    elif spec.test_data.annotation_root_dir_path == spec.train_data.annotation_root_dir_path:
        why = "test_data is a copy of train_data"
    elif not spec.has_annotations("test"):
        why = f"no such file: {spec.test_data.annotation_root_dir_path}"
    else:
        return True
    logger.info("AP on %s is off while training: %s", spec.dataset, why)
    return False
