"""`bpnet inference` on images: inputs, results, and errors."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from threading import Lock, Thread

import cv2
import numpy as np
import pytest

from bodyposenet.commands import inference
from bodyposenet.directory_lock import directory_lock
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.inference import detections
from bodyposenet.inference.models import default_model
from bodyposenet.media.images import read_image
from bodyposenet.skeleton import Skeleton
from bodyposenet.specs.inference import InferenceSpec
from bodyposenet.types import Maps

CROSS = Skeleton(
    "cross", ("head", "left_hand", "right_hand", "left_foot", "right_foot"),
    ((0, 1), (0, 2), (0, 3), (0, 4)),
)  # fmt: skip
PLACES = np.array([[0.51, 0.21], [0.81, 0.41], [0.21, 0.41], [0.71, 0.86], [0.31, 0.86]])
"""Joints of the person that `FixedEngine` detects, relative to the size of the input."""


class FixedEngine:
    """A fake network that returns maps of the same person for every input."""

    skeleton, stride, stages, fixed_shape = CROSS, 8, 1, None

    def infer(self, images, stage=None):
        return [self._maps(*images.shape[1:3]) for _ in images]

    def _maps(self, height, width):
        points = PLACES * (width, height) - 0.5
        rows, columns = np.mgrid[: -(-height // 8), : -(-width // 8)] * 8 + 3.5
        cells = np.stack([columns, rows], axis=-1)
        heatmaps = [0.9 * np.exp(-((cells - p) ** 2).sum(-1) / 98) for p in points]
        pafs = []
        for start, end in CROSS.limbs:
            length = np.linalg.norm(points[end] - points[start])
            unit = (points[end] - points[start]) / length
            near = np.abs((cells - points[start]) @ np.array([-unit[1], unit[0]])) < 8
            pafs += [near * unit[0], near * unit[1]]
        background = 1 - np.max(heatmaps, axis=0)
        heatmaps = np.stack([*heatmaps, background]).astype(np.float32)
        return Maps(heatmaps, np.stack(pafs).astype(np.float32), 8)


@pytest.fixture
def fixed_engine(monkeypatch):
    models = "bodyposenet.inference.models"
    monkeypatch.setattr(f"{models}.find_model", lambda _, model, *__: Path(model or "fixed.tlt"))
    monkeypatch.setattr(f"{models}.open_engine", lambda *_, **__: FixedEngine())


@pytest.fixture
def spec(tmp_path) -> Path:
    path = tmp_path / "infer.yaml"
    path.write_text("input_shape: [160, 160]\nkeep_aspect_ratio_mode: null\n")
    return path


@pytest.fixture
def photos(tmp_path) -> Path:
    """Two images, 200 x 100 and 80 x 120, and a file that is not an image."""
    folder = tmp_path / "photos"
    folder.mkdir()
    cv2.imwrite(str(folder / "b.png"), np.full((100, 200, 3), 90, np.uint8))
    cv2.imwrite(str(folder / "a.JPG"), np.full((120, 80), 200, np.uint8))
    (folder / "notes.txt").write_text("no image")
    return folder


def read_detections(results: Path) -> dict:
    return json.loads((results / "detections.json").read_text())


def statuses(results: Path) -> list[str]:
    return [
        json.loads(line)["status"]
        for line in (results / "status.json").read_text().split("\n")
        if line
    ]


def test_a_folder_of_images(run_bpnet, fixed_engine, spec, photos, tmp_path):
    results = tmp_path / "results"
    done = run_bpnet(
        "inference", "--inference_spec", spec, "--model_filename", "m.tlt", "--input_type", "dir",
        "--input", photos, "--results_dir", results, "--dump_visualizations", "-k",
    )  # fmt: skip
    assert done.code == 0
    assert "images: 2, people: 2" in done.out
    document = read_detections(results)
    assert document["pose_config_type"] == "cross"
    assert document["categories"][0]["keypoints"] == list(CROSS.joints)
    assert document["keypoint_names"] == list(CROSS.joints)
    assert document["inference_spec"]["input_shape"] == [160, 160]
    assert document["inference_spec"]["model_path"] == "m.tlt"
    first, second = document["images"]
    assert first["full_image_path"] == (photos / "a.JPG").as_posix()
    assert [first["viz_id"], second["viz_id"]] == [0, 1]
    assert len(second["keypoints"]) == len(second["scores"]) == len(second["keypoint_scores"]) == 1
    np.testing.assert_allclose(second["keypoints"][0], PLACES * (200, 100) - 0.5, atol=1.3)
    np.testing.assert_allclose(second["keypoint_scores"][0], 0.9, atol=0.1)
    assert statuses(results) == ["STARTED", "RUNNING", "SUCCESS"]
    drawn = read_image(results / "images_annotated" / "b.png")
    assert drawn.shape == (100, 200, 3)
    assert (drawn != 90).any()


def test_batches_give_the_results_of_single_images(run_bpnet, fixed_engine, spec, photos, tmp_path):
    cv2.imwrite(str(photos / "c.png"), np.full((50, 70, 3), 10, np.uint8))
    arguments = ("inference", "-i", spec, "--input_type", "dir", "--input", photos)
    assert run_bpnet(*arguments, "-r", tmp_path / "single").code == 0
    assert run_bpnet(*arguments, "-r", tmp_path / "batch", "--batch", 3).code == 0
    assert read_detections(tmp_path / "single") == read_detections(tmp_path / "batch")
    wrong = run_bpnet(*arguments, "-r", tmp_path / "none", "--batch", 0)
    assert wrong.code == 2 and "--batch 0" in wrong.err


def test_auto_detects_folders_and_images(run_bpnet, fixed_engine, spec, photos, tmp_path):
    arguments = ("inference", "-i", spec, "-r", tmp_path / "results", "--input")
    several, one = run_bpnet(*arguments, photos), run_bpnet(*arguments, photos / "b.png")
    assert "images: 2," in several.out and "--dump_visualizations" in several.err
    assert "images: 1," in one.out and "--dump_visualizations" not in one.err


@pytest.mark.parametrize(
    ("name", "flags", "what", "remedy"),
    [
        ("none.png", (), "File or folder not found", "Check the path"),
        ("none.png", ("--input_type", "image"), "File or folder not found", "Check the path"),
        ("text.png", (), "not an image, or a damaged one", "Give an image that OpenCV reads"),
        ("empty.png", (), "the file is empty", "Copy or download it again"),
        (".", ("--input_type", "image"), "is a folder", "Give --input_type dir, or auto"),
        ("a.mp4", ("--input_type", "image"), "not an image", "Give --input_type video, or auto"),
    ],
)
def test_one_image_that_cannot_be_read_is_one_error_with_a_remedy(
    run_bpnet, tmp_path, name, flags, what, remedy
):
    for file in ("text.png", "a.mp4"):
        (tmp_path / file).write_text("no image")
    (tmp_path / "empty.png").touch()
    done = run_bpnet("inference", "--input", tmp_path / name, "-r", tmp_path / "r", *flags)
    assert done.code == 2
    first, second = done.err.splitlines()  # no line about a model, which is not opened
    assert str(tmp_path / name) in first
    assert what in first
    assert remedy in second


def test_without_a_results_folder_only_results_are_written(
    run_bpnet, fixed_engine, spec, photos, tmp_path, monkeypatch
):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    assert run_bpnet("inference", "-i", spec, "--input", photos).code == 0
    assert [file.name for file in here.iterdir()] == ["detections.json"]
    one = run_bpnet("inference", "-i", spec, "--input", photos / "b.png")
    assert one.code == 0 and "--dump_visualizations" in one.err
    assert [file.name for file in here.iterdir()] == ["detections.json"]
    assert [Path(image["full_image_path"]).name for image in read_detections(here)["images"]] == [
        "b.png"
    ]
    command = ("inference", "-i", spec, "--input", photos / "b.png", "--dump_visualizations")
    assert run_bpnet(*command).code == 0
    found = sorted(file.relative_to(here).as_posix() for file in here.rglob("*"))
    assert found == ["detections.json", "images_annotated", "images_annotated/b.png"]


def test_poses_as_lines_of_json_on_standard_output(
    run_bpnet, fixed_engine, spec, photos, tmp_path, monkeypatch
):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    (photos / "c.png").write_text("no image")
    arguments = ("inference", "-i", spec, "--input", photos, "--output", "json")
    alone = run_bpnet(*arguments)
    assert alone.code == 0, alone.err
    assert not list(here.iterdir())
    lines = [json.loads(line) for line in alone.out.splitlines()]
    assert [Path(line["full_image_path"]).name for line in lines] == ["a.JPG", "b.png", "c.png"]
    assert "keypoints" in lines[0] and "error" in lines[2]
    assert "images: 2, people: 2" in alone.err and "PASS" in alone.err
    both = run_bpnet(*arguments, "-r", tmp_path / "r", "--dump_visualizations")
    assert [line.get("keypoint_names") for line in lines] == [*[list(CROSS.joints)] * 2, None]
    drawn = [json.loads(line) for line in both.out.splitlines()]
    assert [
        {key: value for key, value in line.items() if key != "keypoint_names"} for line in drawn
    ] == read_detections(tmp_path / "r")["images"]
    assert [line.get("viz_name") for line in drawn] == ["a.png", "b.png", None]
    quiet = run_bpnet(*arguments, "--quiet")
    assert (quiet.out, quiet.err) == (alone.out, "")
    refused = run_bpnet(*arguments, "--dump_visualizations")
    assert refused.code == 2 and "-r" in refused.err


def test_closed_output_pipe_ends_the_run(fixed_engine, spec, photos, monkeypatch):
    printed = []

    def print_line(text):
        printed.append(text)
        return False  # as for a pipe whose reader has ended

    monkeypatch.setattr(inference, "print_line", print_line)
    options = inference.InferenceOptions(inference_spec=spec, input=photos, output="json")
    assert inference.predict.run(options).processed == len(printed) == 1


def test_limits_on_reported_people(run_bpnet, fixed_engine, spec, photos, tmp_path):
    arguments = ("inference", "-i", spec, "--input", photos / "b.png", "-r", tmp_path)
    for flags, people in (
        ((), 1),
        (("--score_threshold", 0.99), 0),
        (("--score_threshold", 0.1, "--max_people", 1), 1),
    ):
        assert run_bpnet(*arguments, *flags).code == 0
        assert len(read_detections(tmp_path)["images"][0]["scores"]) == people
    for flags in (("--score_threshold", 2), ("--max_people", 0)):
        refused = run_bpnet(*arguments, *flags)
        assert refused.code == 2 and flags[0] in refused.err


def test_prediction_from_python(fixed_engine, spec, photos, tmp_path, capsys):
    result = inference.predict(
        inference_spec=spec, input=photos, results_dir=tmp_path / "r", dump_visualizations=True
    )
    assert (result.processed, result.people, result.skipped) == (2, 2, ())
    assert list(result.entries) == read_detections(tmp_path / "r")["images"]
    assert result.files == (tmp_path / "r/detections.json", tmp_path / "r/images_annotated")
    assert capsys.readouterr().out == ""
    with pytest.warns(DeprecationWarning, match="processed"):
        assert result.searched == 2
    with pytest.raises(BodyPoseNetError, match=r"none\.png"):
        inference.predict(input=tmp_path / "none.png", results_dir=tmp_path / "r")


def test_images_on_a_web_server(run_bpnet, fixed_engine, spec, photos, tmp_path):
    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=photos)

        def log_message(self, *_):
            """Do not log requests."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}"
        arguments = ("inference", "-i", spec, "-r", tmp_path / "r", "--input")
        done = run_bpnet(*arguments, f"{address}/b.png?size=full")
        assert done.code == 0, done.err
        (entry,) = read_detections(tmp_path / "r")["images"]
        assert entry["full_image_path"] == f"{address}/b.png?size=full"
        assert entry["viz_name"] == "b.png" and len(entry["scores"]) == 1
        listed = [f"{address}/b.png", f"{address}/lost.png", str(photos / "a.JPG")]
        (tmp_path / "list.json").write_text(json.dumps(listed))
        assert run_bpnet(*arguments, tmp_path / "list.json").code == 0
        entries = read_detections(tmp_path / "r")["images"]
        assert [entry["full_image_path"] for entry in entries] == listed
        assert ["error" in entry for entry in entries] == [False, True, False]
        assert run_bpnet(*arguments, f"{address}/lost.png").code == 2
        server.shutdown()


def test_empty_input_is_an_error(run_bpnet, tmp_path):
    done = run_bpnet("inference", "--input", "", "-r", tmp_path)
    assert done.code == 2 and done.err.startswith("error: --input is empty\n")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="has no pipes with names")
def test_image_from_a_named_pipe(run_bpnet, fixed_engine, spec, photos, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    image = (photos / "b.png").read_bytes()
    writer = Thread(target=(tmp_path / "pipe").write_bytes, args=(image,), daemon=True)
    writer.start()
    done = run_bpnet("inference", "-i", spec, "--input", tmp_path / "pipe", "-r", tmp_path / "r")
    assert done.code == 0, done.err
    assert (tmp_path / "r" / "images_annotated" / "pipe.png").exists()


def test_benchmark_reports_the_time_of_every_stage(run_bpnet, fixed_engine, spec, photos, tmp_path):
    done = run_bpnet(
        "inference", "-i", spec, "--input_type", "dir", "--input", photos, "-r", tmp_path / "r",
        "--dump_visualizations", "--benchmark",
    )  # fmt: skip
    assert done.code == 0
    assert " images/s" in done.out
    for part in (
        "network",
        "waiting for other steps",
        "read",
        "resize",
        "decode",
        "draw and write",
    ):
        assert re.search(rf"{part}.* +\d+\.\d\d ms/image +\d+\.\d %", done.out), part


@pytest.mark.parametrize("batch", [1, 2])
def test_benchmark_excludes_the_warm_up(
    run_bpnet, fixed_engine, spec, photos, tmp_path, monkeypatch, batch
):
    for name in "cde":
        (photos / f"{name}.png").write_bytes((photos / "b.png").read_bytes())
    whole, runs = FixedEngine.infer, []

    def infer(self, images, stage=None):
        runs.append(len(images))
        time.sleep(3 if len(runs) == 1 else 0)  # as the first run of a model
        return whole(self, images, stage)

    monkeypatch.setattr(FixedEngine, "infer", infer)
    arguments = ("inference", "-i", spec, "--benchmark", "--batch", batch, "-r", tmp_path / "r")
    done = run_bpnet(*arguments, "--input", photos)
    assert sum(runs) == 5
    network = float(re.search(r"network +(\d+\.\d\d) ms/image", done.out)[1])
    assert network < 600  # a fifth of the first run
    assert len(read_detections(tmp_path / "r")["images"]) == 5
    runs.clear()
    one = run_bpnet(*arguments, "--input", photos / "b.png")
    assert " images/s" in one.out and "--benchmark" in one.err


def test_people_below_the_display_threshold_are_written_but_not_drawn(
    run_bpnet, fixed_engine, spec, photos, tmp_path
):
    spec.write_text(spec.read_text() + "display_score_threshold: 0.99\n")
    results = tmp_path / "results"
    done = run_bpnet(
        "inference", "-i", spec, "--input", photos / "b.png", "-r", results, "--dump_visualizations"
    )
    assert done.code == 0
    (entry,) = read_detections(results)["images"]
    assert len(entry["scores"]) == 1
    assert (read_image(results / "images_annotated" / "b.png") == 90).all()


def test_thresholds_of_the_sample_specs():
    specs = files("bodyposenet") / "resources" / "specs"
    sample = InferenceSpec.load(str(specs / "infer_spec_accurate.yaml"))
    assert (sample.mode, sample.heatmap_threshold, sample.paf_threshold) == ("accurate", 0.05, 0.02)
    guide = InferenceSpec.load(str(specs / "infer_spec.yaml"))
    assert (guide.mode, guide.heatmap_threshold, guide.paf_threshold) == ("accurate", 0.1, 0.05)


def test_image_root_path(run_bpnet, fixed_engine, spec, photos, tmp_path):
    results = tmp_path / "results"
    done = run_bpnet(
        "inference", "-i", spec, "-m", "m.tlt", "-r", results,
        "--input", "b.png", "--image_root_path", photos,
    )  # fmt: skip
    assert done.code == 0
    (entry,) = read_detections(results)["images"]
    assert (entry["viz_id"], entry["viz_name"]) == (0, "b.png")
    assert [file.name for file in (results / "images_annotated").iterdir()] == ["b.png"]


def test_summary_counts_people_above_the_display_threshold(
    run_bpnet, fixed_engine, spec, photos, tmp_path
):
    arguments = ("inference", "-i", spec, "--input_type", "dir", "--input", photos, "-r", tmp_path)
    assert "people: 2 (2 with" in run_bpnet(*arguments).out
    spec.write_text(spec.read_text() + "display_score_threshold: 0.99\n")
    assert "people: 2 (0 with" in run_bpnet(*arguments).out


def test_annotated_images_of_an_earlier_run_are_removed(
    run_bpnet, fixed_engine, spec, photos, tmp_path
):
    drawings = tmp_path / "r" / "images_annotated"
    arguments = ("inference", "-i", spec, "-r", tmp_path / "r", "--input")
    assert run_bpnet(*arguments, photos, "--dump_visualizations").code == 0
    assert {file.name for file in drawings.iterdir()} == {"a.png", "b.png"}
    for name in ("mine.png", "2.png"):  # of the user, and of a killed run
        (drawings / name).touch()
    run_bpnet(*arguments, photos / "b.png")
    assert {file.name for file in drawings.iterdir()} == {"b.png", "2.png", "mine.png"}
    # Older versions wrote no viz_name; the file was named after viz_id.
    document = read_detections(tmp_path / "r")
    document["images"] = [{"viz_id": 2}, *document["images"]]
    (tmp_path / "r" / "detections.json").write_text(json.dumps(document))
    run_bpnet(*arguments, photos / "a.JPG")
    assert {file.name for file in drawings.iterdir()} == {"a.png", "mine.png"}


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        ((), ["a.png", "b.png", "b_3.png", "b_2.png"]),
        (("--image_format", "jpg"), ["a.jpg", "b.jpg", "b_3.jpg", "b_2.jpg"]),
        (("--viz_names", "index"), ["0.png", "1.png", "2.png", "3.png"]),
        (("--viz_names", "index", "--image_format", "webp"), [f"{k}.webp" for k in range(4)]),
    ],
)  # fmt: skip
def test_names_of_annotated_images(run_bpnet, fixed_engine, spec, photos, tmp_path, flags, names):
    """An existing name gets a number, but never that of another image."""
    for name in ("B.bmp", "b_2.png"):
        cv2.imwrite(str(photos / name), np.full((60, 50, 3), 120, np.uint8))
    listed = ["a.JPG", "b.png", "B.bmp", "b_2.png"]
    (tmp_path / "list.json").write_text(json.dumps([str(photos / name) for name in listed]))
    done = run_bpnet(
        "inference", "-i", spec, "--input", tmp_path / "list.json", "-r", tmp_path / "r",
        "--dump_visualizations", *flags,
    )  # fmt: skip
    assert done.code == 0, done.err
    entries = read_detections(tmp_path / "r")["images"]
    assert [entry["viz_id"] for entry in entries] == [0, 1, 2, 3]
    assert [entry["viz_name"].lower() for entry in entries] == names
    for entry, image in zip(entries, listed, strict=True):
        picture = read_image(tmp_path / "r" / "images_annotated" / entry["viz_name"])
        assert picture.shape == read_image(photos / image).shape


def test_annotated_images_do_not_replace_inputs(run_bpnet, fixed_engine, spec, photos, tmp_path):
    drawings = tmp_path / "images_annotated"
    photos.rename(drawings)
    done = run_bpnet(
        "inference", "-i", spec, "--input_type", "dir", "--input", drawings, "-r", tmp_path,
        "--dump_visualizations",
    )  # fmt: skip
    assert done.code == 2
    assert "images_annotated" in done.err
    one = run_bpnet("inference", "-i", spec, "--input", drawings / "b.png", "-r", tmp_path)
    assert one.code == 0, one.err  # drawing was not requested
    assert "viz_id" not in read_detections(tmp_path)["images"][0]


def test_ctrl_c_keeps_earlier_detections(
    run_bpnet, fixed_engine, spec, photos, tmp_path, monkeypatch
):
    for name in "cdefghij":
        (photos / f"{name}.png").write_bytes((photos / "b.png").read_bytes())
    # With many cores, the tenth image would be interrupted before the first result is ready.
    monkeypatch.setattr("bodyposenet.inference.pipeline.usable_cores", lambda: 2)
    arguments = ("inference", "-i", spec, "--input_type", "dir", "--input", photos)
    results = tmp_path / "results"
    whole = FixedEngine.infer

    def press_ctrl_c(after):
        left = iter(range(after))

        def infer(self, images, stage=None):
            if next(left, None) is None:
                raise KeyboardInterrupt
            return whole(self, images, stage)

        monkeypatch.setattr(FixedEngine, "infer", infer)

    press_ctrl_c(after=9)
    done = run_bpnet(*arguments, "-r", results)
    assert done.code == 130
    entries = read_detections(results)["images"]
    assert 0 < len(entries) < 10
    assert f"after {len(entries)} of 10 images" in done.err
    assert statuses(results)[-1] == "FAILURE"
    press_ctrl_c(after=0)
    assert run_bpnet(*arguments, "-r", tmp_path / "none").code == 130
    assert not (tmp_path / "none" / "detections.json").exists()


def test_sigterm_ends_a_run_as_ctrl_c_does(
    run_bpnet, fixed_engine, spec, photos, tmp_path, monkeypatch
):
    def terminate_after_first(found, *_):
        yield next(found)
        os.kill(os.getpid(), signal.SIGTERM)
        yield from found

    monkeypatch.setattr("bodyposenet.commands.inference.progress", terminate_after_first)
    before = signal.getsignal(signal.SIGTERM)
    arguments = ("inference", "-i", spec, "--input_type", "dir", "--input", photos)
    done = run_bpnet(*arguments, "-r", tmp_path / "results")
    assert done.code == 130
    assert len(read_detections(tmp_path / "results")["images"]) == 1
    assert "after 1 of 2 images" in done.err
    assert statuses(tmp_path / "results")[-1] == "FAILURE"
    assert signal.getsignal(signal.SIGTERM) is before


def test_locked_results_folder_is_an_error(run_bpnet, fixed_engine, spec, photos, tmp_path):
    results = tmp_path / "results"
    results.mkdir()
    arguments = ("inference", "-i", spec, "--input_type", "dir", "--input", photos, "-r", results)
    with directory_lock(results):
        done = run_bpnet(*arguments)
    assert done.code == 2
    assert f"error: {results}: " in done.err
    assert list(results.iterdir()) == []
    assert run_bpnet(*arguments).code == 0
    assert not (results / ".lock").exists()


def test_results_folder_removed_during_the_run_is_an_error(
    run_bpnet, fixed_engine, spec, photos, tmp_path, monkeypatch
):
    """Earlier annotated images are lost, so the run must not end with success."""
    results = tmp_path / "results"
    write = detections._write_picture

    def remove_after_the_first(path, picture):
        write(path, picture)
        shutil.rmtree(results, ignore_errors=True)

    monkeypatch.setattr(detections, "_write_picture", remove_after_the_first)
    arguments = ("inference", "-i", spec, "--input_type", "dir", "--input", photos)
    done = run_bpnet(*arguments, "-r", results, "--dump_visualizations")
    assert done.code == 2
    assert ".png: " in done.err or f"error: {results}: " in done.err


def test_results_folder_recreated_during_the_run_is_an_error(
    run_bpnet, fixed_engine, spec, photos, tmp_path, monkeypatch
):
    results = tmp_path / "results"
    write, one_at_a_time = detections._write_picture, Lock()

    def make_again_after_the_first(path, picture):
        with one_at_a_time:
            if (results / ".lock").exists():
                shutil.rmtree(results)
                path.parent.mkdir(parents=True)
            write(path, picture)

    monkeypatch.setattr(detections, "_write_picture", make_again_after_the_first)
    arguments = ("inference", "-i", spec, "--input_type", "dir", "--input", photos)
    done = run_bpnet(*arguments, "-r", results, "--dump_visualizations")
    assert done.code == 2
    assert f"error: {results}: " in done.err
    assert statuses(results)[-1] == "FAILURE"


def test_fields_of_the_input_json_are_kept(run_bpnet, fixed_engine, spec, photos, tmp_path):
    content = {
        "trip": "north", "categories": "replaced",
        "images": [{"full_image_path": "b.png", "camera": 3, "scores": "old"}],
    }  # fmt: skip
    (tmp_path / "list.json").write_text(json.dumps(content))
    done = run_bpnet(
        "inference", "-i", spec, "--input_type", "json", "--input", tmp_path / "list.json",
        "--image_root_path", photos, "-r", tmp_path / "results",
    )  # fmt: skip
    assert done.code == 0
    document = read_detections(tmp_path / "results")
    assert document["trip"] == "north"
    assert document["categories"][0]["name"] == "person"
    (entry,) = document["images"]
    assert entry["camera"] == 3
    assert entry["full_image_path"] == (photos / "b.png").as_posix()
    assert len(entry["scores"]) == 1


def test_unreadable_images_are_named_and_skipped(run_bpnet, fixed_engine, spec, photos, tmp_path):
    (photos / "empty.jpg").touch()
    whole = (photos / "a.JPG").read_bytes()
    (photos / "half.jpg").write_bytes(whole[: len(whole) // 2])
    (photos / "text.png").write_text("no image")
    arguments = ("inference", "-i", spec, "--input_type", "dir", "--input", photos)
    done = run_bpnet(*arguments, "-r", tmp_path / "results", "--dump_visualizations")
    assert done.code == 0
    assert "were skipped: 3" in done.out
    assert all(name in done.out for name in ("empty.jpg", "half.jpg", "text.png"))
    entries = read_detections(tmp_path / "results")["images"]
    assert ["error" in entry for entry in entries] == [False, False, True, True, True]
    assert not any("keypoints" in entry for entry in entries[2:])


def test_invalid_file_names_in_json_are_skipped(run_bpnet, fixed_engine, spec, photos, tmp_path):
    (tmp_path / "list.json").write_text(r'["a\u0000b.jpg", "a\ud800.jpg", "b.png"]')
    done = run_bpnet(
        "inference", "-i", spec, "--input_type", "json", "--input", tmp_path / "list.json",
        "--image_root_path", photos, "-r", tmp_path / "results",
    )  # fmt: skip
    assert done.code == 0
    assert "were skipped: 2" in done.out
    entries = read_detections(tmp_path / "results")["images"]
    assert ["file name" in entry.get("error", "") for entry in entries] == [1, 1, 0]


def test_options_import_no_large_library():
    code = (
        "import sys, bodyposenet.commands.inference;"
        "print(*{'numpy', 'cv2', 'torch', 'numba'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []


def test_run_without_readable_images_fails(run_bpnet, fixed_engine, spec, tmp_path):
    (tmp_path / "a.jpg").touch()
    done = run_bpnet("inference", "-i", spec, "--input", tmp_path / "a.jpg", "-r", tmp_path / "r")
    assert done.code == 2
    assert "a.jpg" in done.err
    assert statuses(tmp_path / "r")[-1] == "FAILURE"


def test_one_image_with_default_options(run_bpnet, photos, tmp_path):
    done = run_bpnet(
        "inference", "--input", photos / "b.png", "--results_dir", tmp_path / "results"
    )
    assert done.code == 0, done.err
    assert "the default model" in done.err
    document = read_detections(tmp_path / "results")
    assert Path(document["inference_spec"]["model_path"]) == default_model()
    entry = document["images"][0]
    picture = cv2.imread(str(tmp_path / "results/images_annotated" / entry["viz_name"]))
    assert picture.shape == cv2.imread(str(photos / "b.png")).shape


def test_a_missing_model_is_an_error(run_bpnet, photos, tmp_path):
    arguments = ("inference", "--input", photos / "b.png", "-r", tmp_path / "results")
    missing = run_bpnet(*arguments, "-m", tmp_path / "none.tlt")
    assert missing.code == 2
    assert "none.tlt: no such model file" in missing.err


@pytest.mark.parametrize("extension", ["ckzip", "pth"])
def test_other_kinds_of_models_are_errors(run_bpnet, photos, tmp_path, extension):
    model = tmp_path / f"model.{extension}"
    model.touch()
    done = run_bpnet("inference", "--input", photos / "b.png", "-r", tmp_path, "-m", model)
    assert done.code == 2
    assert "not a model file" in done.err
    assert ".tlt" in done.err


def test_input_is_required(run_bpnet):
    assert run_bpnet("inference", "-m", "model.tlt").code == 2


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """A folder with the files of an untrained network, plain and sealed."""
    import torch

    from bodyposenet.model.checkpoint import save_model
    from bodyposenet.model.network import BodyPoseNetwork, Normalization
    from bodyposenet.specs.network import BackboneAttributes, ModelConfig

    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    backbone = BackboneAttributes(architecture="lightweight_openpose", width=0.25)
    config = ModelConfig(backbone_attributes=backbone, stages=1)
    network = BodyPoseNetwork(CROSS, config, Normalization())
    save_model(folder / "plain.tlt", network)
    save_model(folder / "sealed.tlt", network, key="secret")
    return folder


def test_real_model_files(run_bpnet, models, spec, photos, tmp_path):
    arguments = ("inference", "-i", spec, "--input", photos / "b.png", "-r", tmp_path / "results")
    assert run_bpnet(*arguments, "-m", models / "plain.tlt").code == 0
    assert run_bpnet(*arguments, "-m", models / "sealed.tlt", "-k", "secret").code == 0
    wrong = run_bpnet(*arguments, "-m", models / "sealed.tlt", "-k", "other")
    assert wrong.code == 2
    assert "sealed.tlt" in wrong.err


def test_missing_stage_is_an_error(run_bpnet, models, spec, photos, tmp_path):
    spec.write_text(spec.read_text() + "output_stage_to_use: 2\n")
    done = run_bpnet(
        "inference", "-i", spec, "-m", models / "plain.tlt", "-r", tmp_path,
        "--input", photos / "b.png",
    )  # fmt: skip
    assert done.code == 2
    assert "infer.yaml:3: output_stage_to_use: there is no stage 2, the model has 1" in done.err


def test_train_spec_must_match_the_model(run_bpnet, models, spec, photos, tmp_path):
    train = tmp_path / "train.yaml"
    arguments = (
        "inference", "-i", spec, "-m", models / "plain.tlt", "-r", tmp_path,
        "--input", photos / "b.png",
    )  # fmt: skip
    spec.write_text(spec.read_text() + f"train_spec: {train}\n")
    absent = run_bpnet(*arguments)
    assert absent.code == 0
    assert "does not exist" in absent.err
    write_train_spec(train, tmp_path / "pose.json", CROSS)
    assert run_bpnet(*arguments).code == 0
    fewer = Skeleton("cross", CROSS.joints, CROSS.limbs[:3])
    write_train_spec(train, tmp_path / "pose.json", fewer, scale=255.0)
    done = run_bpnet(*arguments)
    assert done.code == 2
    assert "differ in limbs, image_scale" in done.err


def write_train_spec(path: Path, pose: Path, skeleton: Skeleton, scale: float = 256.0) -> None:
    pose.write_text(json.dumps(skeleton.to_pose_configuration()))
    (path.parent / "dataset.json").write_text("{}")
    path.write_text(
        json.dumps(
            {
                "dataloader": {
                    "pose_config": {"pose_config_path": str(pose)},
                    "dataset_config": {
                        "root_data_path": ".",
                        "train_records_path": ["records"],
                        "dataset_specs": {"x": "dataset.json"},
                    },
                    "normalization_params": {"image_scale": [scale] * 3},
                },
                "model": {"stages": 1},
                "optimizer": {
                    "__class_name__": "AdamW",
                    "learning_rate_schedule": {"__class_name__": "BpNetExponentialDecayLRSchedule"},
                },
            }
        )
    )
