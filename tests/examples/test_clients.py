"""Tests of the clients of models with decoding: people equal those of `decode()` in each language.

The inputs are the model's outputs for maps of drawn people and of photos.
"""

from __future__ import annotations

import json
import runpy
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

import bodyposenet
from bodyposenet.decoding import decode
from bodyposenet.exporting.decoding_graph import DecodingGraphOptions
from bodyposenet.skeleton import Skeleton
from bodyposenet.types import Maps
from tests.exporting.decoding_maps import (
    SKELETON,
    decoding_header,
    decoding_model,
    drawn_maps,
    onnx_session,
    photo_maps,
    stack,
)

CLIENTS = Path(bodyposenet.__file__).parent / "resources" / "clients"

OPTIONS = DecodingGraphOptions(max_peaks=128)  # one photo shows a crowd of spectators


class Image(NamedTuple):
    """Inputs of a client for one image."""

    peaks: np.ndarray
    paf_scores: np.ndarray


class People(NamedTuple):
    """Result of a client for one image: keypoints (N, J, 3) and scores (N,)."""

    keypoints: np.ndarray
    scores: np.ndarray


Client = Callable[[Sequence[Image], dict], list[People]]


@pytest.fixture(scope="module")
def python_client() -> Client:
    assemble = runpy.run_path(str(CLIENTS / "bodypose.py"))["assemble"]

    def run(images, skeleton):
        return [People(*assemble(*image, skeleton)) for image in images]

    return run


JAVASCRIPT = """
import { readFileSync } from "node:fs";
import { assemble } from CLIENT;
const [peaksFile, pafsFile, skeletonFile] = process.argv.slice(2);
const read = (path) => new Float32Array(new Uint8Array(readFileSync(path)).buffer);
const [peaks, pafs] = [read(peaksFile), read(pafsFile)];
const skeleton = JSON.parse(readFileSync(skeletonFile));
const k = skeleton.max_peaks;
const [size, pafSize] = [skeleton.joints.length * k * 3, skeleton.limbs.length * k * k];
const found = [];
for (let n = 0; n * size < peaks.length; n++) {
  found.push(assemble(peaks.subarray(n * size, (n + 1) * size),
                      pafs.subarray(n * pafSize, (n + 1) * pafSize),
                      skeleton));
}
console.log(JSON.stringify(found));
"""


@pytest.fixture(scope="module")
def javascript_client(tmp_path_factory) -> Client:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    folder = tmp_path_factory.mktemp("javascript")
    client = json.dumps((CLIENTS / "bodypose.mjs").as_uri())
    (folder / "main.mjs").write_text(JAVASCRIPT.replace("CLIENT", client))
    return _program([node, str(folder / "main.mjs")], folder)


CPP = """
#include "bodypose.hpp"

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>

static std::vector<float> read(const char* path) {
  std::ifstream file(path, std::ios::binary);
  std::string text((std::istreambuf_iterator<char>(file)), {});
  const float* values = reinterpret_cast<const float*>(text.data());
  return {values, values + text.size() / sizeof(float)};
}

int main(int count, char** arguments) {
  const std::vector<float> peaks = read(arguments[1]), pafs = read(arguments[2]);
  bodypose::Skeleton skeleton{JOINTS, PEAKS, {LIMBS}, {AUXILIARY}};
  if (count > 4) skeleton.max_people = std::strtoul(arguments[4], nullptr, 10);
  const std::size_t k = skeleton.max_peaks, size = skeleton.joints * k * 3;
  const std::size_t paf_size = skeleton.limbs.size() * k * k;
  std::printf("[");
  for (std::size_t n = 0; n * size < peaks.size(); ++n) {
    const auto people = bodypose::assemble(&peaks[n * size], &pafs[n * paf_size], skeleton);
    std::printf(n ? ",[" : "[");
    for (std::size_t p = 0; p < people.size(); ++p) {
      std::printf("%s{\\"score\\":%.9g,\\"keypoints\\":[", p ? "," : "", people[p].score);
      for (std::size_t j = 0; j < people[p].keypoints.size(); ++j) {
        const bodypose::Keypoint& point = people[p].keypoints[j];
        std::printf("%s{\\"x\\":%.9g,\\"y\\":%.9g,\\"score\\":%.9g}", j ? "," : "", point.x,
                    point.y, point.score);
      }
      std::printf("]}");
    }
    std::printf("]");
  }
  std::printf("]");
}
"""


@pytest.fixture(scope="module")
def cpp_client(tmp_path_factory) -> Client:
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler is installed")
    folder = tmp_path_factory.mktemp("cpp")
    values = {
        "JOINTS": str(len(SKELETON.joints)),
        "PEAKS": str(OPTIONS.max_peaks),
        "LIMBS": ", ".join(f"{{{{{start}, {end}}}}}" for start, end in SKELETON.limbs),
        "AUXILIARY": ", ".join(map(str, SKELETON.auxiliary or ())),
    }
    source = CPP
    for name, value in values.items():
        source = source.replace(name, value)
    (folder / "main.cpp").write_text(source)
    warnings = ["-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Werror"]
    command = [compiler, "-std=c++17", "-O1", *warnings, "-I", str(CLIENTS)]
    program = folder / "main"
    subprocess.run([*command, str(folder / "main.cpp"), "-o", str(program)], check=True)
    return _program([str(program)], folder)


def _program(command: list[str], folder: Path) -> Client:
    """Return a client that runs a program, which reads arrays from files and prints JSON."""

    def run(images, skeleton):
        peaks, pafs, header = (folder / name for name in ("peaks.bin", "pafs.bin", "header.json"))
        peaks.write_bytes(np.stack([image.peaks for image in images]).tobytes())
        pafs.write_bytes(np.stack([image.paf_scores for image in images]).tobytes())
        header.write_text(json.dumps(skeleton))
        limit = skeleton["max_people"]  # C++ has no standard parser of JSON
        arguments = [str(peaks), str(pafs), str(header), *([str(limit)] if limit else [])]
        done = subprocess.run([*command, *arguments], check=True, capture_output=True, text=True)
        return [_people(found, skeleton) for found in json.loads(done.stdout)]

    return run


def _people(found: list[dict], skeleton: dict) -> People:
    keypoints = np.zeros((len(found), len(skeleton["joints"]), 3))
    for person, points in zip(found, keypoints, strict=True):
        for place, point in zip(points, person["keypoints"], strict=True):
            if point is not None:
                place[:] = point["x"], point["y"], point["score"]
    return People(keypoints, np.array([person["score"] for person in found]))


@pytest.fixture(params=["python", "javascript", "cpp"])
def client(request) -> Client:
    return request.getfixturevalue(f"{request.param}_client")


def run_graph(
    maps: Sequence[Maps], skeleton: Skeleton, options: DecodingGraphOptions = OPTIONS
) -> tuple[list[Image], dict]:
    """Return the inputs of a client: the outputs for each image, and the entry of the header."""
    model = decoding_model(skeleton, options)
    session = onnx_session(model)
    outputs = [session.run(None, stack(each)) for each in maps]
    return [Image(peaks[0], pafs[0]) for peaks, pafs in outputs], decoding_header(model)


def check_same_people(found: People, maps: Maps, skeleton: Skeleton, max_people=None) -> int:
    """Check people, their order, joints (within 1e-2 pixels) and scores (within 1e-3)."""
    expected = decode(maps, skeleton)
    people = slice(max_people)
    points, scores = expected.keypoints[people], expected.keypoint_scores[people]
    assert found.keypoints.shape == (*scores.shape, 3)
    np.testing.assert_allclose(found.scores, expected.scores[people], atol=1e-3)
    np.testing.assert_allclose(found.keypoints[..., 2], scores, atol=1e-3)
    np.testing.assert_array_equal(found.keypoints[..., 2] > 0, np.isfinite(points[..., 0]))
    np.testing.assert_allclose(found.keypoints[..., :2], np.nan_to_num(points), atol=1e-2)
    return len(points)


def test_drawn_people_are_those_of_decode(client):
    images, skeleton = run_graph(drawn_maps(), SKELETON)
    found = client(images, skeleton)
    people = [
        check_same_people(each, maps, SKELETON)
        for each, maps in zip(found, drawn_maps(), strict=True)
    ]
    assert sum(people) > 40


@pytest.mark.shared_data
def test_people_in_photos_are_those_of_decode(client, shared):
    photos = photo_maps(shared)
    images, skeleton = run_graph(photos, SKELETON)
    found = client(images, skeleton)
    people = [
        check_same_people(each, maps, SKELETON) for each, maps in zip(found, photos, strict=True)
    ]
    assert len(people) == 50
    assert sum(people) > 200


@pytest.mark.parametrize(("distance", "is_connected"), [(39, True), (41, False)])
def test_a_connection_is_at_most_four_times_as_long_as_the_person(client, distance, is_connected):
    """The size of a person counts from five peaks on; here it is 10 pixels."""
    places = {
        "neck": (100, 100), "nose": (100, 95), "right_shoulder": (95, 100),
        "left_shoulder": (105, 100), "right_elbow": (95, 105), "right_hip": (100, 100 + distance),
    }  # fmt: skip
    joints = SKELETON.joints
    image = Image(np.zeros((18, 128, 3), np.float32), np.zeros((19, 128, 128), np.float32))
    for joint, place in places.items():
        image.peaks[joints.index(joint), 0] = *place, 0.8
    for limb, (start, end) in enumerate(SKELETON.limbs):
        if joints[start] in places and joints[end] in places:
            image.paf_scores[limb, 0, 0] = 0.2 if "right_hip" in (joints[start], joints[end]) else 1
    _, skeleton = run_graph([], SKELETON)
    (people,) = client([image], skeleton)
    (person,) = people.keypoints
    expected = np.zeros((18, 3))
    for joint, place in places.items():
        if is_connected or joint != "right_hip":
            expected[joints.index(joint)] = *place, 0.8
    np.testing.assert_allclose(person, expected, atol=1e-6)


def test_only_the_best_people_are_returned(client):
    images, skeleton = run_graph(drawn_maps(), SKELETON, replace(OPTIONS, max_people=2))
    found = client(images, skeleton)
    for each, maps in zip(found, drawn_maps(), strict=True):
        check_same_people(each, maps, SKELETON, max_people=2)
    assert len(found[9].scores) == 2 < len(decode(drawn_maps()[9], SKELETON))


def test_images_without_people(client):
    empty = Maps(np.zeros((19, 4, 4), np.float32), np.zeros((38, 4, 4), np.float32))
    images, skeleton = run_graph([empty, empty], SKELETON)
    for found in client(images, skeleton):
        assert found.keypoints.shape == (0, 18, 3)


def test_a_skeleton_of_two_joints(python_client):
    pair = Skeleton("pair", ("left_ear", "left_shoulder"), ((0, 1),), auxiliary=())
    maps = Maps(drawn_maps()[3].heatmaps[[0, 1, 18]], drawn_maps()[3].pafs[:2])
    images, skeleton = run_graph([maps], pair)
    check_same_people(python_client(images, skeleton)[0], maps, pair)
