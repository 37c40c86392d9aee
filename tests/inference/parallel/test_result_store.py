"""Tests of stored results: writing, reuse by a later run, damaged results."""

import json
from pathlib import Path

import pytest

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.evaluation.evaluator import EvaluationJob
from bodyposenet.inference.detections import DetectionJob
from bodyposenet.inference.parallel import result_store
from bodyposenet.inference.parallel.result_store import ResultStore, file_fingerprint

MANIFEST = {"model": "abc", "inference spec": {"scales": (0.5, 1.0)}}


def test_results_are_available_to_the_next_run(tmp_path):
    first = ResultStore(tmp_path, MANIFEST)
    assert first.results == {}
    first.add("a/ä.jpg", '{"scores": [0.1]}')
    first.add("b.jpg", '{"error": "gone"}')
    first.flush()
    second = ResultStore(tmp_path, MANIFEST)
    assert second.results == {"a/ä.jpg": {"scores": [0.1]}, "b.jpg": {"error": "gone"}}
    second.add("b.jpg", '{"scores": []}')
    second.flush()
    assert ResultStore(tmp_path, MANIFEST).results["b.jpg"] == {"scores": []}
    assert [path.name for path in sorted(tmp_path.glob("*.jsonl"))] == [
        "part-00000.jsonl", "part-00001.jsonl",
    ]  # fmt: skip


def test_a_part_is_written_when_it_is_full_or_after_some_time(tmp_path, monkeypatch):
    monkeypatch.setattr(result_store, "_MAX_RESULTS", 2)
    run = ResultStore(tmp_path, MANIFEST)
    run.add("a", "{}")
    assert not list(tmp_path.glob("*.jsonl"))
    run.add("b", "{}")
    assert len(list(tmp_path.glob("*.jsonl"))) == 1
    monkeypatch.setattr(result_store, "_MAX_SECONDS", 0.0)
    run.add("c", "{}")
    assert len(list(tmp_path.glob("*.jsonl"))) == 2


def test_results_of_another_model_are_an_error_or_overwritten(tmp_path):
    run = ResultStore(tmp_path, MANIFEST)
    run.add("a", "{}")
    run.flush()
    other = MANIFEST | {"model": "def"}
    with pytest.raises(BodyPoseNetError, match="another model") as caught:
        ResultStore(tmp_path, other)
    assert "--overwrite" in caught.value.remedy
    assert ResultStore(tmp_path, MANIFEST).results == {"a": {}}
    assert ResultStore(tmp_path, other, overwrite=True).results == {}
    assert ResultStore(tmp_path, other).results == {}


@pytest.mark.parametrize("content", [b'{"key": "a", "res', b"[1]", b'{"key": "a"}', b"\xff"])
def test_damaged_parts_are_refused(tmp_path, content):
    run = ResultStore(tmp_path, MANIFEST)
    run.add("a", "{}")
    run.flush()
    (tmp_path / "part-00000.jsonl").write_bytes(content)
    with pytest.raises(BodyPoseNetError, match=r"part-00000.jsonl:1: "):
        ResultStore(tmp_path, MANIFEST)
    (tmp_path / "manifest.json").write_text(json.dumps([1]))
    with pytest.raises(BodyPoseNetError, match="another model, inference spec"):
        ResultStore(tmp_path, MANIFEST)


def test_a_file_that_is_not_a_part_is_named_in_the_error(tmp_path):
    ResultStore(tmp_path, MANIFEST)
    (tmp_path / "part-x.jsonl").write_text("")
    with pytest.raises(BodyPoseNetError, match=r"part-x\.jsonl"):
        ResultStore(tmp_path, MANIFEST)


ENTRY = {
    "full_image_path": "a.jpg", "width": 20, "height": 10, "keypoints": [[[1, 2.5]]],
    "scores": [0.5], "camera": 3,
}  # fmt: skip
POSE = {"image_id": 1, "category_id": 1, "keypoints": [1.0, 2.0, 1], "score": 0.5}
IMAGES = DetectionJob(), {"entry": ENTRY, "picture": None}
TEST_IMAGES = (
    EvaluationJob(Path("img"), ("nose",)),
    {"entry": ENTRY, "results": [POSE], "unreadable": "", "resized": ""},
)


@pytest.mark.parametrize(("job", "stored"), [IMAGES, TEST_IMAGES])
def test_a_valid_result_is_reused(job, stored):
    assert job.is_done(stored)
    assert job.store(job.restore(stored)) == stored


def test_results_of_earlier_versions_without_sizes_are_not_reused():
    entry = {key: value for key, value in ENTRY.items() if key != "width"}
    assert not IMAGES[0].is_done(IMAGES[1] | {"entry": entry})


@pytest.mark.parametrize(
    ("job", "stored"),
    [
        (IMAGES[0], {}),
        (IMAGES[0], IMAGES[1] | {"entry": 1}),
        (IMAGES[0], IMAGES[1] | {"picture": "x"}),
        (IMAGES[0], IMAGES[1] | {"entry": ENTRY | {"scores": ["high"]}}),
        (IMAGES[0], IMAGES[1] | {"entry": ENTRY | {"viz_id": [1]}}),
        (IMAGES[0], IMAGES[1] | {"entry": ENTRY | {"keypoints": [1]}}),
        (IMAGES[0], IMAGES[1] | {"entry": {"scores": []}}),
        (TEST_IMAGES[0], {"unreadable": ""}),
        (TEST_IMAGES[0], TEST_IMAGES[1] | {"unreadable": 3}),
        (TEST_IMAGES[0], TEST_IMAGES[1] | {"results": [1]}),
        (TEST_IMAGES[0], TEST_IMAGES[1] | {"results": [POSE | {"score": float("nan")}]}),
        (TEST_IMAGES[0], TEST_IMAGES[1] | {"results": [POSE | {"keypoints": [1.0]}]}),
        (TEST_IMAGES[0], TEST_IMAGES[1] | {"more": 1}),
    ],
)
def test_a_damaged_result_is_an_error(job, stored):
    for reuse in (job.is_done, job.restore):
        with pytest.raises(BodyPoseNetError) as caught:
            reuse(stored)
        assert "--overwrite" in caught.value.remedy


def test_the_fingerprint_changes_with_the_file(tmp_path):
    file = tmp_path / "a.jpg"
    assert file_fingerprint(file) is file_fingerprint(tmp_path / "a\0b.jpg") is None
    file.write_text("one")
    first = file_fingerprint(file)
    assert file_fingerprint(file) == first
    file.write_text("another")
    assert file_fingerprint(file) != first
