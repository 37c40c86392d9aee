"""A network in training in, its loss on held-out records and its AP on held-out images out."""

from __future__ import annotations

import filecmp
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from bodyposenet.console import logger
from bodyposenet.data.coco import CocoImage
from bodyposenet.data.dataset import DatasetSource, SampleSet
from bodyposenet.evaluation import KeypointAP
from bodyposenet.evaluation.dataset import (
    Finding,
    find_people,
    load_test_images,
    score_findings,
)
from bodyposenet.files import is_folder
from bodyposenet.model.loss import Targets, stage_losses
from bodyposenet.model.network import BodyPoseNetwork, StageMaps
from bodyposenet.runtime.engines.pytorch import PyTorchEngine
from bodyposenet.runtime.predictor import Predictor
from bodyposenet.specs.dataset import DatasetSpec
from bodyposenet.specs.inference import InferenceSpec
from bodyposenet.specs.training import TrainSpec
from bodyposenet.training.batches import Batch, Batches
from bodyposenet.training.labels import Labels
from bodyposenet.training.pictures import draw_predictions
from bodyposenet.training.ranks import Ranks
from bodyposenet.training.samples import unvaried, validation_samples


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
        ranks: Ranks,
    ) -> None:
        self._network = network
        self._ranks = ranks
        self._labels = Labels(spec)
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
        self._shown = Batches(shown, size, Ranks(ranks.device), most_unreadable=share)

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
        return InferenceSpec.load(spec.existing("inference_spec", spec.inference_spec))
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
