"""The `model` and `loss` blocks of the train spec (TAO reference, sections 2.4, 7 and 8)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from bodyposenet.specs.loading import Block, NullIsDefault, ignored_key
from bodyposenet.specs.number_types import NonNegativeFloat, Probability, Stages

KernelSize = Annotated[int, Field(ge=1, le=63)]

STRIDE = 8
"""Input pixels per cell of the maps, of every architecture."""


_VARIANTS = {
    "vgg": ("default", "pooling"),
    "lightweight_openpose": ("default", "open_model_zoo"),
    "movenet": ("default",),
}


class BackboneAttributes(Block):
    """The feature extractor (TAO reference, section 7)."""

    architecture: Literal["vgg", "lightweight_openpose", "movenet"] = "vgg"
    """vgg: TAO's network; lightweight_openpose: a fast one for CPUs and edge devices, for which
    there are public weights (Osokin 2018; ours); movenet: a faster one on MoveNet's trunk, whose
    heads are to be trained (ours)."""
    mtype: Literal["default", "pooling", "open_model_zoo"] = "default"
    """default, of vgg: strided convolutions with batch normalization; of the others: the published
    network. pooling: vgg with the classic VGG19 front, which ImageNet weights fit (ours).
    open_model_zoo: lightweight_openpose as human-pose-estimation-0001 has it (ours)."""
    use_bias: bool = False
    """vgg with mtype default: bias of the backbone; must be that of the pretrained weights."""
    width: Annotated[float, Field(gt=0, le=8)] = 1.0
    """lightweight_openpose and movenet: multiplier of all channel counts (ours)."""
    batch_norm: bool = True
    """lightweight_openpose and movenet. false: no batch normalization, as in weights where it was
    folded into the convolutions (ours)."""
    nlayers: Any = ignored_key("the number of layers is fixed by the architecture")
    add_final_c128_conv: Any = ignored_key(
        "channel_reduction_conv is always there, as in the original"
    )

    @field_validator("architecture", mode="before")
    @classmethod
    def _is_there(cls, name: Any) -> Any:
        if name == "mobilenet":
            raise ValueError("mobilenet was replaced by lightweight_openpose: train that one")
        if name in ("helnet", "resnet"):
            raise ValueError(
                f"{name}, which NVIDIA does not document, is not there: write vgg, TAO's "
                "documented network, or lightweight_openpose"
            )
        return name

    @model_validator(mode="after")
    def _variant_exists(self) -> BackboneAttributes:
        if self.mtype not in _VARIANTS[self.architecture]:
            variants = " or ".join(_VARIANTS[self.architecture])
            raise ValueError(f"mtype of {self.architecture} must be {variants}, not {self.mtype}")
        return self

    def scaled(self, channels: int) -> int:
        """Multiply a number of channels by `width`, and round it to a multiple of 8."""
        if self.architecture == "vgg":
            return channels
        return max(8, round(channels * self.width / 8) * 8)

    def ignored_keys(self) -> dict[str, str]:
        """Keys of other architectures, where they are not the default."""
        reasons = {}
        if self.architecture == "vgg" and self.width != 1:
            reasons["width"] = "the widths of vgg are fixed"
        if self.architecture == "vgg" and not self.batch_norm:
            reasons["batch_norm"] = "mtype says whether a vgg has batch normalization"
        if self.architecture != "vgg" and self.use_bias:
            reasons["use_bias"] = "it follows from batch_norm"
        if self.architecture == "vgg" and self.mtype == "pooling" and not self.use_bias:
            reasons["use_bias"] = "the pooling variant has biases"
        return reasons


class ModelConfig(Block):
    """The network."""

    class_name: Literal["BpNetLiteModel", "BpNetModel"] = Field(
        default="BpNetLiteModel", alias="__class_name__"
    )
    """BpNetLiteModel: heatmaps and PAFs share the first convolutions of a stage. BpNetModel, vgg
    only: they share none, as in the original's larger network, which the guide does not mention."""
    backbone_attributes: BackboneAttributes = BackboneAttributes()
    """The feature extractor."""
    stages: Stages = 3
    """One initial stage and the refinements."""
    heat_channels: int | None = None
    """Joints + 1, which follows from the pose configuration; another number is an error."""
    paf_channels: int | None = None
    """Limbs x 2, which follows from the pose configuration; another number is an error."""
    add_final_c128_conv: Any = ignored_key(
        "channel_reduction_conv is always there, as in the original"
    )
    use_self_attention: bool = False
    """An attention module in every refinement stage."""
    data_format: Literal["channels_last", "channels_first"] = "channels_last"
    """Read, without effect: torch chooses its own layout."""
    use_bias: bool = True
    """Bias of the convolutions behind the backbone."""
    regularization_type: Literal["l1", "l2", "l1_l2"] = "l1"
    """l1: factor x sum |w|; l2: factor x sum w^2; l1_l2: both."""
    kernel_regularization_factor: NonNegativeFloat = 5.0e-4
    """Of the convolutions' kernels; 0 when retraining a pruned network."""
    bias_regularization_factor: NonNegativeFloat = 0.0
    """Of their biases."""
    kernel_initializer: str = "random_normal"
    """Of the heads of vgg without pooling. xavier: Glorot uniform; anything else: normal with
    deviation 0.01."""
    stage1_kernel_sizes: Annotated[tuple[KernelSize, ...], NullIsDefault()] = (3, 3, 3)
    """vgg only. One convolution each, in the initial stage."""
    stageT_kernel_sizes: Annotated[tuple[KernelSize, ...], NullIsDefault()] = (  # noqa: N815 (TAO's name)
        7, 7, 7, 7, 7,
    )  # fmt: skip
    """vgg only. One convolution each, in every refinement stage."""

    def ignored_keys(self) -> dict[str, str]:
        """Keys of vgg, for our own networks; a layout of the data that is not torch's."""
        reasons = {}
        architecture = self.backbone_attributes.architecture
        if architecture != "vgg":
            for name in ("stage1_kernel_sizes", "stageT_kernel_sizes"):
                reasons[name] = f"the stages of {architecture} are fixed"
            reasons["kernel_initializer"] = f"{architecture} has its own initial weights"
        elif self.backbone_attributes.mtype == "pooling":
            reasons["kernel_initializer"] = "vgg with pooling has its own initial weights"
        if self.data_format == "channels_first":
            reasons["data_format"] = "torch chooses its own layout"
        return reasons

    @property
    def has_trunks(self) -> bool:
        """Whether heatmaps and PAFs share the first convolutions of a stage."""
        return self.class_name == "BpNetLiteModel"

    @model_validator(mode="after")
    def _class_fits(self) -> ModelConfig:
        architecture = self.backbone_attributes.architecture
        if self.class_name == "BpNetModel" and architecture != "vgg":
            raise ValueError(f"BpNetModel is for vgg: {architecture} has BpNetLiteModel's stages")
        return self

    @field_validator("stage1_kernel_sizes", "stageT_kernel_sizes")
    @classmethod
    def _odd(cls, sizes: tuple[int, ...]) -> tuple[int, ...]:
        if not sizes or any(size % 2 == 0 for size in sizes):
            raise ValueError("kernel sizes must be odd, and at least one")
        return sizes


class FocalLossParams(Block):
    """The focal weighting: less weight for cells that are nearly right (TAO reference, section 8).

    A cell's residual is multiplied by |1 - a|^gamma, where a = prediction - alpha on joints and
    limbs, and a = 1 - prediction - beta on the background. In PAFs negative components weigh as
    their mirrored ones do.
    """

    use_focal_loss: bool = False
    """Weigh at all."""
    alpha: NonNegativeFloat = 0.1
    """The smallest weight of a joint or limb (at gamma 1): where the prediction is 1."""
    beta: NonNegativeFloat = 0.02
    """The smallest weight of the background (at gamma 1): where the prediction is 0."""
    bkg_thresh: Probability = 0.01
    """Targets up to this are background."""
    gamma: NonNegativeFloat = 1.0
    """Exponent of the weights; 0: all weigh 1."""

    def ignored_keys(self) -> dict[str, str]:
        """All others, where the weighting is off."""
        if self.use_focal_loss:
            return {}
        names = ("alpha", "beta", "bkg_thresh", "gamma")
        return dict.fromkeys(names, "use_focal_loss is off")


class LossConfig(Block):
    """The loss (TAO reference, section 8)."""

    class_name: Literal["BpNetLoss"] = Field(default="BpNetLoss", alias="__class_name__")
    """The only class."""
    focal_loss_params: FocalLossParams | None = None
    """The focal weighting; null: none."""
