"""The `dataloader` block of the train spec: datasets, augmentation, targets.

See the TAO reference, sections 2.4 and 4 to 6.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from bodyposenet.specs.loading import Block, NullIsDefault, ignored_key
from bodyposenet.specs.number_types import (
    Deviation,
    Distance,
    Divisor,
    Factor,
    Offset,
    PositiveFloat,
    PositiveInt,
    Probability,
    Side,
)
from bodyposenet.specs.pose import DEFAULT_POSE_CONFIGURATION
from bodyposenet.types import HEATMAP_SIGMA

Triple = tuple[Offset, Offset, Offset]
Angle = Annotated[float, Field(ge=-360, le=360)]
Share = Annotated[float, Field(ge=-100, le=100)]
BatchSize = Annotated[int, Field(ge=1, le=65536)]


MAX_UNREADABLE_SHARE = 0.01
"""Default of `max_unreadable_share`."""


class ImageDims(Block):
    """Size of the network input in training; padded with gray to multiples of 8."""

    height: Side = 256
    """Rows."""
    width: Side = 256
    """Columns."""
    channels: Literal[3] = 3
    """Red, green and blue."""


class ImageConfig(Block):
    """Settings of the images."""

    image_dims: ImageDims = ImageDims()
    """Size of the network input in training."""
    image_encoding: Literal["jpg", "jpeg", "png", "fp16"] = "jpg"
    """No effect: the format is detected from the content of the file."""

    def ignored_keys(self) -> dict[str, str]:
        """Return an encoding other than the default, which has no effect."""
        if self.image_encoding not in ("png", "fp16"):
            return {}
        return {"image_encoding": "the format is detected from the content of the file"}


class PoseConfig(Block):
    """Joints and limbs that the network predicts, and size of its output."""

    class_name: Literal["BpNetPoseConfig"] = Field(
        default="BpNetPoseConfig", alias="__class_name__"
    )
    """Class name."""
    target_shape: tuple[PositiveInt, PositiveInt] | None = None
    """Rows and columns of the maps. Default, and only valid value: image_dims / 8, rounded up."""
    pose_config_path: str = DEFAULT_POSE_CONFIGURATION
    """Pose configuration file, or the name of one that is included in the package."""


class DatasetConfig(Block):
    """Records and datasets."""

    root_data_path: str | None = None
    """Folder to which the image and mask paths of the records are relative; null:
    root_directory_path of each dataset spec."""
    train_records_folder_path: str = ""
    """Folder of the training records."""
    train_records_path: tuple[str, ...] = Field(min_length=1)
    """Record files to train on; glob patterns such as `train-fold-*` are allowed."""
    val_records_folder_path: Annotated[str, NullIsDefault()] = ""
    """Folder of the validation records."""
    val_records_path: Annotated[tuple[str, ...], NullIsDefault()] = ()
    """Record files of the validation loss."""
    dataset_specs: dict[str, str] = Field(min_length=1)
    """Dataset spec files by dataset name."""
    root_data_paths: dict[str, str] = Field(default_factory=dict)
    """Root folders by dataset name, for datasets that are not in root_data_path (not in TAO)."""


class NormalizationParams(Block):
    """Normalization: image / image_scale - image_offset, and the same for the mask."""

    image_scale: tuple[Divisor, Divisor, Divisor] = (256.0, 256.0, 256.0)
    """Divisors of red, green and blue (0 to 255)."""
    image_offset: Triple = (0.5, 0.5, 0.5)
    """Subtracted after the division."""
    mask_scale: tuple[Divisor] = (255.0,)
    """Divisor of the mask (0 to 255)."""
    mask_offset: tuple[Offset] = (0.0,)
    """Subtracted after the division."""


class SpatialAugParams(Block):
    """Spatial augmentation of training samples (TAO reference, section 5)."""

    flip_lr_prob: Probability = 0.0
    """Probability of mirroring left to right; left and right joints are swapped."""
    flip_tb_prob: Probability = 0.0
    """Probability of mirroring top to bottom; left and right joints are swapped, unless the sample
    is also mirrored left to right."""
    rotate_deg_max: Angle = 0.0
    """Largest rotation in degrees."""
    rotate_deg_min: Angle | None = None
    """Smallest rotation in degrees; null: -rotate_deg_max."""
    rotate_any_prob: Probability = 0.0
    """Probability of a rotation by any angle from -180 to 180 degrees instead, for people who are
    lying or upside down (not in TAO)."""
    zoom_prob: Probability = 0.0
    """Probability of zooming."""
    zoom_ratio_min: Factor = 1.0
    """Smallest zoom factor; values below 1 enlarge the image."""
    zoom_ratio_max: Factor = 1.0
    """Largest zoom factor; values above 1 shrink the image (zoom out), in every mode."""
    translate_max_x: Distance = 0.0
    """Largest horizontal shift in pixels of the source image. person_centric: moves the crop to the
    right, so that people move to the left; other modes: moves people to the right."""
    translate_min_x: Distance | None = None
    """Smallest horizontal shift; null: -translate_max_x."""
    translate_max_y: Distance = 0.0
    """Largest vertical shift. person_centric: moves people up; other modes: down."""
    translate_min_y: Distance | None = None
    """Smallest vertical shift; null: -translate_max_y."""
    use_translate_ratio: bool = False
    """Use translate_ratio instead of shifts in pixels."""
    translate_ratio_max: Share = 0.0
    """Largest shift as a fraction of the width and height of the source image."""
    translate_ratio_min: Share | None = 0.0
    """Smallest shift as a fraction; null: -translate_ratio_max."""
    target_person_scale: Factor = 0.6
    """person_centric: height of the anchor person's box as a fraction of the input height."""
    largest_enlargement: Factor | None = None
    """Upper limit of the total enlargement by mode and zoom, because enlarged images are blurred
    (not in TAO); null: no limit."""

    @model_validator(mode="after")
    def _minima_are_not_above_maxima(self) -> SpatialAugParams:
        """Check the ranges of rotation, zoom and shift."""
        for name, axis in (
            ("rotate_deg", ""),
            ("zoom_ratio", ""),
            ("translate", "_x"),
            ("translate", "_y"),
            ("translate_ratio", ""),
        ):
            least, most = f"{name}_min{axis}", f"{name}_max{axis}"
            low, high = getattr(self, least), getattr(self, most)
            if (-high if low is None else low) > high:
                raise ValueError(f"{least} {low} is larger than {most} {high}")
        return self


class ColorAugParams(Block):
    """Color augmentation of training samples (not in TAO); off if all values are 0."""

    brightness_max: Probability = 0.0
    """Largest change of brightness, up or down, as a fraction of white."""
    contrast_max: Probability = 0.0
    """Contrast factor around middle gray: from 1 - contrast_max to 1 + contrast_max."""
    saturation_max: Probability = 0.0
    """Saturation factor around the luma: from 1 - saturation_max to 1 + saturation_max."""
    hue_deg_max: Annotated[float, Field(ge=0, le=180)] = 0.0
    """Largest rotation of the hue in degrees, in either direction."""
    gray_prob: Probability = 0.0
    """Probability of converting to gray."""
    blur_prob: Probability = 0.0
    """Probability of blurring."""
    blur_sigma_max: Annotated[float, Field(ge=0, le=100)] = 0.0
    """Largest standard deviation of the Gaussian blur in network pixels; the smallest is 0."""

    def ignored_keys(self) -> dict[str, str]:
        """Return blur_prob or blur_sigma_max if the other one is 0, so that nothing is blurred."""
        if bool(self.blur_prob) == bool(self.blur_sigma_max):
            return {}
        given, other = "blur_prob", "blur_sigma_max"
        if not self.blur_prob:
            given, other = other, given
        return {given: f"{other} is 0"}


class AugmentationConfig(Block):
    """Augmentation of training samples."""

    class_name: Literal["AugmentationConfig"] = Field(
        default="AugmentationConfig", alias="__class_name__"
    )
    """Class name."""
    spatial_augmentation_mode: Annotated[
        Literal["person_centric", "standard", "standard_with_fixed_aspect_ratio"], NullIsDefault()
    ] = "person_centric"
    """person_centric: crop around the anchor person; standard: whole image, aspect ratio kept;
    standard_with_fixed_aspect_ratio: whole image, stretched to the input."""
    spatial_aug_params: Annotated[SpatialAugParams, NullIsDefault()] = SpatialAugParams()
    """Flip, rotation, shift and zoom."""
    identity_spatial_aug_params: Any = ignored_key("TAO does not support it either")
    color_aug_params: Annotated[ColorAugParams, NullIsDefault()] = ColorAugParams()
    """Color augmentation (not in TAO)."""


class LabelProcessorConfig(Block):
    """Target heatmaps and PAFs (TAO reference, section 6)."""

    paf_gaussian_sigma: PositiveFloat | None = 0.03
    """Only with `paf_weighting: gaussian`: standard deviation as a fraction of the input height."""
    paf_weighting: Literal["hard", "gaussian"] = "hard"
    """hard: unit vectors in a band around the limb, as in TAO; gaussian: the length decreases with
    the distance from the limb (not in TAO)."""
    heatmap_gaussian_sigma: Deviation = HEATMAP_SIGMA
    """Standard deviation of a joint's Gaussian in network pixels; saved in the model for
    decoding."""
    paf_ortho_dist_thresh: Deviation = 1.0
    """Half width of the band around a limb, in cells."""

    def ignored_keys(self) -> dict[str, str]:
        """Return the standard deviation if PAFs are not weighted with it."""
        if self.paf_weighting == "gaussian" or self.paf_gaussian_sigma is None:
            return {}
        return {"paf_gaussian_sigma": "paf_weighting is hard"}


class Dataloader(Block):
    """Training data."""

    class_name: Literal["BpNetDataloader"] = Field(
        default="BpNetDataloader", alias="__class_name__"
    )
    """Class name."""
    batch_size: BatchSize = 10
    """Samples per step."""
    shuffle_buffer_size: Any = ignored_key("each epoch is shuffled as a whole")
    image_config: ImageConfig = ImageConfig()
    """Settings of the images."""
    pose_config: PoseConfig = PoseConfig()
    """Joints, limbs and size of the output."""
    dataset_config: DatasetConfig
    """Records and datasets."""
    normalization_params: NormalizationParams = NormalizationParams()
    """Normalization of pixel values."""
    augmentation_config: AugmentationConfig = AugmentationConfig()
    """Augmentation; also accepted at the top level of the file, as in NVIDIA's guide."""
    label_processor_config: LabelProcessorConfig = LabelProcessorConfig()
    """Target heatmaps and PAFs; also accepted at the top level of the file."""
    workers: Annotated[int, Field(ge=0, le=1024)] | None = None
    """Processes that read and augment images (not in TAO); null: number of cores - 1."""
    image_cache_dir: str | None = None
    """Folder of a cache of decoded images for later epochs and runs (not in TAO); null: no cache.
    It needs 3 bytes per pixel (640 x 480: 0.9 MB), or 1/4, 1/16 or 1/64 of that for images that
    samples reduce to 1/2, 1/4 or 1/8 of their size."""
    max_unreadable_share: Probability = MAX_UNREADABLE_SHARE
    """Largest fraction of an epoch's samples that can be replaced because their image, mask or
    record cannot be read; above it, training ends with an error (not in TAO)."""
