"""The `dataloader` block of the train spec: data, augmentation, targets.

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


class ImageDims(Block):
    """Size of the network's input in training; gray is added up to multiples of 8."""

    height: Side = 256
    """Rows."""
    width: Side = 256
    """Columns."""
    channels: Literal[3] = 3
    """Red, green and blue."""


class ImageConfig(Block):
    """What the images are."""

    image_dims: ImageDims = ImageDims()
    """Size of the network's input in training."""
    image_encoding: Literal["jpg", "jpeg", "png", "fp16"] = "jpg"
    """Any image is read whatever this says; the file's content decides."""

    def ignored_keys(self) -> dict[str, str]:
        """An encoding that is not the default."""
        if self.image_encoding not in ("png", "fp16"):
            return {}
        return {"image_encoding": "the file's content decides"}


class PoseConfig(Block):
    """What the network predicts, and on which grid."""

    class_name: Literal["BpNetPoseConfig"] = Field(
        default="BpNetPoseConfig", alias="__class_name__"
    )
    """The only class."""
    target_shape: tuple[PositiveInt, PositiveInt] | None = None
    """Rows and columns of the maps; image_dims / 8, rounded up, by default; nothing else fits."""
    pose_config_path: str = DEFAULT_POSE_CONFIGURATION
    """A pose configuration file, or the bare name of one that comes with the package."""


class DatasetConfig(Block):
    """Where the records lie and which datasets they come from."""

    root_data_path: str
    """Folder that the image and mask paths of the records are relative to."""
    train_records_folder_path: str = ""
    """Folder of the training records."""
    train_records_path: tuple[str, ...] = Field(min_length=1)
    """Record files to train on; file patterns (`train-fold-*`) are allowed."""
    val_records_folder_path: Annotated[str, NullIsDefault()] = ""
    """Folder of the validation records."""
    val_records_path: Annotated[tuple[str, ...], NullIsDefault()] = ()
    """Record files to compute the validation loss on."""
    dataset_specs: dict[str, str] = Field(min_length=1)
    """Dataset name -> dataset spec file."""
    root_data_paths: dict[str, str] = Field(default_factory=dict)
    """Dataset name -> its own root folder, where it is not root_data_path (ours)."""


class NormalizationParams(Block):
    """image / image_scale - image_offset, and the same for the mask."""

    image_scale: tuple[Divisor, Divisor, Divisor] = (256.0, 256.0, 256.0)
    """Divides red, green and blue (0 to 255)."""
    image_offset: Triple = (0.5, 0.5, 0.5)
    """Is taken off afterwards."""
    mask_scale: tuple[Divisor] = (255.0,)
    """Divides the mask (0 to 255)."""
    mask_offset: tuple[Offset] = (0.0,)
    """Is taken off afterwards."""


class SpatialAugParams(Block):
    """How samples are flipped, turned, moved and sized (TAO reference, section 5)."""

    flip_lr_prob: Probability = 0.0
    """Share of samples that are mirrored left to right; sides (left_, right_) are swapped."""
    flip_tb_prob: Probability = 0.0
    """Share of samples that are mirrored top to bottom; sides are swapped unless the sample is
    mirrored left to right as well."""
    rotate_deg_max: Angle = 0.0
    """Largest rotation, in degrees."""
    rotate_deg_min: Angle | None = None
    """Smallest rotation; null: minus the largest."""
    rotate_any_prob: Probability = 0.0
    """Share of samples that are turned by any angle instead, up to 180 degrees to either side, for
    people who lie or stand on their heads (ours)."""
    zoom_prob: Probability = 0.0
    """Share of samples that are zoomed."""
    zoom_ratio_min: Factor = 1.0
    """Smallest zoom; under 1 the image is drawn larger."""
    zoom_ratio_max: Factor = 1.0
    """Largest zoom; over 1 the image is drawn smaller (zoomed out), in every mode."""
    translate_max_x: Distance = 0.0
    """Largest shift, in pixels of the source image. person_centric: of the crop's center to the
    right, so that the people move to the left; else of the people to the right."""
    translate_min_x: Distance | None = None
    """Smallest shift; null: minus the largest."""
    translate_max_y: Distance = 0.0
    """The same downwards: the people move up with person_centric, else down."""
    translate_min_y: Distance | None = None
    """Smallest shift; null: minus the largest."""
    use_translate_ratio: bool = False
    """Shift by translate_ratio instead of pixels."""
    translate_ratio_max: Share = 0.0
    """Largest shift, as a share of the source image's width and height."""
    translate_ratio_min: Share | None = 0.0
    """Smallest shift; null: minus the largest."""
    target_person_scale: Factor = 0.6
    """person_centric: height of the main person's box, as a share of the network's height."""
    largest_enlargement: Factor | None = None
    """No image is enlarged by more than this factor, whatever mode and zoom ask for: what is
    enlarged is blurred (ours); null: no limit."""

    @model_validator(mode="after")
    def _ranges(self) -> SpatialAugParams:
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
                raise ValueError(f"{least} {low} is more than {most} {high}")
        return self


class ColorAugParams(Block):
    """How the colors of training samples vary (ours); all zeros leave them as they are."""

    brightness_max: Probability = 0.0
    """Largest change of brightness, up or down, as a share of white."""
    contrast_max: Probability = 0.0
    """Largest change of contrast around middle gray: factors from 1 minus to 1 plus this."""
    saturation_max: Probability = 0.0
    """Largest change of saturation around the luma: factors from 1 minus to 1 plus this."""
    hue_deg_max: Annotated[float, Field(ge=0, le=180)] = 0.0
    """Largest rotation of the hue, in degrees, to either side."""
    gray_prob: Probability = 0.0
    """Share of samples without any color."""
    blur_prob: Probability = 0.0
    """Share of samples that are blurred."""
    blur_sigma_max: Annotated[float, Field(ge=0, le=100)] = 0.0
    """Largest standard deviation of the Gaussian blur, in network pixels; the smallest is 0."""

    def ignored_keys(self) -> dict[str, str]:
        """Each of the two keys of the blur needs the other."""
        if bool(self.blur_prob) == bool(self.blur_sigma_max):
            return {}
        lone, other = "blur_prob", "blur_sigma_max"
        if not self.blur_prob:
            lone, other = other, lone
        return {lone: f"{other} is 0"}


class AugmentationConfig(Block):
    """The augmentation of training samples."""

    class_name: Literal["AugmentationConfig"] = Field(
        default="AugmentationConfig", alias="__class_name__"
    )
    """The only class."""
    spatial_augmentation_mode: Annotated[
        Literal["person_centric", "standard", "standard_with_fixed_aspect_ratio"], NullIsDefault()
    ] = "person_centric"
    """person_centric: around the main person; standard: around the middle of the image, its aspect
    ratio kept; standard_with_fixed_aspect_ratio: the whole image, stretched to the input."""
    spatial_aug_params: Annotated[SpatialAugParams, NullIsDefault()] = SpatialAugParams()
    """How samples are flipped, turned, moved and sized."""
    identity_spatial_aug_params: Any = ignored_key("the original does not support it either")
    color_aug_params: Annotated[ColorAugParams, NullIsDefault()] = ColorAugParams()
    """How their colors vary (ours)."""


class LabelProcessorConfig(Block):
    """How targets are drawn (TAO reference, section 6)."""

    paf_gaussian_sigma: PositiveFloat | None = 0.03
    """Read, and used only with `paf_weighting: gaussian`; a share of the input's height."""
    paf_weighting: Literal["hard", "gaussian"] = "hard"
    """hard: the original's strip of unit vectors; gaussian: their length falls off from the limb
    (ours)."""
    heatmap_gaussian_sigma: Deviation = HEATMAP_SIGMA
    """Deviation of a joint's peak, in network pixels; the model keeps it for its decoder."""
    paf_ortho_dist_thresh: Deviation = 1.0
    """Half width of a limb's strip, in cells."""

    def ignored_keys(self) -> dict[str, str]:
        """The deviation that only gaussian fields have."""
        if self.paf_weighting == "gaussian" or self.paf_gaussian_sigma is None:
            return {}
        return {"paf_gaussian_sigma": "paf_weighting is hard"}


class Dataloader(Block):
    """Where training samples come from."""

    class_name: Literal["BpNetDataloader"] = Field(
        default="BpNetDataloader", alias="__class_name__"
    )
    """The only class."""
    batch_size: BatchSize = 10
    """Samples per step."""
    shuffle_buffer_size: Any = ignored_key("every epoch is shuffled as a whole")
    image_config: ImageConfig = ImageConfig()
    """What the images are."""
    pose_config: PoseConfig = PoseConfig()
    """What the network predicts."""
    dataset_config: DatasetConfig
    """Where the records lie."""
    normalization_params: NormalizationParams = NormalizationParams()
    """From pixel values to network inputs."""
    augmentation_config: AugmentationConfig = AugmentationConfig()
    """The augmentation; may also stand beside the dataloader, as the guide prints it."""
    label_processor_config: LabelProcessorConfig = LabelProcessorConfig()
    """How targets are drawn; may also stand beside the dataloader."""
    workers: Annotated[int, Field(ge=0, le=1024)] | None = None
    """Processes that read and warp images (ours); null: as many as there are cores, less one."""
    image_cache_dir: str | None = None
    """Folder that keeps decoded images for later epochs and runs (ours); null: none. It grows to 3
    bytes per pixel (640 x 480: 0.9 MB), and to 1/4, 1/16 or 1/64 of that where samples show the
    image at 1/2, 1/4 or 1/8 of its size."""
    max_unreadable_share: Probability = 0.01
    """Share of an epoch's samples that may be replaced because their image, mask or record cannot
    be read, before training ends with an error (ours)."""
