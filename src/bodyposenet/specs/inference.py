"""The inference spec (YAML) of `inference` and `evaluate` (TAO reference, section 2.5)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from bodyposenet.specs.loading import NullIsDefault, Spec, log_once
from bodyposenet.specs.number_types import MAX_SIDE, Factor, PositiveInt, Probability, Side
from bodyposenet.types import DEFAULT_SCORE_THRESHOLD

Upsampling = Annotated[int, Field(ge=1, le=64)]
AspectRatioMode = Literal["pad_image_input", "adjust_network_input"]


class InferenceSpec(Spec):
    """Preprocessing, test-time augmentation and decoding."""

    model_path: str | None = None
    """Model file, if `-m` is not given; null: the default model."""
    train_spec: str | None = None
    """Train spec of the model. Not required, as models of bodyposenet include it; if given, it must
    match."""
    input_shape: tuple[Side, Side] = (368, 368)
    """Height and width of the network input; the time is proportional to its area."""
    keep_aspect_ratio_mode: AspectRatioMode | None = "adjust_network_input"
    """pad_image_input: pad the image to the input's aspect ratio; adjust_network_input: change the
    width of the input to that of the image; null: stretch the image."""
    output_stage_to_use: PositiveInt | None = None
    """Stage whose output is used, counted from 1; null: the last."""
    output_upsampling_factor: Annotated[tuple[Upsampling, Upsampling], NullIsDefault()] = (8, 8)
    """Vertical and horizontal upsampling of the maps before decoding; only with `mode: tao`."""
    heatmap_threshold: Probability | None = None
    """Smallest heatmap value of a peak; null: the default of the mode, .05 (accurate) or .1
    (tao)."""
    paf_threshold: Probability | None = None
    """Smallest PAF score of a sample on a limb; null: the default of the mode, .02 (accurate) or
    .05 (tao)."""
    multi_scale_inference: bool = False
    """Average the maps of all `scales`; false: one scale, that of input_shape."""
    scales: Annotated[tuple[Factor, ...], Field(min_length=1, max_length=32), NullIsDefault()] = (
        0.5, 1.0, 1.5, 2.0,
    )  # fmt: skip
    """Scales as factors of input_shape; the time is proportional to the sum of their squares."""
    mode: Literal["accurate", "tao"] = "accurate"
    """Decoder (not in TAO). accurate: sub-pixel peaks without upsampling; tao: the decoder of
    TAO."""
    flip_test: bool = False
    """Average the maps of the image and its mirror image (not in TAO); better poses in twice the
    time."""
    rotation_test: bool = False
    """Also run on the image rotated by +90 and -90 degrees (not in TAO); detects people who are
    lying, in three times the time."""
    complete_pose: bool = False
    """Infer missing joints from the others (not in TAO); they are marked as inferred."""
    display_score_threshold: Probability = DEFAULT_SCORE_THRESHOLD
    """Smallest score of people who are drawn (not in TAO); result files contain all people."""

    def check(self) -> None:
        """Check that the network input is not too large at the largest scale.

        For specs made for TAO, which have no `mode`, the decoder is logged.

        Raises:
            BodyPoseNetError: The input is too large.
        """
        side = max(self.input_shape) * (max(self.scales) if self.multi_scale_inference else 1)
        if side > MAX_SIDE:
            self.fail(
                "scales",
                f"network input of {side:g} pixels exceeds the limit of {MAX_SIDE}",
                "Use smaller scales, or a smaller input_shape.",
            )
        if "mode" not in self.model_fields_set and self.train_spec is not None:
            log_once(
                f"{self._file.place(('train_spec',))}: the spec has no mode, using the decoder "
                f"{self.mode}; set mode: tao for TAO's decoder"
            )

    def ignored_keys(self) -> dict[str, str]:
        """Return keys of the other decoder, if their values are not the defaults."""
        if self.mode == "tao":
            reason = "only mode: accurate completes poses"
            return {"complete_pose": reason} if self.complete_pose else {}
        default = type(self).model_fields["output_upsampling_factor"].default
        if self.output_upsampling_factor == default:
            return {}
        return {"output_upsampling_factor": "mode: accurate does not need upsampling"}
