"""`bpnet evaluate`: results, and datasets whose images and annotations do not match."""

import json
import os
import re
import signal
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pytest

import bodyposenet
from bodyposenet.evaluation.evaluator import EvaluationJob, evaluate_dataset, load_test_images
from bodyposenet.geometry import Affine
from bodyposenet.inference.predictor import NetworkInput
from bodyposenet.skeleton import Skeleton
from bodyposenet.specs.dataset import DatasetSpec
from bodyposenet.types import Poses

CROSS = Skeleton("cross", ("head", "left_hand", "right_hand", "foot"), ((0, 1), (0, 2), (0, 3)))
PLACES = np.array([[0.5, 0.2], [0.8, 0.4], [0.2, 0.4], [0.6, 0.9]])
"""Joints of all people, relative to the size of their image."""
DARK = 40


@dataclass
class FakeEngine:
    skeleton: Skeleton = CROSS


class FakePredictor:
    """A predictor that detects one person, at `PLACES`, in all images that are not dark."""

    def __init__(self, engine=None, spec=None, **limits):
        self.engine = FakeEngine()
        self.spec = spec

    def prepare(self, pixels):
        return [NetworkInput(pixels, Affine.resize(1.0))]

    def infer(self, batch):
        return [[None] * len(inputs) for inputs in batch]

    def find_poses(self, inputs, maps):
        pixels = inputs[0].pixels
        if pixels.max() <= DARK:
            return Poses.empty(CROSS)
        points = (PLACES * pixels.shape[1::-1])[None].astype(np.float32)
        scores = np.ones((1, 4), np.float32)
        return Poses(points, scores, np.array([0.8], np.float32), CROSS)


def person(image_id: int, height: int, width: int) -> dict:
    triples = np.column_stack([PLACES * (width, height), np.full(4, 2)])
    return {
        "id": image_id, "image_id": image_id, "category_id": 1, "iscrowd": 0,
        "keypoints": triples.reshape(-1).tolist(), "num_keypoints": 4,
        "bbox": [0, 0, width, height], "area": 0.5 * height * width,
    }  # fmt: skip


@pytest.fixture
def write_dataset(tmp_path):
    """Write a dataset of gray images: `write_dataset({"a.png": (height, width), ...})`."""

    def write(sizes, *, empty=(), keypoints=CROSS.joints) -> Path:
        (tmp_path / "images").mkdir(exist_ok=True)
        images, annotations = [], []
        for image_id, (name, (height, width)) in enumerate(sizes.items(), start=1):
            value = DARK if name in empty else 200
            picture = np.full((height, width, 3), value, np.uint8)
            cv2.imwrite(str(tmp_path / "images" / name), picture)
            images.append({"id": image_id, "file_name": name, "height": height, "width": width})
            if name not in empty:
                annotations.append(person(image_id, height, width))
        content = {"images": images, "annotations": annotations}
        (tmp_path / "test.json").write_text(json.dumps(content))
        split = {
            "images_root_dir_path": "images",
            "mask_root_dir_path": "masks",
            "annotation_root_dir_path": "test.json",
        }
        spec = {
            "dataset": "drawn", "root_directory_path": str(tmp_path),
            "train_data": split, "test_data": split,
            "categories": [
                {"name": "person", "num_joints": len(keypoints), "keypoints": list(keypoints)}
            ],
        }  # fmt: skip
        (tmp_path / "dataset.json").write_text(json.dumps(spec))
        return tmp_path / "dataset.json"

    return write


def evaluate(path: Path, max_images: int | None = None):
    spec = DatasetSpec.load(path)
    return evaluate_dataset(FakePredictor(), spec, load_test_images(spec, max_images))


EXCHANGED = (("height", "width"), ("width", "height"))


def change_annotations(folder, **changes):
    """Apply functions to each image or annotation of the dataset's file."""
    content = json.loads((folder / "test.json").read_text())
    for key, change in changes.items():
        content[key] = [change(one) for one in content[key]]
    (folder / "test.json").write_text(json.dumps(content))


SIZES = {"a.png": (120, 200), "b.png": (200, 90), "c.png": (150, 150)}


def test_correct_detections_have_an_ap_of_1(write_dataset):
    result = evaluate(write_dataset(SIZES))
    assert result.accuracy.ap == pytest.approx(1.0)
    assert [entry["image_id"] for entry in result.images] == [1, 2, 3]
    assert result.images[1]["image_meta"] == {"file_name": "b.png", "height": 200, "width": 90}
    assert [one["image_id"] for one in result.results] == [1, 2, 3]
    assert result.results[0]["keypoints"][:3] == pytest.approx([100.0, 24.0, 1])


def test_images_without_people_or_detections_count(write_dataset):
    result = evaluate(write_dataset(SIZES, empty=("b.png",)))
    assert result.accuracy.ap == pytest.approx(1.0)
    assert result.accuracy.images == 3
    assert result.images[1]["keypoints"] == []


def test_dataset_without_people_is_reported(write_dataset):
    result = evaluate(write_dataset(SIZES, empty=tuple(SIZES)))
    assert result.accuracy.ap == -1
    assert any("no ground truth" in line for line in result.accuracy.table())


def test_unreadable_images_count_without_detections(write_dataset, tmp_path):
    path = write_dataset(SIZES)
    (tmp_path / "images" / "b.png").write_bytes(b"")
    (tmp_path / "images" / "c.png").unlink()
    result = evaluate(path)
    assert [message.split("/")[-1][:5] for message in result.unreadable] == ["b.png", "c.png"]
    assert result.accuracy.people == 3
    assert 0.2 < result.accuracy.ap < 0.5
    assert "error" in result.images[1]


def test_unreadable_dataset_has_an_ap_of_0(write_dataset, tmp_path):
    path = write_dataset(SIZES)
    for name in SIZES:
        (tmp_path / "images" / name).write_text("no image")
    result = evaluate(path)
    assert len(result.unreadable) == 3
    assert result.accuracy.ap == 0


def test_images_of_another_size_are_scaled_to_their_annotations(write_dataset, tmp_path):
    path = write_dataset(SIZES)
    picture = np.full((240, 400, 3), 200, np.uint8)
    cv2.imwrite(str(tmp_path / "images" / "a.png"), picture)
    result = evaluate(path)
    assert len(result.resized) == 1
    assert "400 x 240" in result.resized[0]
    expected = (PLACES * (400, 240) + 0.5) / 2 - 0.5
    np.testing.assert_allclose(result.images[0]["keypoints"][0], expected, atol=0.001)
    assert result.accuracy.ap > 0.9


def test_exchanged_height_and_width_are_repaired(write_dataset, tmp_path, caplog):
    path = write_dataset(SIZES)
    change_annotations(tmp_path, images=lambda one: one | {k: one[v] for k, v in EXCHANGED})
    result = evaluate(path)
    assert result.accuracy.ap == pytest.approx(1.0)
    assert not result.resized
    assert "repaired: 2 " in caplog.text  # the third is square
    assert result.images[0]["image_meta"] == {"file_name": "a.png", "height": 120, "width": 200}


def test_poses_are_scaled_if_people_fit_the_exchanged_size_only(write_dataset, tmp_path):
    path = write_dataset({"a.png": (200, 120)})  # the file was rotated afterwards
    cv2.imwrite(str(tmp_path / "images" / "a.png"), np.full((120, 200, 3), 200, np.uint8))
    result = evaluate(path)
    assert len(result.resized) == 1
    assert result.images[0]["image_meta"] == {"file_name": "a.png", "height": 200, "width": 120}


def test_people_with_an_area_of_0_count(write_dataset, tmp_path, caplog):
    path = write_dataset(SIZES)
    change_annotations(tmp_path, annotations=lambda one: one | {"area": 0})
    assert evaluate(path).accuracy.ap == pytest.approx(1.0)
    assert "repaired: 3 areas" in caplog.text


def test_wrong_num_keypoints_are_repaired(write_dataset, tmp_path, caplog):
    path = write_dataset(SIZES)
    change_annotations(tmp_path, annotations=lambda one: one | {"num_keypoints": 0})
    result = evaluate(path)
    assert (result.accuracy.people, result.accuracy.ap) == (3, pytest.approx(1.0))
    assert "repaired: 3 " in caplog.text and "num_keypoints" in caplog.text


def test_max_images_limits_the_images(write_dataset):
    result = evaluate(write_dataset(SIZES), max_images=2)
    assert result.accuracy.images == len(result.images) == 2


def test_visibility_flags_of_the_spec_are_used(write_dataset):
    path = write_dataset(SIZES)
    spec = json.loads(path.read_text())
    spec["visibility_flags"] = {
        "value": {"seen": 1, "unknown": 2},
        "mapping": {"seen": "visible", "unknown": "not_labeled"},
    }
    path.write_text(json.dumps(spec))
    assert evaluate(path).accuracy.people == 0


def test_joints_are_matched_by_name(write_dataset, tmp_path):
    names = ("foot", "left_hand", "right_hand", "head")
    path = write_dataset(SIZES, keypoints=names)
    content = json.loads((tmp_path / "test.json").read_text())
    for annotation in content["annotations"]:
        triples = np.reshape(annotation["keypoints"], (4, 3))[[3, 1, 2, 0]]
        annotation["keypoints"] = triples.reshape(-1).tolist()
    (tmp_path / "test.json").write_text(json.dumps(content))
    assert evaluate(path).accuracy.ap == pytest.approx(1.0)


@pytest.fixture
def fake_predictor(monkeypatch):
    """The command with `FakePredictor` in place of a model."""
    models = "bodyposenet.inference.models"
    monkeypatch.setattr(f"{models}.find_model", lambda _, model, *__: Path(model or "model.tlt"))
    monkeypatch.setattr(f"{models}.open_engine", lambda *_, **__: FakeEngine())
    monkeypatch.setattr(f"{models}.Predictor", FakePredictor)


def test_the_command_writes_all_files(run_bpnet, write_dataset, tmp_path, fake_predictor):
    path = write_dataset(SIZES)
    (tmp_path / "images" / "b.png").write_bytes(b"")
    (tmp_path / "infer.yaml").write_text("input_shape: [64, 64]\n")
    results = tmp_path / "results"
    done = run_bpnet(
        "evaluate", "-i", tmp_path / "infer.yaml", "-d", path, "-m", "model.tlt", "-r", results,
        "-k", "--dataset", "coco",
    )  # fmt: skip
    assert done.code == 0
    assert "Average Precision" in done.out
    assert re.search(r"could not be read.*: 1", done.out)
    assert {"detections.json", "detections_coco_format.json", "results.csv", "results.json"} <= {
        file.name for file in results.iterdir()
    }
    assert len(list(results.glob("*.png"))) == 3
    coco = json.loads((results / "detections_coco_format.json").read_text())
    assert {type(value) for value in coco[0]["keypoints"]} == {float}
    lines = [json.loads(line) for line in (results / "status.json").read_text().splitlines()]
    kpi = next(line["kpi"] for line in lines if "kpi" in line)
    assert kpi["AP_0.50:0.95_all"] == pytest.approx(2 / 3, abs=0.02)
    assert lines[-1]["status"] == "SUCCESS"


def run_evaluation(run_bpnet, path, results, *flags):
    return run_bpnet("evaluate", "-d", path, "-m", "model.tlt", "-r", results, *flags)


def test_protocols_and_comparisons(run_bpnet, write_dataset, tmp_path, fake_predictor):
    path = write_dataset(SIZES)
    for protocol, metric in (("crowdpose", "AP_0.50:0.95_crowd_easy"), ("pck", "PCK_0.2")):
        results = tmp_path / protocol
        done = run_evaluation(run_bpnet, path, results, "--protocol", protocol)
        assert done.code == 0
        content = json.loads((results / "results.json").read_text())
        assert content["protocol"] == protocol
        assert content["kpi"][metric] == pytest.approx(1)
    done = run_evaluation(
        run_bpnet, path, tmp_path / "coco",
        "--compare_with", tmp_path / "crowdpose", tmp_path / "pck",
    )  # fmt: skip
    assert done.code == 0
    assert "crowdpose" in done.out and "+0.000" in done.out
    content = json.loads((tmp_path / "coco" / "results.json").read_text())
    assert len(content["comparisons"]) == 2


def test_the_result_in_python_has_errors_and_changes(write_dataset, tmp_path, fake_predictor):
    path = write_dataset(SIZES, empty=("b.png",))
    options = {"dataset_spec": path, "model_filename": "model.tlt"}
    bodyposenet.evaluate(**options, results_dir=tmp_path / "a")
    result = bodyposenet.evaluate(
        **options, results_dir=tmp_path / "b", compare_with=(tmp_path / "a",)
    )
    assert result.error_types["good"] == pytest.approx(1)
    assert list(result.corrected_ap.values()) == pytest.approx([1] * 6)
    assert result.joint_ap == pytest.approx(dict.fromkeys(CROSS.joints, 1))
    assert result.changes[str(tmp_path / "a")]["AP_0.50:0.95_all"] == pytest.approx(0)


def test_joints_are_matched_in_another_notation(write_dataset, tmp_path, fake_predictor):
    path = write_dataset(SIZES, keypoints=("Head", "LHand", "R Hand", "tail"))
    options = {"dataset_spec": path, "model_filename": "model.tlt"}
    bodyposenet.evaluate(**options, results_dir=tmp_path / "a")
    result = bodyposenet.evaluate(
        **options, results_dir=tmp_path / "b", compare_with=(tmp_path / "a",)
    )
    assert result.joint_ap == pytest.approx({"Head": 1, "LHand": 1, "R Hand": 1, "tail": -1})
    assert result.changes[str(tmp_path / "a")]["AP_0.50:0.95_all"] == pytest.approx(0)


def test_a_dataset_without_joints_of_the_model_is_an_error(
    run_bpnet, write_dataset, tmp_path, fake_predictor
):
    path = write_dataset(SIZES, keypoints=("leaf", "stem", "root", "tip"))
    done = run_evaluation(run_bpnet, path, tmp_path / "results")
    assert done.code == 2
    assert "leaf" in done.err and "left_hand" in done.err


def test_comparison_with_other_images_is_an_error_before_the_prediction(
    run_bpnet, write_dataset, tmp_path, fake_predictor, monkeypatch
):
    run_evaluation(run_bpnet, write_dataset({"a.png": SIZES["a.png"]}), tmp_path / "earlier")
    monkeypatch.delattr(FakePredictor, "infer")
    done = run_evaluation(
        run_bpnet, write_dataset(SIZES), tmp_path / "results",
        "--compare_with", tmp_path / "earlier",
    )  # fmt: skip
    assert done.code == 2
    assert "b.png" in done.err


def test_a_reference_length_that_the_dataset_lacks_is_an_error(
    run_bpnet, write_dataset, tmp_path, fake_predictor
):
    flags = ("--protocol", "pck", "--pck_reference", "torso")
    done = run_evaluation(run_bpnet, write_dataset(SIZES), tmp_path / "results", *flags)
    assert done.code == 2
    assert "left_shoulder" in done.err


def test_sigterm_is_recorded_in_the_status(
    run_bpnet, write_dataset, tmp_path, fake_predictor, monkeypatch
):
    def terminate(self, batch):
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(FakePredictor, "infer", terminate)
    path = write_dataset(SIZES)
    done = run_bpnet("evaluate", "-d", path, "-m", "model.tlt", "-r", tmp_path / "results")
    assert done.code == 130
    last = json.loads((tmp_path / "results" / "status.json").read_text().splitlines()[-1])
    assert (last["status"], last["message"]) == ("FAILURE", "interrupted")


def test_keys_of_stored_results_depend_on_their_inputs(write_dataset, tmp_path):
    spec = DatasetSpec.load(write_dataset(SIZES))
    image = load_test_images(spec)[0]
    work = EvaluationJob(tmp_path / "images", CROSS.joints)
    fewer = EvaluationJob(tmp_path / "images", CROSS.joints[:2])
    assert work.describe() != fewer.describe()
    before = work.key(image)
    assert work.key(image) == before != work.key(replace(image, width=9))
    cv2.imwrite(str(tmp_path / "images" / image.file_name), np.zeros((9, 9, 3), np.uint8))
    assert work.key(image) != before


def test_a_dataset_spec_is_required(run_bpnet):
    assert run_bpnet("evaluate", "-m", "model.tlt").code == 2


def test_a_dataset_without_test_data_is_an_error(
    run_bpnet, write_dataset, tmp_path, fake_predictor
):
    path = write_dataset(SIZES)
    spec = json.loads(path.read_text())
    del spec["test_data"]
    path.write_text(json.dumps(spec))
    done = run_bpnet("evaluate", "-d", path, "-m", "model.tlt", "-r", tmp_path / "results")
    assert done.code == 2
    assert "test_data" in done.err


@pytest.mark.parametrize("sizes", [{}, SIZES])
def test_nothing_to_evaluate_is_an_error(run_bpnet, write_dataset, tmp_path, fake_predictor, sizes):
    path = write_dataset(sizes)
    for name in sizes:
        (tmp_path / "images" / name).unlink()
    done = run_bpnet("evaluate", "-d", path, "-m", "model.tlt", "-r", tmp_path / "results")
    assert done.code == 2
    assert ("no image could be read" if sizes else "no images") in done.err
