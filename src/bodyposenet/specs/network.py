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
    """vgg: TAO's network. lightweight_openpose: fast network for CPUs and edge devices, with public
    weights (Osokin 2018; not in TAO). movenet: faster network with MoveNet's backbone; its heads
    must be trained (not in TAO)."""
    mtype: Literal["default", "pooling", "open_model_zoo"] = "default"
    """Variant. default: vgg with strided convolutions and batch normalization, or the published
    network of the other architectures. pooling: vgg with the layers of VGG19, for ImageNet weights
    (not in TAO). open_model_zoo: lightweight_openpose as in human-pose-estimation-0001 (not in
    TAO)."""
    use_bias: bool = False
    """vgg with mtype default: whether the backbone has biases; must match the pretrained
    weights."""
    width: Annotated[float, Field(gt=0, le=8)] = 1.0
    """lightweight_openpose and movenet: width multiplier of all layers (not in TAO)."""
    batch_norm: bool = True
    """lightweight_openpose and movenet: whether the network has batch normalization; false for
    weights in which it is folded into the convolutions (not in TAO)."""
    nlayers: Any = ignored_key("the number of layers is fixed by the architecture")
    add_final_c128_conv: Any = ignored_key("channel_reduction_conv is always present, as in TAO")

    @field_validator("architecture", mode="before")
    @classmethod
    def _is_supported(cls, name: Any) -> Any:
        """Explain what to use instead of other architectures of TAO and of earlier versions."""
        if name == "mobilenet":
            raise ValueError("mobilenet was replaced by lightweight_openpose")
        if name in ("helnet", "resnet"):
            raise ValueError(
                f"{name} is not supported (NVIDIA does not document it); use vgg, TAO's documented "
                "network, or lightweight_openpose"
            )
        return name

    @model_validator(mode="after")
    def _variant_exists(self) -> BackboneAttributes:
        """Check that the architecture has the variant."""
        if self.mtype not in _VARIANTS[self.architecture]:
            variants = " or ".join(_VARIANTS[self.architecture])
            raise ValueError(f"mtype of {self.architecture} must be {variants}, got {self.mtype}")
        return self

    def scaled(self, channels: int) -> int:
        """Return a number of channels multiplied by `width`, rounded to a multiple of 8."""
        if self.architecture == "vgg":
            return channels
        return max(8, round(channels * self.width / 8) * 8)

    def ignored_keys(self) -> dict[str, str]:
        """Return keys of other architectures, if their values are not the defaults."""
        reasons = {}
        if self.architecture == "vgg" and self.width != 1:
            reasons["width"] = "the numbers of channels of vgg are fixed"
        if self.architecture == "vgg" and not self.batch_norm:
            reasons["batch_norm"] = "mtype determines whether vgg has batch normalization"
        if self.architecture != "vgg" and self.use_bias:
            reasons["use_bias"] = "it follows from batch_norm"
        if self.architecture == "vgg" and self.mtype == "pooling" and not self.use_bias:
            reasons["use_bias"] = "the pooling variant always has biases"
        return reasons


class ModelConfig(Block):
    """The network."""

    class_name: Literal["BpNetLiteModel", "BpNetModel"] = Field(
        default="BpNetLiteModel", alias="__class_name__"
    )
    """BpNetLiteModel: heatmaps and PAFs share the first convolutions of a stage. BpNetModel (vgg
    only): separate convolutions, as in TAO's larger network, which NVIDIA does not document."""
    backbone_attributes: BackboneAttributes = BackboneAttributes()
    """The feature extractor."""
    stages: Stages = 3
    """Number of stages: one initial stage and the refinement stages."""
    heat_channels: int | None = None
    """Number of joints + 1, derived from the pose configuration; another value is an error."""
    paf_channels: int | None = None
    """Number of limbs x 2, derived from the pose configuration; another value is an error."""
    add_final_c128_conv: Any = ignored_key("channel_reduction_conv is always present, as in TAO")
    use_self_attention: bool = False
    """Add an attention module to each refinement stage."""
    data_format: Literal["channels_last", "channels_first"] = "channels_last"
    """No effect: PyTorch chooses its own memory layout."""
    use_bias: bool = True
    """Whether the convolutions after the backbone have biases."""
    regularization_type: Literal["l1", "l2", "l1_l2"] = "l1"
    """l1: factor x sum of |w|; l2: factor x sum of w^2; l1_l2: both."""
    kernel_regularization_factor: NonNegativeFloat = 5.0e-4
    """Regularization factor of kernels; set it to 0 for retraining a pruned network."""
    bias_regularization_factor: NonNegativeFloat = 0.0
    """Regularization factor of biases."""
    kernel_initializer: str = "random_normal"
    """Initialization of the heads of vgg with mtype default. xavier: Glorot uniform; any other
    value: normal with standard deviation 0.01."""
    stage1_kernel_sizes: Annotated[tuple[KernelSize, ...], NullIsDefault()] = (3, 3, 3)
    """vgg only: kernel sizes of the convolutions of the initial stage."""
    stageT_kernel_sizes: Annotated[tuple[KernelSize, ...], NullIsDefault()] = (  # noqa: N815 (TAO's name)
        7, 7, 7, 7, 7,
    )  # fmt: skip
    """vgg only: kernel sizes of the convolutions of each refinement stage."""

    def ignored_keys(self) -> dict[str, str]:
        """Return keys of vgg for other networks, and a data format other than the default."""
        reasons = {}
        architecture = self.backbone_attributes.architecture
        if architecture != "vgg":
            for name in ("stage1_kernel_sizes", "stageT_kernel_sizes"):
                reasons[name] = f"the stages of {architecture} are fixed"
            reasons["kernel_initializer"] = f"{architecture} has its own initial weights"
        elif self.backbone_attributes.mtype == "pooling":
            reasons["kernel_initializer"] = "vgg with pooling has its own initial weights"
        if self.data_format == "channels_first":
            reasons["data_format"] = "PyTorch chooses its own memory layout"
        return reasons

    @property
    def has_trunks(self) -> bool:
        """Whether heatmaps and PAFs share the first convolutions of a stage."""
        return self.class_name == "BpNetLiteModel"

    @model_validator(mode="after")
    def _class_fits(self) -> ModelConfig:
        """Check that the architecture has the class."""
        architecture = self.backbone_attributes.architecture
        if self.class_name == "BpNetModel" and architecture != "vgg":
            raise ValueError(f"BpNetModel requires vgg; use BpNetLiteModel for {architecture}")
        return self

    @field_validator("stage1_kernel_sizes", "stageT_kernel_sizes")
    @classmethod
    def _sizes_are_odd(cls, sizes: tuple[int, ...]) -> tuple[int, ...]:
        """Check that there are kernel sizes, and that all are odd."""
        if not sizes or any(size % 2 == 0 for size in sizes):
            raise ValueError("expected at least one kernel size, all odd")
        return sizes


class FocalLossParams(Block):
    """Focal weighting: less weight for cells with small errors (TAO reference, section 8).

    A cell's residual is multiplied by |1 - a|^gamma, where a = prediction - alpha on joints and
    limbs, and a = 1 - prediction - beta on the background. Negative components of PAFs have the
    same weights as the positive ones of a mirrored image.
    """

    use_focal_loss: bool = False
    """Enable focal weighting."""
    alpha: NonNegativeFloat = 0.1
    """Smallest weight of joints and limbs (with gamma 1), where the prediction is 1."""
    beta: NonNegativeFloat = 0.02
    """Smallest weight of the background (with gamma 1), where the prediction is 0."""
    bkg_thresh: Probability = 0.01
    """Largest target value of the background."""
    gamma: NonNegativeFloat = 1.0
    """Exponent of the weights; 0: all weights are 1."""

    def ignored_keys(self) -> dict[str, str]:
        """Return all other keys if focal weighting is off."""
        if self.use_focal_loss:
            return {}
        names = ("alpha", "beta", "bkg_thresh", "gamma")
        return dict.fromkeys(names, "use_focal_loss is off")


class LossConfig(Block):
    """The loss (TAO reference, section 8)."""

    class_name: Literal["BpNetLoss"] = Field(default="BpNetLoss", alias="__class_name__")
    """Class name."""
    focal_loss_params: FocalLossParams | None = None
    """Focal weighting; null: off."""
