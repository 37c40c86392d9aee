"""Poses of drawn people: random joint angles, and forward kinematics to points in space.

Lengths are relative to the stature. Camera axes: x to the right of the image, y up, z toward the
viewer. Body axes: x to the person's left, y up, z forward; both agree for a person without a turn,
who faces the viewer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

SIDES = {"left": 1.0, "right": -1.0}
"""Sides of the body, and the sign of x on each of them in body axes."""

TORSO_LENGTH = 0.295
"""Distance from the shoulders to the hips."""
_SHOULDER_WIDTH, _HIP_WIDTH = 0.120, 0.066
"""Half of the shoulder width, and half of the hip width."""
_UPPER_ARM, _FOREARM, _HAND = 0.165, 0.150, 0.045
_THIGH, _SHIN, _FOOT = 0.245, 0.235, 0.095
HEAD_RADII = (0.080, 0.108)
"""Half of the width (and depth), and half of the height of the head."""
_HEAD_CENTER = (0.0, 0.437, 0.012)
_FACE = {
    "nose": (0.0, -0.018, 0.090), "chin": (0.0, -0.102, 0.022), "crown": (0.0, 0.108, 0.0),
    "left_eye": (0.034, 0.021, 0.070), "right_eye": (-0.034, 0.021, 0.070),
    "left_ear": (0.079, 0.002, 0.0), "right_ear": (-0.079, 0.002, 0.0),
}  # fmt: skip
"""Points of the head relative to its center."""


@dataclass(frozen=True)
class Arm:
    """Joint angles of an arm in degrees.

    Args:
        swing: Swing of the upper arm forward.
        lift: Lift of the upper arm to the side.
        turn: Rotation of the forearm about the upper arm.
        bend: Bend of the elbow.
    """

    swing: float = 0.0
    lift: float = 8.0
    turn: float = 0.0
    bend: float = 10.0


@dataclass(frozen=True)
class Leg:
    """Joint angles of a leg in degrees.

    Args:
        swing: Swing of the thigh forward.
        spread: Spread of the thigh to the side.
        bend: Bend of the knee.
    """

    swing: float = 0.0
    spread: float = 4.0
    bend: float = 2.0


@dataclass(frozen=True)
class Pose:
    """Joint angles of a body in degrees.

    Args:
        turn: Rotation about the vertical axis.
        lean: Bend of the torso forward.
        tilt: Bend of the torso to the side.
        head: Turn, nod and tilt of the head.
        arms: Arms by side, "left" and "right".
        legs: Legs by side.
        seated: Whether the person is sitting.
        roll: Clockwise rotation of the whole body in the image; 90 for a person who is lying.
    """

    turn: float
    lean: float
    tilt: float
    head: tuple[float, float, float]
    arms: dict[str, Arm]
    legs: dict[str, Leg]
    seated: bool = False
    roll: float = 0.0


@dataclass(frozen=True, eq=False)
class Body:
    """The points of a posed body, in camera axes.

    Args:
        points: Positions, (3,), by name: COCO's joints and neck, pelvis, chin, crown, hands, toes.
        torso: (3, 3) axes of the torso as columns: left, up, forward.
        head: (3, 3) axes of the head as columns.
        seated: Whether the person is sitting.
    """

    points: dict[str, Vector]
    torso: Matrix
    head: Matrix
    seated: bool


def random_pose(rng: np.random.Generator) -> Pose:
    """Sample an everyday pose, seen from the front, the back or the side."""
    kinds = (_standing, _walking, _arms_up, _gesturing, _sitting, _bending, _striding)
    arms, legs, lean = kinds[rng.choice(7, p=(0.24, 0.2, 0.16, 0.14, 0.1, 0.08, 0.08))](rng)
    if rng.random() < 0.5:
        arms, legs = (_swapped_sides(arms), _swapped_sides(legs))
    view = rng.choice(3, p=(0.66, 0.17, 0.17))
    turn = (rng.normal(0, 30), rng.normal(180, 25), rng.choice((-90, 90)) + rng.normal(0, 20))[view]
    head = (rng.normal(0, 18), rng.normal(4, 8), rng.normal(0, 6))
    seated = lean is None
    lean = rng.normal(3, 6) if lean is None else lean
    return Pose(turn, lean, rng.normal(0, 4), head, arms, legs, seated)


def posed_body(pose: Pose, camera_tilt: float) -> Body:
    """Compute the points of a body from its joint angles, starting at the pelvis.

    Args:
        pose: Joint angles.
        camera_tilt: Downward tilt of the camera in degrees.

    Returns:
        The posed body.
    """
    base = _about_z(-pose.roll) @ _about_x(camera_tilt) @ _about_y(pose.turn)
    torso = base @ _about_z(pose.tilt) @ _about_x(pose.lean)
    turn, nod, tilt = pose.head
    head = torso @ _about_y(turn) @ _about_x(nod) @ _about_z(tilt)
    points = {"pelvis": np.zeros(3), "neck": torso @ (0.0, TORSO_LENGTH + 0.02, 0.0)}
    center = torso @ _HEAD_CENTER
    points |= {name: center + head @ place for name, place in _FACE.items()}
    for side, sign in SIDES.items():
        points |= _arm_points(side, sign, torso, pose.arms[side])
        points |= _leg_points(side, sign, base, pose.legs[side])
    return Body(points, torso, head, pose.seated)


def _arm_points(side: str, sign: float, torso: Matrix, arm: Arm) -> dict[str, Vector]:
    """Return shoulder, elbow, wrist and hand."""
    upper = torso @ _about_x(-arm.swing) @ _about_z(sign * arm.lift)
    lower = upper @ _about_y(sign * arm.turn) @ _about_x(-arm.bend)
    shoulder = torso @ (sign * _SHOULDER_WIDTH, TORSO_LENGTH, 0.0)
    elbow = shoulder - _UPPER_ARM * upper[:, 1]
    wrist = elbow - _FOREARM * lower[:, 1]
    return {
        f"{side}_shoulder": shoulder,
        f"{side}_elbow": elbow,
        f"{side}_wrist": wrist,
        f"{side}_hand": wrist - _HAND * lower[:, 1],
    }


def _leg_points(side: str, sign: float, base: Matrix, leg: Leg) -> dict[str, Vector]:
    """Return hip, knee, ankle and toe."""
    upper = base @ _about_x(-leg.swing) @ _about_z(sign * leg.spread)
    lower = upper @ _about_x(leg.bend)
    hip = base @ (sign * _HIP_WIDTH, 0.0, 0.0)
    knee = hip - _THIGH * upper[:, 1]
    ankle = knee - _SHIN * lower[:, 1]
    foot = 0.9 * lower[:, 2] - 0.3 * lower[:, 1] + sign * 0.2 * lower[:, 0]
    return {
        f"{side}_hip": hip,
        f"{side}_knee": knee,
        f"{side}_ankle": ankle,
        f"{side}_toe": ankle + _FOOT * foot,
    }


LimbsAndLean = tuple[dict[str, Arm], dict[str, Leg], float | None]
"""Arms and legs by side, and the bend of the torso forward in degrees, or None if sitting."""


def _standing(rng: np.random.Generator) -> LimbsAndLean:
    """Sample a person who is standing with hanging arms."""
    return _hanging_arms(rng), _straight_legs(rng), rng.normal(0, 3)


def _walking(rng: np.random.Generator) -> LimbsAndLean:
    """Sample a step, in which arms and legs swing in opposite directions."""
    stride, bend = rng.uniform(12, 35), rng.uniform(10, 70)
    arms = {"left": Arm(-stride, 8, -10, bend * 0.6), "right": Arm(stride, 8, -10, bend)}
    legs = {"left": Leg(stride, 3, rng.uniform(2, 15)), "right": Leg(-stride, 3, stride)}
    return arms, legs, rng.uniform(0, 8)


def _arms_up(rng: np.random.Generator) -> LimbsAndLean:
    """Sample a person with one or both arms raised."""
    raised = {
        side: Arm(rng.uniform(-15, 25), rng.uniform(85, 170), 90, rng.uniform(0, 70))
        for side in SIDES
    }
    if rng.random() < 0.45:
        raised["right"] = _hanging_arms(rng)["right"]
    return raised, _straight_legs(rng), rng.normal(0, 4)


def _gesturing(rng: np.random.Generator) -> LimbsAndLean:
    """Sample hands on the hips, in front of the chest, or pointing."""
    gestures = (
        lambda: Arm(rng.uniform(-20, 0), rng.uniform(35, 55), -75, rng.uniform(80, 110)),
        lambda: Arm(rng.uniform(15, 45), rng.uniform(5, 20), -35, rng.uniform(70, 120)),
        lambda: Arm(rng.uniform(50, 95), rng.uniform(0, 40), 0, rng.uniform(0, 25)),
    )
    left, right = rng.choice(3), rng.choice(3)
    arms = {"left": gestures[left](), "right": gestures[right]()}
    return arms, _straight_legs(rng), rng.normal(0, 4)


def _sitting(rng: np.random.Generator) -> LimbsAndLean:
    """Sample a person who is sitting."""
    arms = {
        side: Arm(rng.uniform(15, 50), rng.uniform(5, 20), -15, rng.uniform(20, 70))
        for side in SIDES
    }
    legs = {
        side: Leg(rng.uniform(65, 90), rng.uniform(2, 16), rng.uniform(60, 95)) for side in SIDES
    }
    return arms, legs, None


def _bending(rng: np.random.Generator) -> LimbsAndLean:
    """Sample a person who is bending forward."""
    arms = {
        side: Arm(rng.uniform(20, 90), rng.uniform(5, 25), 0, rng.uniform(5, 40)) for side in SIDES
    }
    return arms, _straight_legs(rng), rng.uniform(20, 55)


def _striding(rng: np.random.Generator) -> LimbsAndLean:
    """Sample a long step, a lunge or a run."""
    arms = {
        side: Arm(
            rng.uniform(-40, 60), rng.uniform(5, 60), rng.uniform(-20, 40), rng.uniform(20, 100)
        )
        for side in SIDES
    }
    legs = {
        "left": Leg(rng.uniform(35, 75), rng.uniform(3, 20), rng.uniform(30, 80)),
        "right": Leg(rng.uniform(-35, -5), rng.uniform(3, 20), rng.uniform(10, 60)),
    }
    return arms, legs, rng.uniform(0, 18)


def _hanging_arms(rng: np.random.Generator) -> dict[str, Arm]:
    """Sample arms that hang down."""
    return {
        side: Arm(rng.normal(0, 12), rng.uniform(6, 26), rng.uniform(-30, 10), rng.uniform(2, 40))
        for side in SIDES
    }


def _straight_legs(rng: np.random.Generator) -> dict[str, Leg]:
    """Sample legs of a person who is standing."""
    return {
        side: Leg(rng.normal(2, 6), rng.uniform(1, 14), abs(rng.normal(0, 7))) for side in SIDES
    }


def _swapped_sides(limbs: dict[str, Arm] | dict[str, Leg]) -> dict:
    """Exchange left and right."""
    return {"left": limbs["right"], "right": limbs["left"]}


def _about_x(degrees: float) -> Matrix:
    """Return (3, 3), the rotation about the x axis."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[1.0, 0.0, 0.0], [0.0, cos, -sin], [0.0, sin, cos]])


def _about_y(degrees: float) -> Matrix:
    """Return (3, 3), the rotation about the y axis."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[cos, 0.0, sin], [0.0, 1.0, 0.0], [-sin, 0.0, cos]])


def _about_z(degrees: float) -> Matrix:
    """Return (3, 3), the rotation about the z axis."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
