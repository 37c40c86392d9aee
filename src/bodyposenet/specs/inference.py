"""The inference spec (YAML) of inference and evaluate (TAO reference, section 2.5)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from bodyposenet.specs.loading import NullIsDefault, Spec, log_once
from bodyposenet.specs.number_types import MAX_SIDE, Factor, PositiveInt, Probability, Side
from bodyposenet.types import DEFAULT_SCORE_THRESHOLD

Upsampling = Annotated[int, Field(ge=1, le=64)]
AspectRatioMode = Literal["pad_image_input", "adjust_network_input"]


class InferenceSpec(Spec):
    """How images become network inputs and maps become poses."""

    model_path: str | None = None
    """The model, where `-m` is not given; null: the default model."""
    train_spec: str | None = None
    """The train spec; models of ours know all that it says, where it is given it must agree."""
    input_shape: tuple[Side, Side] = (368, 368)
    """Height and width of the network input; its area decides on the time."""
    keep_aspect_ratio_mode: AspectRatioMode | None = "adjust_network_input"
    """pad_image_input, adjust_network_input, or null to stretch."""
    output_stage_to_use: PositiveInt | None = None
    """Counted from 1; null: the last."""
    output_upsampling_factor: Annotated[tuple[Upsampling, Upsampling], NullIsDefault()] = (8, 8)
    """Of the maps before decoding, vertical and horizontal."""
    heatmap_threshold: Probability | None = None
    """Least height of a peak; null: that of the mode, .05 (accurate) or .1 (tao)."""
    paf_threshold: Probability | None = None
    """Least agreement of a PAF sample with the limb's direction; null: that of the mode, .02
    (accurate) or .05 (tao)."""
    multi_scale_inference: bool = False
    """Average the maps of several scales; false: one scale, whatever `scales` says."""
    scales: Annotated[tuple[Factor, ...], Field(min_length=1, max_length=32), NullIsDefault()] = (
        0.5, 1.0, 1.5, 2.0,
    )  # fmt: skip
    """The scales, as factors of input_shape; the time is the sum of their squares."""
    mode: Literal["accurate", "tao"] = "accurate"
    """The decoder (ours): `accurate`, our own; `tao`, the original's."""
    flip_test: bool = False
    """Average the maps of the image and its mirror image (ours): better poses, twice the time."""
    rotation_test: bool = False
    """Run on the image turned by +90 and -90 degrees too (ours): finds people who lie, three times
    the time."""
    complete_pose: bool = False
    """Infer joints that were not found from the rest of the body, marked as such (ours)."""
    display_score_threshold: Probability = DEFAULT_SCORE_THRESHOLD
    """Least score of the people who are drawn (ours); all of them are written."""

    def check(self) -> None:
        """Check that the largest scale keeps the network's input in bounds.

        A spec made for TAO names no decoder: the log says which one runs.

        Raises:
            BodyPoseNetError: The input would be too large.
        """
        side = max(self.input_shape) * (max(self.scales) if self.multi_scale_inference else 1)
        if side > MAX_SIDE:
            self.fail(
                "scales",
                f"a network input of {side:g} pixels, at most {MAX_SIDE} are possible",
                "Write smaller scales, or a smaller input_shape.",
            )
        if "mode" not in self.model_fields_set and self.train_spec is not None:
            log_once(
                f"{self._file.place(('train_spec',))}: no mode is given beside it, so the "
                f"decoder is {self.mode}; mode: tao gives the original's poses"
            )

    def ignored_keys(self) -> dict[str, str]:
        """What only the other decoder does, where it is not the default."""
        if self.mode == "tao":
            why = "only the mode accurate completes poses"
            return {"complete_pose": why} if self.complete_pose else {}
        usual = type(self).model_fields["output_upsampling_factor"].default
        if self.output_upsampling_factor == usual:
            return {}
        return {"output_upsampling_factor": "the mode accurate needs no upsampling"}
