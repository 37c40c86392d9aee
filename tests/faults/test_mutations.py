"""Mutated files of every format cause an error that users can act on, never a traceback.

A small part of `python -m benchmarks.faults`, which also bounds time and memory.
"""

from random import Random

import pytest

from benchmarks.mutated_files.readers import InvalidInputError, readers, write_seeds
from bodyposenet.errors import BodyPoseNetError

READERS = (
    "dataset spec", "train spec", "inference spec", "pose configuration",
    "annotations, converted", "annotations, evaluated", "annotations, Label Studio",
    "annotations, Label Studio, JSON-MIN", "annotations, Sloth", "annotations, MPII",
    "annotations, COCO-WholeBody", "annotations, CVAT", "annotations, YOLO-pose",
    "labels, YOLO-pose", "TFRecord", "PNG", "JPEG", "mask", "video",
    ".tlt", ".onnx", ".onnx, OpenVINO", ".etlt", ".engine", "state", "calibration cache",
    "tensorfile", "detections", "results of an evaluation", "saved poses", "stored entries",
    "stored detections",
)  # fmt: skip


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("seeds")
    write_seeds(folder)
    return folder


def test_all_readers_are_covered(seeds):
    assert tuple(readers(seeds)) == READERS


@pytest.mark.parametrize("name", READERS)
def test_no_mutation_causes_a_traceback(seeds, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)  # for files that a mutation refers to
    reader = readers(seeds)[name]
    content = (seeds / reader.seed).read_bytes()
    clean = 0
    for number in range(12):
        folder = tmp_path / str(number)
        folder.mkdir()
        path = folder / reader.seed.rpartition("/")[2]
        path.write_bytes(reader.mutate(content, Random(f"{name} test {number}")))
        try:
            reader.read(path)
        except (BodyPoseNetError, InvalidInputError):
            clean += 1
    assert clean
