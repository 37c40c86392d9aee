"""Picklable job for tests: images of one color, and items that fail."""

import logging
import os
import time
from dataclasses import dataclass
from functools import partial

import numpy as np

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.geometry import Affine
from bodyposenet.inference.pipeline import Pipeline
from bodyposenet.inference.predictor import NetworkInput
from bodyposenet.skeleton import Skeleton
from bodyposenet.specs.inference import InferenceSpec
from bodyposenet.types import Poses

DOT = Skeleton("dot", ("dot",), ())
SPEC = InferenceSpec()
UNREADABLE, BUG, EXIT, SLOW = 250, 251, 252, 253


class StubPredictor:
    """Fake predictor: one person with one joint, whose coordinates are the color of the image."""

    def __init__(self, threads):
        self.threads = threads

    def prepare(self, image):
        return [NetworkInput(image, Affine.resize(1.0))]

    def infer(self, batch):
        return [[inputs[0].pixels[0, 0, 0]] for inputs in batch]

    def find_poses(self, inputs, maps):
        scores = np.ones((1, 1), np.float32)
        return Poses(np.full((1, 1, 2), maps[0], np.float32), scores, scores[0], DOT)


@dataclass(frozen=True)
class ColorJob:
    """Job that returns the color, process, cores, threads and time of each item."""

    batch: int = 1

    def pipeline(self, predictor):
        finish = partial(self._finish, predictor.threads)
        return Pipeline(predictor, self._read, finish, self._skip, batch=self.batch)

    def describe(self):
        return {"batch": self.batch}

    def key(self, item):
        return str(item)

    def store(self, result):
        return dict(result)

    def restore(self, stored):
        return dict(stored)

    def is_done(self, stored):
        return "error" not in stored

    def _read(self, item):
        if item == UNREADABLE:
            raise BodyPoseNetError("no color")
        if item == EXIT:
            os._exit(3)
        if item == SLOW:
            time.sleep(0.4)
        return np.full((4, 6, 3), item, np.uint8)

    def _finish(self, threads, item, pixels, poses):
        if item == BUG:
            raise ZeroDivisionError("a defect")
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        return {
            "color": int(poses.keypoints[0, 0, 0]), "process": os.getpid(), "cores": cores,
            "threads": threads, "time": time.time(),
        }  # fmt: skip

    def _skip(self, item, error):
        logging.getLogger("bodyposenet").warning("skipped: %s", error)
        return {"error": error.what, "process": os.getpid()}


def open_stub(threads) -> StubPredictor:
    return StubPredictor(threads)


def fail_to_open(threads) -> StubPredictor:
    raise BodyPoseNetError("the model is gone", "Look for it.")
