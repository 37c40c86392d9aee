"""Ranges of numbers that several specs use.

Upper limits refuse values that are valid numbers but would exhaust memory or time, or overflow.
"""

from typing import Annotated

from pydantic import Field

Probability = Annotated[float, Field(ge=0, le=1)]
PositiveFloat = Annotated[float, Field(gt=0)]
NonNegativeFloat = Annotated[float, Field(ge=0)]
PositiveInt = Annotated[int, Field(ge=1)]
NonNegativeInt = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
DecayRate = Annotated[float, Field(ge=0, lt=1)]
Stages = Annotated[int, Field(ge=1, le=6)]
MAX_SIDE = 8192
Side = Annotated[int, Field(ge=1, le=MAX_SIDE)]
"""Height or width of a network input in pixels; more fits into no memory."""
Factor = Annotated[float, Field(ge=0.01, le=100)]
"""Of an enlargement or reduction."""
Distance = Annotated[float, Field(ge=-1e5, le=1e5)]
"""In pixels of an image, with a sign."""
Offset = Annotated[float, Field(ge=-1e6, le=1e6)]
Divisor = Annotated[float, Field(ge=1e-6, le=1e6)]
"""Of pixel values, which normalization divides by one and subtracts the other from."""
Deviation = Annotated[float, Field(gt=0, le=1000)]
"""Standard deviation of a Gaussian or half width of a strip, in pixels or cells."""
