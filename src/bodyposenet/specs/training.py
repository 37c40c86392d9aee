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
from bodyposenet.specs.optimizer import DEFAULT_OPTIMIZER, Optimizer
from bodyposenet.specs.pose import bundled_pose_configuration, load_skeleton
from bodyposenet.specs.spec_file import SpecFile

DEFAULT_WEIGHTS = "default"
"""Name of the default model in `pretrained_weights` and `checkpoint_path`."""


class FinetuningConfig(Block):
    """Fine-tuning from a checkpoint or any other model file (TAO reference, section 10.3)."""

    is_finetune_exp: bool = False
    """Start from checkpoint_path."""
    checkpoint_path: str | None = None
    """Checkpoint `model.epoch-N.tlt`, whose weights are loaded, with the optimizer state of its
    `.state` file if it matches; or any value of pretrained_weights."""
    ckpt_epoch_num: NonNegativeInt = 0
    """Number of the first epoch; the learning rate schedule covers the remaining epochs."""

    @model_validator(mode="after")
    def _checkpoint_named(self) -> FinetuningConfig:
        """Check that fine-tuning has a checkpoint."""
        if self.is_finetune_exp and not self.checkpoint_path:
            raise ValueError("is_finetune_exp requires checkpoint_path")
        return self


class Distillation(Block):
    """Knowledge distillation from a `teacher`, or from its precomputed `maps` (not in TAO)."""

    teacher: str | None = None
    """Trained model (`.tlt` or exported; `-k` is the key if it is encrypted), which runs on each
    sample; or a Python file, which is executed and whose function `open_teacher()` returns another
    model. Joints and limbs that it does not have are learned from the labels only."""
    maps: str | None = None
    """Folder of precomputed maps of a teacher for whole photos, which are warped into each sample.
    Exactly one of teacher and maps is required."""
    weight: Probability = 0.5
    """Weight of the loss against the teacher's maps, for the joints and limbs that it has; the
    labels have the remaining weight."""

    @model_validator(mode="after")
    def _one_source(self) -> Distillation:
        """Check that either a teacher or its maps are given."""
        if (self.teacher is None) == (self.maps is None):
            raise ValueError("exactly one of teacher and maps is required")
        return self


class TrainSpec(Spec):
    """Settings of a training."""

    also_top_level: ClassVar = {
        "augmentation_config": "dataloader",
        "label_processor_config": "dataloader",
    }

    class_name: Literal["BpNetTrainer"] = Field(default="BpNetTrainer", alias="__class_name__")
    """Class name."""
    checkpoint_dir: str | None = None
    """Results folder, if `-r` is not given."""
    log_every_n_secs: PositiveFloat = 30
    """Seconds between log lines."""
    checkpoint_n_epoch: PositiveInt = Field(
        default=5, validation_alias=AliasChoices("checkpoint_n_epoch", "checkpoint_interval")
    )
    """Epochs between checkpoints."""
    checkpoint_every_n_secs: PositiveFloat | None = None
    """Seconds between saves of the training state within an epoch (not in TAO), for preemptible
    machines; null: only at the end of epochs."""
    num_epoch: PositiveInt = 100
    """Number of epochs."""
    summary_every_n_steps: PositiveInt = 20
    """Steps between TensorBoard scalars."""
    infrequent_summary_every_n_steps: NonNegativeInt = 0
    """No effect: TensorBoard images are written at each validation."""
    validation_every_n_epoch: PositiveInt = 5
    """Epochs between validations."""
    max_ckpt_to_keep: PositiveInt = 100
    """Number of checkpoints that are kept; older ones are removed."""
    random_seed: Seed = 42
    """Random seed of initial weights, order of samples and augmentation."""
    pretrained_weights: str | None = None
    """Initial weights. default: the default model; or a file: .tlt or .onnx of bodyposenet; .hdf5
    of TAO 5; lightweight OpenPose of the Open Model Zoo (.xml) or Osokin (.pth); VGG19 of Keras
    (.h5) or as .safetensors; MoveNet's backbone as .safetensors. Joints and limbs are matched by
    name."""
    load_graph: bool = False
    """Also use the architecture of pretrained_weights (required for pruned networks and the default
    model); disables regularization."""
    finetuning_config: Annotated[FinetuningConfig, NullIsDefault()] = FinetuningConfig()
    """Fine-tuning from a checkpoint or another model."""
    use_stagewise_lr_multipliers: bool = False
    """Multiply the learning rate by 4 in refinement stages, and by 2 for biases."""
    lr_scaling: Literal["none", "linear"] = "none"
    """linear: multiply the learning rate by the number of GPUs (not in TAO); none: do not scale, as
    TAO."""
    accumulate_steps: PositiveInt = 1
    """Number of batches over which gradients are averaged before an optimizer step (not in TAO)."""
    clip_grad_norm: PositiveFloat | None = None
    """Clip the total norm of the gradients to this value (not in TAO)."""
    ema_decay: DecayRate | None = None
    """Decay per step of an exponential moving average of the weights, which is evaluated and saved
    as the model (not in TAO); smaller during the first steps."""
    torch_compile: bool = False
    """Compile the network with torch.compile (not in TAO): slower start, faster steps."""
    sync_batch_norm: bool = False
    """Synchronize the statistics of batch normalization between GPUs (not in TAO); CUDA only."""
    distillation: Distillation | None = None
    """Knowledge distillation (not in TAO)."""
    final_model_name: str = "bpnet_model"
    """File name of the trained model, without `.tlt`."""
    validation_max_images: PositiveInt | None = None
    """Largest number of test images per dataset for the AP during training (not in TAO); null:
    all."""
    inference_spec: str | None = None
    """Inference spec for the AP during training. Default: input size of the training, padded
    images."""
    dataloader: Dataloader
    """Training data."""
    model: ModelConfig = ModelConfig()
    """Network."""
    loss: LossConfig = LossConfig()
    """Loss."""
    optimizer: Optimizer = DEFAULT_OPTIMIZER
    """Optimizer and learning rate schedule. Default: AdamW."""
    key: Any = ignored_key("set the key with -k; it is never stored")
    evaluator: Any = ignored_key("TAO reads it, but does not use it")
    hooks: Any = ignored_key("hooks are not supported")

    @field_validator("final_model_name")
    @classmethod
    def _plain_file_name(cls, name: str) -> str:
        """Check that the name is a file name without a folder, and not that of a checkpoint."""
        if not re.fullmatch(r"[^/\\\x00-\x1f]+", name) or name in (".", ".."):
            raise ValueError("must be a file name without a folder")
        if re.fullmatch(r"model\.epoch-\d+", name):
            raise ValueError("must not be the name of a checkpoint")
        return name

    def ignored_keys(self) -> dict[str, str]:
        """Return keys without effect; 0 steps between images, as in the guide, do not count."""
        reasons = {}
        if self.infrequent_summary_every_n_steps:
            reason = "images are written at each validation"
            reasons["infrequent_summary_every_n_steps"] = reason
        if self.pretrained_weights and self.finetuning_config.is_finetune_exp:
            reasons["pretrained_weights"] = "finetuning_config.checkpoint_path overrides it"
        return reasons

    @classmethod
    def parse(cls, text: str) -> TrainSpec | None:
        """Parse the text of a spec, as saved in checkpoints, without checking its paths.

        Returns:
            The spec, or None if this version does not support it.
        """
        try:
            content = cls.normalized_content(SpecFile(Path("spec.yaml"), text))
            return cls.model_validate_json(json.dumps(content))
        except (BodyPoseNetError, TypeError, ValueError):
            return None

    def check(self) -> None:
        """Check that map sizes, channels, datasets and initial weights are consistent.

        Raises:
            BodyPoseNetError: They are not, or the pose configuration is missing or invalid.
        """
        self._check_maps()
        self._check_datasets()
        self._check_start()

    def _check_maps(self) -> None:
        """Check size and channels of the maps."""
        dims, pose = self.dataloader.image_config.image_dims, self.dataloader.pose_config
        cells = (-(-dims.height // STRIDE), -(-dims.width // STRIDE))
        if pose.target_shape is not None and pose.target_shape != cells:
            self.fail(
                "dataloader.pose_config.target_shape",
                f"expected [{cells[0]}, {cells[1]}] for an input of {dims.height} x {dims.width} "
                f"with stride {STRIDE}, got {list(pose.target_shape)}",
                f"Set it to [{cells[0]}, {cells[1]}], or remove it.",
            )
        skeleton = self.skeleton
        expected = {
            "heat_channels": skeleton.heatmap_channels,
            "paf_channels": skeleton.paf_channels,
        }
        for key, channels in expected.items():
            if getattr(self.model, key) not in (None, channels):
                self.fail(
                    f"model.{key}",
                    f"expected {channels} for {len(skeleton.joints)} joints and "
                    f"{len(skeleton.limbs)} limbs of {skeleton.name}, got "
                    f"{getattr(self.model, key)}",
                    f"Set {key}: {channels}, or remove it.",
                )

    def _check_datasets(self) -> None:
        """Check that root folders belong to datasets of the spec."""
        datasets = self.dataloader.dataset_config
        for name in datasets.root_data_paths:
            if name not in datasets.dataset_specs:
                self.fail(
                    ("dataloader", "dataset_config", "root_data_paths", name),
                    "not in dataset_specs" + suggestion(name, datasets.dataset_specs),
                )

    def _check_start(self) -> None:
        """Check the initial weights and the first epoch."""
        tuning = self.finetuning_config
        if self.load_graph and not (self.pretrained_weights or tuning.is_finetune_exp):
            self.fail(
                "load_graph",
                "requires pretrained_weights",
                "Set pretrained_weights to the model whose architecture is loaded.",
            )
        if tuning.is_finetune_exp and tuning.ckpt_epoch_num >= self.num_epoch:
            self.fail(
                "finetuning_config.ckpt_epoch_num",
                f"{tuning.ckpt_epoch_num} of {self.num_epoch} epochs (num_epoch): no epoch is left",
                "Increase num_epoch.",
            )

    @property
    def text(self) -> str:
        """Text of the file without the key, which is never stored."""
        return self._file.text_without("key")

    @cached_property
    def skeleton(self) -> Skeleton:
        """Skeleton of the pose configuration.

        If the path does not exist, but has the file name of a pose configuration in the package (as
        in TAO's samples), that one is used and logged.

        Raises:
            BodyPoseNetError: The file is missing or invalid.
        """
        path = self.dataloader.pose_config.pose_config_path
        bundled = bundled_pose_configuration(Path(path).name)
        beside = self._file.path.parent / path
        if bundled is None or exists(path) or exists(beside):
            return load_skeleton(
                self.existing_path("dataloader.pose_config.pose_config_path", path)
            )
        if path != bundled.name:
            logger.warning("%s does not exist; using %s of the package", path, bundled.name)
        return load_skeleton(bundled)

    def dataset_specs(self) -> dict[str, DatasetSpec]:
        """Load the dataset specs.

        Returns:
            Dataset specs by dataset name.

        Raises:
            BodyPoseNetError: A file is missing or invalid, or is the spec of another dataset.
        """
        specs = {}
        for name, path in self.dataloader.dataset_config.dataset_specs.items():
            place = ("dataloader", "dataset_config", "dataset_specs", name)
            spec = DatasetSpec.load(self.existing_path(place, path))
            if spec.dataset != name:
                self.fail(
                    place,
                    f"{path} is the spec of another dataset, {spec.dataset}",
                    f"Rename the key to {spec.dataset}.",
                )
            specs[name] = spec
        return specs
