"""`bpnet inference --output_format` with the default model, on drawn images and a drawn video."""

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

import bodyposenet
from bodyposenet.demo.scene import draw_scene
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.media.video_writer import Mp4Writer

SPEC = "input_shape: [256, 256]\ncomplete_pose: true\n"


@pytest.fixture(scope="module")
def scene() -> np.ndarray:
    """A drawn image of people, (H, W, 3) uint8 RGB."""
    return draw_scene(np.random.default_rng(4), 256, 320)[0]


@pytest.fixture
def spec(tmp_path) -> Path:
    path = tmp_path / "infer.yaml"
    path.write_text(SPEC)
    return path


@pytest.fixture
def photos(tmp_path, scene) -> Path:
    """Two images of the same people, and a file that is not an image."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("000012.png", "000007.png"):
        cv2.imwrite(str(folder / name), cv2.cvtColor(scene, cv2.COLOR_RGB2BGR))
    (folder / "000009.png").write_text("damaged")
    return folder


@pytest.fixture
def movie(tmp_path, scene) -> Path:
    path = tmp_path / "dance.mp4"
    with Mp4Writer(path, 10) as writer:
        for index in range(3):
            writer.write(scene, index / 10)
    return path


def read(path: Path):
    return json.loads(path.read_text())


def test_images_in_all_formats(run_bpnet, spec, photos, tmp_path):
    results = tmp_path / "results"
    done = run_bpnet(
        "inference", "-i", spec, "--input", photos, "-r", results,
        "--output_format", "coco,openpose", "csv", "--output_format", "label_studio", "cvat",
        "yolo_pose",
    )  # fmt: skip
    assert done.code == 0
    names = ("coco", "openpose", "csv", "label_studio", "cvat", "yolo_pose")
    assert all(str(results / name) in done.out for name in names)
    entries = [entry for entry in read(results / "detections.json")["images"] if "scores" in entry]
    assert [(entry["width"], entry["height"]) for entry in entries] == [(320, 256)] * 2
    people = len(entries[0]["scores"])
    assert people
    found = read(results / "coco" / "results.json")
    assert [result["image_id"] for result in found] == [7] * people + [12] * people
    document = read(results / "coco" / "predictions.json")
    assert [(image["id"], image["file_name"]) for image in document["images"]] == [
        (7, "000007.png"), (12, "000012.png"),
    ]  # fmt: skip
    files = sorted(file.name for file in (results / "openpose").iterdir())
    assert files == ["000007_keypoints.json", "000012_keypoints.json"]
    (first, *_) = read(results / "openpose" / files[0])["people"]
    assert first["pose_keypoints_2d"][:2] == entries[0]["keypoints"][0][0]
    with open(results / "csv" / "poses.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * people * 18
    tasks = read(results / "label_studio" / "predictions.json")
    assert tasks[0]["data"]["image"] == "/data/local-files/?d=photos/000007.png"
    assert (results / "cvat" / "predictions.xml").read_text().count("<skeleton ") == 2 * people
    assert len((results / "yolo_pose/labels/000012.txt").read_text().splitlines()) == people
    inferred = np.concatenate([np.ravel(entry["inferred"]) for entry in entries])
    assert [row["inferred"] for row in rows] == [str(int(value)) for value in inferred]


def test_a_video_with_tracks(spec, movie, tmp_path):
    results = tmp_path / "results"
    result = bodyposenet.predict(
        input=movie, inference_spec=spec, results_dir=results, track=True, no_video=True,
        output_format=["openpose", "csv", "deeplabcut"],
    )  # fmt: skip
    assert {results / name for name in ("openpose", "csv", "deeplabcut")} <= set(result.files)
    files = sorted(file.name for file in (results / "openpose").iterdir())
    assert files == [f"dance_{index:012}_keypoints.json" for index in range(3)]
    lines = (results / "detections.jsonl").read_text().splitlines()
    ids = json.loads(lines[2])["track_ids"]
    assert ids
    people = read(results / "openpose" / files[2])["people"]
    assert [person["person_id"] for person in people] == [[identity] for identity in ids]
    (table,) = (results / "deeplabcut").glob("dance_bodyposenet_*.csv")
    header, *_, last = csv.reader(table.read_text().splitlines())
    assert (header[0], last[0]) == ("scorer", "2")
    with open(results / "csv" / "poses.csv", newline="") as file:
        assert {row["frame"] for row in csv.DictReader(file)} == {"0", "1", "2"}


def test_ids_of_the_input_json(spec, photos, tmp_path):
    items = [
        {"full_image_path": str(photos / name), "id": number}
        for name, number in (("000012.png", 5), ("000007.png", 3))
    ]
    (tmp_path / "list.json").write_text(json.dumps({"images": items}))
    bodyposenet.predict(
        input=tmp_path / "list.json", inference_spec=spec, results_dir=tmp_path / "results",
        output_format="coco",
    )  # fmt: skip
    document = read(tmp_path / "results" / "coco" / "predictions.json")
    assert [image["id"] for image in document["images"]] == [5, 3]


def test_formats_need_a_results_folder(run_bpnet, photos):
    flags = ("--output", "json", "--output_format", "csv")
    done = run_bpnet("inference", "--input", photos, *flags)
    assert done.code == 2
    assert "--output_format" in done.err and "-r" in done.err


@pytest.mark.parametrize(
    ("name", "facts"), [("deeplabcut", "videos"), ("docx", "coco"), ("csv,docx", "coco")]
)
def test_errors_come_before_the_model_is_opened(photos, tmp_path, monkeypatch, name, facts):
    monkeypatch.setattr("bodyposenet.inference.models.open_predictor", None)
    with pytest.raises(BodyPoseNetError, match=facts):
        bodyposenet.predict(input=photos, results_dir=tmp_path, output_format=name)


def test_images_with_the_same_labels_are_an_error_before_the_model_is_opened(
    photos, tmp_path, monkeypatch
):
    monkeypatch.setattr("bodyposenet.inference.models.open_predictor", None)
    (photos / "000012.jpg").write_bytes((photos / "000012.png").read_bytes())
    with pytest.raises(BodyPoseNetError, match=r"000012\.jpg and 000012\.png"):
        bodyposenet.predict(input=photos, results_dir=tmp_path, output_format="yolo_pose")


def test_a_link_is_not_replaced(photos, tmp_path, monkeypatch):
    monkeypatch.setattr("bodyposenet.inference.models.open_predictor", None)
    (tmp_path / "coco").symlink_to(photos)
    with pytest.raises(BodyPoseNetError, match="link"):
        bodyposenet.predict(input=photos, results_dir=tmp_path, output_format="coco")
    assert (photos / "000012.png").is_file()
