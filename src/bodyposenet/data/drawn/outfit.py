"""What a drawn person wears and looks like: a random state in, colors and fabrics out."""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np

from bodyposenet.data.drawn.canvas import Floats, Texture

_SKINS = ((244, 208, 180), (226, 180, 146), (198, 146, 110), (150, 104, 74), (104, 70, 50))
_HAIRS = ((38, 30, 28), (74, 48, 32), (120, 80, 44), (196, 160, 96), (140, 60, 36), (170, 168, 166))
PATTERNS = ("plain", "rings", "lengthwise", "checks")


@dataclass(frozen=True, eq=False)
class Cloth:
    """A fabric: plain, or with a pattern in a second color.

    Args:
        color: (3,) RGB.
        trim: (3,) RGB of the pattern.
        pattern: One of PATTERNS.
        period: Of the rings, as a share of the stature.
    """

    color: Floats
    trim: Floats
    pattern: str = "plain"
    period: float = 0.06

    def texture(self, stature: float) -> Texture:
        """The fabric on a person of that many pixels."""
        period = max(self.period * stature, 3.0)

        def paint(along: Floats, across: Floats) -> Floats:
            if self.pattern == "plain":
                return self.color
            rings = (along % period) < period / 2
            lines = (across * 2 + 8) % 1.0 < 0.4
            stripe = {"rings": rings, "lengthwise": lines, "checks": rings ^ lines}[self.pattern]
            return np.where(stripe[..., None], self.trim, self.color)

        return paint


@dataclass(frozen=True, eq=False)
class Outfit:
    """What a person looks like.

    Args:
        skin: (3,) RGB.
        hair: (3,) RGB.
        shirt: Also of the upper arms.
        trousers: Also of the thighs.
        shoes: (3,) RGB.
        hair_line: Height on the head above which hair grows, -1 (chin) to 1 (crown).
        short_sleeves: The forearms are bare.
        shorts: The shins are bare.
        build: Factor of the widths of body and limbs.
    """

    skin: Floats
    hair: Floats
    shirt: Cloth
    trousers: Cloth
    shoes: Floats
    hair_line: float
    short_sleeves: bool
    shorts: bool
    build: float


def random_outfit(rng: np.random.Generator) -> Outfit:
    """Draw clothes, colors and build."""
    return Outfit(
        skin=rgb(*_SKINS[rng.choice(len(_SKINS))]) * np.float32(rng.uniform(0.92, 1.05)),
        hair=rgb(*_HAIRS[rng.choice(len(_HAIRS))]),
        shirt=random_cloth(rng, plain=0.55),
        trousers=random_cloth(rng, plain=0.8),
        shoes=random_color(rng) * np.float32(0.6),
        hair_line=rng.uniform(0.35, 0.65),
        short_sleeves=bool(rng.random() < 0.5),
        shorts=bool(rng.random() < 0.3),
        build=rng.uniform(0.95, 1.35),
    )


def random_cloth(rng: np.random.Generator, plain: float) -> Cloth:
    """Draw a fabric that is plain with the given probability."""
    rest = (1 - plain) / 3
    pattern = PATTERNS[rng.choice(4, p=(plain, rest, rest, rest))]
    return Cloth(random_color(rng), random_color(rng), pattern, rng.uniform(0.04, 0.1))


def random_color(
    rng: np.random.Generator, saturation: tuple[float, float] = (0.25, 0.85)
) -> Floats:
    """(3,) any RGB color that is neither black nor white, of a saturation in that range."""
    color = colorsys.hsv_to_rgb(rng.random(), rng.uniform(*saturation), rng.uniform(0.25, 0.95))
    return rgb(*color) * np.float32(255)


def rgb(red: float, green: float, blue: float) -> Floats:
    """(3,) a color."""
    return np.array((red, green, blue), np.float32)
