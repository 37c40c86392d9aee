"""The inference spec (YAML) of inference and evaluate (reference 2.5)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from bodyposenet.specs.loading import Spec
from bodyposenet.specs.numbers import Count, Positive, Probability

AspectRatioMode = Literal["pad_image_input", "adjust_network_input"]


class InferenceSpec(Spec):
    """How images become network inputs and maps become poses."""

    model_path: str | None = None
    """The model, where `-m` is not given."""
    train_spec: str | None = None
    """The train spec; models of ours know all that it says, where it is given it must agree."""
    input_shape: tuple[Count, Count] = (368, 368)
    """Height and width of the network input."""
    keep_aspect_ratio_mode: AspectRatioMode | None = "adjust_network_input"
    """pad_image_input, adjust_network_input, or null to stretch."""
    output_stage_to_use: Count | None = None
    """Counted from 1; null: the last."""
    output_upsampling_factor: tuple[Count, Count] = (8, 8)
    """Of the maps before decoding, vertical and horizontal."""
    heatmap_threshold: Probability = 0.1
    """Least height of a peak."""
    paf_threshold: Probability = 0.05
    """Least agreement of a PAF sample with the limb's direction."""
    multi_scale_inference: bool = False
    """Average the maps of several scales."""
    scales: tuple[Positive, ...] = Field(default=(0.5, 1.0, 1.5, 2.0), min_length=1)
    """The scales, as factors of input_shape."""
    mode: Literal["tao"] = "tao"
    """The decoder (ours): `tao`, the original's."""
