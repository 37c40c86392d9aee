"""A drawn person: projection of a posed body to the image, clothes and painting order."""

from __future__ import annotations

import colorsys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bodyposenet.demo.canvas import Canvas, Floats, Strip, Texture, capsule
from bodyposenet.demo.pose import HEAD_RADII, SIDES, TORSO_LENGTH, Body, Vector

PARTS = (
    "torso", "head", "left_ear", "right_ear", "left_upper_arm", "right_upper_arm",
    "left_forearm", "right_forearm", "left_thigh", "right_thigh", "left_shin", "right_shin",
)  # fmt: skip
PARTS_PER_PERSON = 16
"""Part p of person i (both from 0) has the part id `PARTS_PER_PERSON * (i + 1) + p`."""

_TORSO_STATIONS = np.array((-0.045, -0.04, -0.015, 0.03, 0.14, 0.2, 0.27, 0.31, 0.335, 0.35))
_TORSO_FRONT = np.array((0.0, 0.045, 0.1, 0.122, 0.108, 0.096, 0.104, 0.106, 0.09, 0.0))
_TORSO_SIDE = np.array((0.0, 0.04, 0.055, 0.07, 0.078, 0.068, 0.076, 0.078, 0.065, 0.0))
"""Half widths of the torso from above the shoulders to below the hips, in front and side view."""
_WAIST = 0.23
_NEAR_SIDE = 0.012
"""Visible points of the face are closer to the viewer than the head's center by this distance."""
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
        period: Period of rings, relative to the stature.
    """

    color: Floats
    trim: Floats
    pattern: str = "plain"
    period: float = 0.06

    def texture(self, stature: float) -> Texture:
        """Return the texture on a person with a stature in pixels."""
        period = max(self.period * stature, 3.0)

        def _color_at(along: Floats, across: Floats) -> Floats:
            """Return the color of the fabric, or of its pattern."""
            if self.pattern == "plain":
                return self.color
            rings = (along % period) < period / 2
            lines = (across * 2 + 8) % 1.0 < 0.4
            stripe = {"rings": rings, "lengthwise": lines, "checks": rings ^ lines}[self.pattern]
            return np.where(stripe[..., None], self.trim, self.color)

        return _color_at


@dataclass(frozen=True, eq=False)
class Outfit:
    """Clothes, colors and build of a person.

    Args:
        skin: (3,) RGB.
        hair: (3,) RGB.
        shirt: Fabric of torso and upper arms.
        trousers: Fabric of hips and thighs.
        shoes: (3,) RGB.
        hair_line: Height of the hair line on the head, from -1 (chin) to 1 (crown).
        short_sleeves: Whether the forearms are bare.
        shorts: Whether the shins are bare.
        build: Factor for the widths of torso and limbs.
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
    """Sample clothes, colors and build."""
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
    """Sample a fabric that is plain with a given probability."""
    rest = (1 - plain) / 3
    pattern = PATTERNS[rng.choice(4, p=(plain, rest, rest, rest))]
    return Cloth(random_color(rng), random_color(rng), pattern, rng.uniform(0.04, 0.1))


def random_color(
    rng: np.random.Generator, saturation: tuple[float, float] = (0.25, 0.85)
) -> Floats:
    """Sample an RGB color, (3,), with a saturation in a range, neither black nor white."""
    color = colorsys.hsv_to_rgb(rng.random(), rng.uniform(*saturation), rng.uniform(0.25, 0.95))
    return rgb(*color) * np.float32(255)


def rgb(red: float, green: float, blue: float) -> Floats:
    """Return a color as an array, (3,) float32."""
    return np.array((red, green, blue), np.float32)


class Part(NamedTuple):
    """A body part to paint.

    Args:
        depth: Position toward the viewer; larger is closer.
        strip: Its projection.
        texture: Its colors.
        name: One of PARTS.
    """

    depth: float
    strip: Strip
    texture: Texture
    name: str


@dataclass(frozen=True, eq=False)
class Figure:
    """A person at a position in the image.

    Args:
        body: Posed body.
        outfit: Clothes, colors and build.
        stature: Height of the body in pixels; scale of its points.
        origin: (2,) position of the pelvis, the body's origin, in the image.
    """

    body: Body
    outfit: Outfit
    stature: float
    origin: Vector

    def at(self, name: str) -> Vector:
        """Return (2,), the position of a point of the body in image pixels."""
        return self._project(self.body.points[name])

    def depth(self, *names: str) -> float:
        """Return the mean z of points of the body, relative to the stature; larger is closer."""
        return sum(float(self.body.points[name][2]) for name in names) / len(names)

    def faces_camera(self, name: str) -> bool:
        """Return whether a point of the face is on the side of the head toward the viewer."""
        return self.depth(name) - self.depth("chin", "crown") > _NEAR_SIDE

    def paint(self, canvas: Canvas, person: int) -> None:
        """Paint all parts in the order of their depth, farthest first."""
        for part in sorted(self._parts(), key=lambda part: part.depth):
            part_id = PARTS_PER_PERSON * (person + 1) + PARTS.index(part.name)
            canvas.paint(part.strip, part.texture, part_id)

    def _project(self, point: Vector) -> Vector:
        """Return (2,), a point of the body, (3,), in image pixels (orthographic projection)."""
        return self.origin + self.stature * np.array((point[0], -point[1]))

    def _parts(self) -> Iterator[Part]:
        """Yield all visible parts, in any order."""
        yield from self._torso()
        yield from self._head()
        if self.faces_camera("nose"):
            yield from self._nose_and_mouth()
        for side, sign in SIDES.items():
            yield self._ear(side, sign)
            if self.faces_camera(f"{side}_eye"):
                yield from self._eye(side)
            yield from self._arm(side)
            yield from self._leg(side)

    def _torso(self) -> Iterator[Part]:
        """Yield the torso with the hips, and the neck."""
        shoulders = (self.at("left_shoulder") + self.at("right_shoulder")) / 2
        end = self.at("pelvis")
        # Foreshortened if it leans toward the viewer, but limited, as the torso is round.
        length = max(float(np.hypot(*(end - shoulders))) / self.stature / TORSO_LENGTH, 0.4)
        sideways = self.body.torso[2, 0]  # component of the left-right axis toward the viewer
        widths = np.hypot(_TORSO_FRONT * np.sqrt(1 - sideways**2), _TORSO_SIDE * sideways)
        strip = Strip(
            shoulders,
            end,
            self.stature * length * _TORSO_STATIONS,
            self.stature * self.outfit.build * widths,
        )
        waist = _WAIST * self.stature * length
        yield Part(self.depth("pelvis", "neck"), strip, self._clothes(waist), "torso")
        neck = self._capsule(self.at("neck"), self.at("chin"), 0.036, 0.034)
        yield Part(self.depth("neck", "chin") - 0.02, neck, _plain(self.outfit.skin * 0.9), "torso")

    def _clothes(self, waist: float) -> Texture:
        """Texture with shirt, trousers and, in front, buttons."""
        outfit, forward = self.outfit, self.body.torso[:, 2]
        shirt = outfit.shirt.texture(self.stature)
        front = forward[0] / np.hypot(forward[0], forward[2]) if forward[2] > 0.15 else np.nan

        def _color_at(along: Floats, across: Floats) -> Floats:
            """Return the color of the shirt above the waist, and of the trousers below."""
            upper = along < waist
            color = np.where(upper[..., None], shirt(along, across), outfit.trousers.color)
            buttons = upper & (np.abs(across + front) < 0.07)
            return np.where(buttons[..., None], outfit.shirt.trim, color)

        return _color_at

    def _head(self) -> Iterator[Part]:
        """Yield the head, an ellipsoid with skin and hair."""
        width, height = (self.stature * radius for radius in HEAD_RADII)
        crown, chin = self.at("crown"), self.at("chin")
        center = (crown + chin) / 2
        up = (crown - chin) / max(float(np.hypot(*(crown - chin))), 1e-6)
        places = np.linspace(-1, 1, 17)
        strip = Strip(center, center - up, height * places, width * np.sqrt(1 - places**2))
        yield Part(self.depth("chin", "crown"), strip, self._face_and_hair(up, height), "head")

    def _face_and_hair(self, up: Vector, height: float) -> Texture:
        """Texture with skin in front, and hair above the hair line and behind."""
        frame, outfit = self.body.head, self.outfit

        def _color_at(along: Floats, across: Floats) -> Floats:
            """Return the color of skin or hair, by the direction of the surface."""
            # Normal of the ellipsoid in camera axes (right, above, near), then in the head's axes.
            rise = np.clip(-along / height, -1, 1)
            flat = np.sqrt(1 - rise**2)
            right = rise * up[0] - flat * across * up[1]
            above = -rise * up[1] - flat * across * up[0]
            near = flat * np.sqrt(1 - across**2)
            high = right * frame[0, 1] + above * frame[1, 1] + near * frame[2, 1]
            front = right * frame[0, 2] + above * frame[1, 2] + near * frame[2, 2]
            hair = (high > outfit.hair_line) | ((front < -0.15) & (high > -0.75))
            return np.where(hair[..., None], outfit.hair, outfit.skin)

        return _color_at

    def _ear(self, side: str, sign: float) -> Part:
        """Return an ear, behind the head if it is on the far side."""
        ear, half = self.at(f"{side}_ear"), np.array((0.0, 0.012 * self.stature))
        near = sign * self.body.head[2, 0] > 0.25
        depth = self.depth("chin", "crown") + (0.02 if near else -0.02)
        strip = self._capsule(ear - half, ear + half, 0.021, 0.021)
        return Part(depth, strip, _plain(self.outfit.skin * 0.86), f"{side}_ear")

    def _eye(self, side: str) -> Iterator[Part]:
        """Yield an eye and its pupil."""
        eye, half = self.at(f"{side}_eye"), np.array((0.006 * self.stature, 0.0))
        depth = self.depth("chin", "crown") + 0.03
        white = self._capsule(eye - half, eye + half, 0.016, 0.016)
        yield Part(depth, white, _plain(rgb(250, 250, 250)), "head")
        pupil = self._capsule(eye, eye, 0.012, 0.012)
        yield Part(depth + 0.001, pupil, _plain(rgb(30, 30, 40)), "head")

    def _nose_and_mouth(self) -> Iterator[Part]:
        """Yield the mouth and the nose."""
        depth = self.depth("chin", "crown")
        corners = [self._on_head(x, -0.060, 0.068) for x in (-0.025, 0.025)]
        mouth = self._capsule(corners[0], corners[1], 0.007, 0.007)
        yield Part(depth + 0.03, mouth, _plain(rgb(150, 50, 50)), "head")
        nose = self._capsule(self._on_head(0, 0.014, 0.075), self.at("nose"), 0.008, 0.017)
        yield Part(depth + 0.04, nose, _plain(np.minimum(self.outfit.skin * 1.06, 255)), "head")

    def _on_head(self, x: float, y: float, z: float) -> Vector:
        """Return (2,), a point relative to the head's center, in its axes, in image pixels."""
        center = (self.body.points["chin"] + self.body.points["crown"]) / 2
        return self._project(center + self.body.head @ (x, y, z))

    def _arm(self, side: str) -> Iterator[Part]:
        """Yield upper arm, forearm and fist."""
        build, outfit = self.outfit.build, self.outfit
        shirt, skin = outfit.shirt.texture(self.stature), _plain(outfit.skin)
        shoulder, elbow, wrist, hand = (
            self.at(f"{side}_{joint}") for joint in ("shoulder", "elbow", "wrist", "hand")
        )
        depth = self.depth(f"{side}_shoulder", f"{side}_elbow") + 0.02
        upper = self._capsule(shoulder, elbow, 0.041 * build, 0.033 * build)
        yield Part(depth, upper, shirt, f"{side}_upper_arm")
        depth = self.depth(f"{side}_elbow", f"{side}_wrist") + 0.03
        lower = self._capsule(elbow, wrist, 0.032 * build, 0.022)
        yield Part(depth, lower, skin if outfit.short_sleeves else shirt, f"{side}_forearm")
        fist = self._capsule(wrist, hand, 0.021, 0.026)
        yield Part(depth + 0.01, fist, skin, f"{side}_forearm")

    def _leg(self, side: str) -> Iterator[Part]:
        """Yield thigh, shin and shoe."""
        build, outfit = self.outfit.build, self.outfit
        trousers, skin = outfit.trousers.texture(self.stature), _plain(outfit.skin)
        hip, knee, ankle, toe = (
            self.at(f"{side}_{joint}") for joint in ("hip", "knee", "ankle", "toe")
        )
        depth = self.depth(f"{side}_hip", f"{side}_knee") - 0.02
        upper = self._capsule(hip, knee, 0.06 * build, 0.043 * build)
        yield Part(depth, upper, trousers, f"{side}_thigh")
        depth = self.depth(f"{side}_knee", f"{side}_ankle")
        lower = self._capsule(knee, ankle, 0.041 * build, 0.028)
        yield Part(depth, lower, skin if outfit.shorts else trousers, f"{side}_shin")
        heel = ankle + np.array((0, 0.012 * self.stature))
        shoe = self._capsule(heel, toe, 0.03, 0.024)
        yield Part(depth + 0.01, shoe, _plain(outfit.shoes), f"{side}_shin")

    def _capsule(self, start: Vector, end: Vector, radius: float, end_radius: float) -> Strip:
        """Create a capsule with radii relative to the stature."""
        return capsule(start, end, radius * self.stature, end_radius * self.stature)


def _plain(color: NDArray[np.floating]) -> Texture:
    """Return a texture of one color."""
    return lambda along, across: color.astype(np.float32)
