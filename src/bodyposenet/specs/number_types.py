"""Number types with bounds, shared by the specs.

Upper bounds reject values that would exhaust memory or time, or overflow.
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
"""Height or width of a network input in pixels."""
Factor = Annotated[float, Field(ge=0.01, le=100)]
"""Scale factor."""
Distance = Annotated[float, Field(ge=-1e5, le=1e5)]
"""Signed distance in pixels."""
Offset = Annotated[float, Field(ge=-1e6, le=1e6)]
Divisor = Annotated[float, Field(ge=1e-6, le=1e6)]
"""Scale and offset of the normalization of pixel values."""
Deviation = Annotated[float, Field(gt=0, le=1000)]
"""Standard deviation of a Gaussian or half width of a limb, in pixels or cells."""
