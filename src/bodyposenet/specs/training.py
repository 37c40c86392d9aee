"""The train spec (YAML): trainer, dataloader, model, loss and optimizer.

See the TAO reference, section 2.4.
"""

from __future__ import annotations

import json
import re
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AliasChoices, Field, field_validator, model_validator

from bodyposenet.console import logger
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.files import exists
from bodyposenet.skeleton import Skeleton
from bodyposenet.specs.dataloader import Dataloader
from bodyposenet.specs.dataset import DatasetSpec
from bodyposenet.specs.loading import Block, NullIsDefault, Spec, ignored_key, suggestion
from bodyposenet.specs.network import STRIDE, LossConfig, ModelConfig
from bodyposenet.specs.number_types import (
    DecayRate,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Probability,
    Seed,
)
from bodyposenet.specs.optimizer import Optimizer
from bodyposenet.specs.pose import bundled_pose_configuration, load_skeleton
from bodyposenet.specs.spec_file import SpecFile

DEFAULT_WEIGHTS = "default"
"""Name of the package's own model in `pretrained_weights` and `checkpoint_path`."""


class FinetuningConfig(Block):
    """Start from a checkpoint or from any other model file (TAO reference, section 10.3)."""

    is_finetune_exp: bool = False
    """Start from checkpoint_path."""
    checkpoint_path: str | None = None
    """A `model.epoch-N.tlt`: its weights, and the optimizer's state of the `.state` beside it where
    that fits; or whatever pretrained_weights takes."""
    ckpt_epoch_num: NonNegativeInt = 0
    """Epochs count from here; the schedule runs over the epochs that remain."""

    @model_validator(mode="after")
    def _checkpoint_named(self) -> FinetuningConfig:
        if self.is_finetune_exp and not self.checkpoint_path:
            raise ValueError("is_finetune_exp needs a checkpoint_path")
        return self


class Distillation(Block):
    """Learn from a trained network as well: from a `teacher`, or from `maps` (ours)."""

    teacher: str | None = None
    """A trained model of ours, `.tlt` or exported, or a Python file, which is executed and whose
    function `open_teacher()` opens any other, run on every sample; joints and limbs that it lacks
    are learned from the labels. `-k` opens it where it is sealed."""
    maps: str | None = None
    """A folder of maps that a teacher made of whole photos beforehand; they are moved into each
    sample. Exactly one of teacher and maps must be given."""
    weight: Probability = 0.5
    """Share of the loss that compares with the teacher's maps, for joints and limbs that it knows;
    the labels have the rest."""

    @model_validator(mode="after")
    def _one_source(self) -> Distillation:
        if (self.teacher is None) == (self.maps is None):
            raise ValueError("needs exactly one of teacher and maps")
        return self


class TrainSpec(Spec):
    """The whole training."""

    also_top_level: ClassVar = {
        "augmentation_config": "dataloader",
        "label_processor_config": "dataloader",
    }

    class_name: Literal["BpNetTrainer"] = Field(default="BpNetTrainer", alias="__class_name__")
    """The only class."""
    checkpoint_dir: str | None = None
    """Results folder where `-r` is not given."""
    log_every_n_secs: PositiveFloat = 30
    """Seconds between log lines."""
    checkpoint_n_epoch: PositiveInt = Field(
        default=5, validation_alias=AliasChoices("checkpoint_n_epoch", "checkpoint_interval")
    )
    """Epochs between checkpoints."""
    checkpoint_every_n_secs: PositiveFloat | None = None
    """Seconds between saves of the exact position within an epoch (ours), for machines that may be
    taken away; null: at the end of epochs only."""
    num_epoch: PositiveInt = 100
    """Epochs to train."""
    summary_every_n_steps: PositiveInt = 20
    """Steps between TensorBoard scalars."""
    infrequent_summary_every_n_steps: NonNegativeInt = 0
    """Read, without effect: TensorBoard pictures are written at every validation."""
    validation_every_n_epoch: PositiveInt = 5
    """Epochs between validations."""
    max_ckpt_to_keep: PositiveInt = 100
    """The oldest checkpoints are removed."""
    random_seed: Seed = 42
    """Of initial weights, order and augmentation."""
    pretrained_weights: str | None = None
    """default: the package's own model; .tlt or .onnx of ours; TAO 5's .hdf5; lightweight OpenPose
    as the Open Model Zoo's .xml or Osokin's .pth; VGG19 as Keras' .h5 or .safetensors; MoveNet's
    trunk as .safetensors. Joints and limbs match by name."""
    load_graph: bool = False
    """Take the network's architecture and widths from pretrained_weights too (pruned networks, the
    default model); regularization is off then."""
    finetuning_config: Annotated[FinetuningConfig, NullIsDefault()] = FinetuningConfig()
    """Start from the weights, and where it fits the optimizer, of a checkpoint or another model."""
    use_stagewise_lr_multipliers: bool = False
    """Learning rate x 4 in the refinement stages, and x 2 for biases."""
    lr_scaling: Literal["none", "linear"] = "none"
    """linear: the learning rate times the number of GPUs (ours); none: as it stands, as in TAO."""
    accumulate_steps: PositiveInt = 1
    """Batches whose gradients are averaged before each step of the optimizer (ours)."""
    clip_grad_norm: PositiveFloat | None = None
    """Largest norm of all gradients together; longer ones are scaled down to it (ours)."""
    ema_decay: DecayRate | None = None
    """Keep a moving average of the weights, with this share of the old ones per step, save it as
    the model and evaluate it (ours); over the first steps the share is smaller."""
    torch_compile: bool = False
    """Compile the network with torch.compile: slower to start, faster steps (ours)."""
    sync_batch_norm: bool = False
    """Share the statistics of batch normalization between GPUs (ours); CUDA only."""
    distillation: Distillation | None = None
    """Learn from a trained network as well (ours)."""
    final_model_name: str = "bpnet_model"
    """Name of the trained model's file, without `.tlt`; not that of a checkpoint."""
    validation_max_images: PositiveInt | None = None
    """At most so many test images per dataset for the AP while training (ours); null: all."""
    inference_spec: str | None = None
    """Settings of the AP while training; by default the training size, padded."""
    dataloader: Dataloader
    """Where training samples come from."""
    model: ModelConfig = ModelConfig()
    """The network."""
    loss: LossConfig = LossConfig()
    """The loss."""
    optimizer: Optimizer
    """The optimizer and its learning rate."""
    key: Any = ignored_key("give the key with -k; it is never stored")
    evaluator: Any = ignored_key("the original reads it and does nothing with it")
    hooks: Any = ignored_key("there are no hooks")

    @field_validator("final_model_name")
    @classmethod
    def _plain_file_name(cls, name: str) -> str:
        if not re.fullmatch(r"[^/\\\x00-\x1f]+", name) or name in (".", ".."):
            raise ValueError("must be the name of a file, without a folder")
        if re.fullmatch(r"model\.epoch-\d+", name):
            raise ValueError("is the name of a checkpoint")
        return name

    def ignored_keys(self) -> dict[str, str]:
        """Pictures at 0 steps, as in the guide, are no wish; a checkpoint holds the weights."""
        reasons = {}
        if self.infrequent_summary_every_n_steps:
            why = "pictures are written at every validation"
            reasons["infrequent_summary_every_n_steps"] = why
        if self.pretrained_weights and self.finetuning_config.is_finetune_exp:
            reasons["pretrained_weights"] = "finetuning_config.checkpoint_path holds the weights"
        return reasons

    @classmethod
    def parse(cls, text: str) -> TrainSpec | None:
        """A spec from its text, as a checkpoint keeps it; None where this version cannot read it.

        Files that it names are not looked for.
        """
        try:
            content = cls.normalized_content(SpecFile(Path("spec.yaml"), text))
            return cls.model_validate_json(json.dumps(content))
        except (BodyPoseNetError, TypeError, ValueError):
            return None

    def check(self) -> None:
        """Maps, channels, datasets and the start fit one another.

        Raises:
            BodyPoseNetError: They do not, or the pose configuration is missing or wrong.
        """
        self._check_maps()
        self._check_datasets()
        self._check_start()

    def _check_maps(self) -> None:
        dims, pose = self.dataloader.image_config.image_dims, self.dataloader.pose_config
        cells = (-(-dims.height // STRIDE), -(-dims.width // STRIDE))
        if pose.target_shape is not None and pose.target_shape != cells:
            self.fail(
                "dataloader.pose_config.target_shape",
                f"{list(pose.target_shape)} does not fit an input of {dims.height} x {dims.width} "
                f"at stride {STRIDE}",
                f"Write [{cells[0]}, {cells[1]}], or leave it out.",
            )
        skeleton = self.skeleton
        wanted = {"heat_channels": skeleton.heatmap_channels, "paf_channels": skeleton.paf_channels}
        for key, channels in wanted.items():
            if getattr(self.model, key) not in (None, channels):
                self.fail(
                    f"model.{key}",
                    f"{getattr(self.model, key)} does not fit the skeleton {skeleton.name}, with "
                    f"{len(skeleton.joints)} joints and {len(skeleton.limbs)} limbs",
                    f"Write {key}: {channels}, or leave it out.",
                )

    def _check_datasets(self) -> None:
        datasets = self.dataloader.dataset_config
        for name in datasets.root_data_paths:
            if name not in datasets.dataset_specs:
                self.fail(
                    ("dataloader", "dataset_config", "root_data_paths", name),
                    "no such name in dataset_specs" + suggestion(name, datasets.dataset_specs),
                )

    def _check_start(self) -> None:
        tuning = self.finetuning_config
        if self.load_graph and not (self.pretrained_weights or tuning.is_finetune_exp):
            self.fail(
                "load_graph",
                "needs pretrained_weights",
                "Name the model whose graph is to be loaded.",
            )
        if tuning.is_finetune_exp and tuning.ckpt_epoch_num >= self.num_epoch:
            self.fail(
                "finetuning_config.ckpt_epoch_num",
                f"{tuning.ckpt_epoch_num} of {self.num_epoch} epochs (num_epoch) count as done: "
                "nothing is left to train",
                "Raise num_epoch.",
            )

    @property
    def text(self) -> str:
        """The file as it was written, but for the key: that is never stored."""
        return self._file.without("key")

    @cached_property
    def skeleton(self) -> Skeleton:
        """The skeleton of the pose configuration.

        A path of another machine that ends in the name of a configuration of ours (as in TAO's
        samples) means that one; the log says so.

        Raises:
            BodyPoseNetError: The file is missing or wrong.
        """
        path = self.dataloader.pose_config.pose_config_path
        shipped = bundled_pose_configuration(Path(path).name)
        beside = self._file.path.parent / path
        if shipped is None or exists(path) or exists(beside):
            return load_skeleton(
                self.existing_path("dataloader.pose_config.pose_config_path", path)
            )
        if path != shipped.name:
            logger.warning("%s is not there: taking the %s of bodyposenet", path, shipped.name)
        return load_skeleton(shipped)

    def dataset_specs(self) -> dict[str, DatasetSpec]:
        """The dataset specs by dataset name.

        Raises:
            BodyPoseNetError: A file is missing or wrong, or belongs to another dataset.
        """
        specs = {}
        for name, path in self.dataloader.dataset_config.dataset_specs.items():
            place = ("dataloader", "dataset_config", "dataset_specs", name)
            spec = DatasetSpec.load(self.existing_path(place, path))
            if spec.dataset != name:
                self.fail(
                    place,
                    f"{path} is the spec of the dataset {spec.dataset}",
                    f"Name the key {spec.dataset}.",
                )
            specs[name] = spec
        return specs
