"""`--processes` and `--ray`: the same results as in one process, and resuming."""

import json
import multiprocessing
import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest

from bodyposenet.inference.parallel import ray_cluster as cluster


def bpnet(*arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "bodyposenet.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def photos(drawn_dataset, tmp_path) -> Path:
    """The test images of the synthetic dataset, and a file that is not an image."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for image in sorted((drawn_dataset.folder / "test").iterdir()):
        (folder / image.name).symlink_to(image)
    (folder / "000002b.jpg").write_text("no image")
    return folder


@pytest.fixture
def model(exported) -> tuple[object, ...]:
    return ("-i", exported / "infer.yaml", "-m", exported / "model.onnx", "--threads", 1)


def read(results: Path, name: str) -> object:
    return json.loads((results / name).read_text())


def test_several_processes_give_the_detections_of_one(run_bpnet, model, photos, tmp_path):
    command = ("inference", *model, "--input_type", "dir", "--input", photos)
    one = run_bpnet(*command, "--dump_visualizations", "-r", tmp_path / "one")
    two = run_bpnet(
        *command, "--dump_visualizations", "-r", tmp_path / "two", "--processes", 2, "--benchmark"
    )
    assert one.code == two.code == 0
    found = read(tmp_path / "two", "detections.json")
    assert found == read(tmp_path / "one", "detections.json")
    assert len(found["images"]) == 7 and any(entry.get("scores") for entry in found["images"])
    assert "000002b.jpg: not an image" in two.out and "skipped" in two.err
    assert " images/s" in two.out
    for picture in (tmp_path / "one" / "images_annotated").iterdir():
        other = tmp_path / "two" / "images_annotated" / picture.name
        assert other.read_bytes() == picture.read_bytes()


def test_several_processes_give_the_metrics_of_one(run_bpnet, model, drawn_dataset, tmp_path):
    command = ("evaluate", *model, "-d", drawn_dataset.spec)
    assert run_bpnet(*command, "-r", tmp_path / "one").code == 0
    assert run_bpnet(*command, "-r", tmp_path / "two", "--processes", 2).code == 0
    for name in ("detections_coco_format.json", "results.json", "detections.json"):
        assert read(tmp_path / "two", name) == read(tmp_path / "one", name)


@pytest.mark.parametrize(
    "flags, message",
    [
        (("--processes", 0), "--processes 0"),
        (("--overwrite",), "--ray"),
        (("--track", "--vid_stride", 2), "--track, --vid_stride: "),
        (("--input_type", "video", "--processes", 2), "--processes: "),
        (("--input_type", "video", "--overwrite"), "--overwrite: "),
        (("--input_type", "webcam", "--batch", 2), "--batch: "),
        (("--input_type", "video", "--image_format", "jpg"), "--image_format: "),
    ],
)
def test_flags_without_effect_are_rejected(run_bpnet, model, photos, tmp_path, flags, message):
    done = run_bpnet(
        "inference", *model, "--input_type", "dir", "--input", photos, "-r", tmp_path / "r", *flags
    )
    assert done.code == 2
    assert message in done.err


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_killed_process_keeps_earlier_results(run_bpnet, model, photos, tmp_path, monkeypatch):
    """The last image is a pipe without content, so that the run cannot end before the kill."""
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)
    paths = [*map(str, sorted(photos.iterdir()) * 10), str(pipe)]
    (tmp_path / "list.json").write_text(json.dumps(paths))

    def kill_one(found, *_):
        try:
            for count, entry in enumerate(found):
                if count == 3:
                    multiprocessing.active_children()[0].kill()
                yield entry
        finally:  # end the read of the other process, which may wait for the pipe
            end = os.open(pipe, os.O_RDWR)
            pipe.unlink()
            os.close(end)

    monkeypatch.setattr("bodyposenet.commands.inference.progress", kill_one)
    done = run_bpnet(
        "inference", *model, "--input_type", "json", "--input", tmp_path / "list.json",
        "--processes", 2, "-r", tmp_path / "r",
    )  # fmt: skip
    assert done.code == 2
    assert "a predictor process died (exit code" in done.err
    entries = read(tmp_path / "r", "detections.json")["images"]
    assert 3 < len(entries) < len(paths)
    assert f"after {len(entries)} of {len(paths)} images" in done.err
    last = (tmp_path / "r" / "status.json").read_text().splitlines()[-1]
    assert json.loads(last)["status"] == "FAILURE"


@pytest.fixture
def cluster_here(monkeypatch):
    """Run the work of a cluster in this process; the list has the numbers of the items per run."""
    given = []

    def answer(open_predictor, work, numbered, options):
        given.append([number for number, _ in numbered])
        items = [item for _, item in numbered]
        results = work.pipeline(open_predictor(options.threads)).run(items)
        for (number, _), result in zip(numbered, results, strict=True):
            yield number, json.dumps(work.store(result))

    for name in ("ray", "ray.data"):
        monkeypatch.setitem(sys.modules, name, object())
    monkeypatch.setattr(cluster, "_map", answer)
    monkeypatch.setattr(cluster, "_connection", lambda _: nullcontext())
    return given


def test_second_run_processes_changed_images_only(run_bpnet, model, photos, tmp_path, cluster_here):
    def run(*flags, task="inference", code=0):
        images = ("--input_type", "dir", "--input", photos, "--dump_visualizations")
        where = ("-r", tmp_path / "r", "--ray", "auto")
        done = run_bpnet(task, *model, *where, *(images if task == "inference" else ()), *flags)
        assert done.code == code, done.err
        return done

    run()
    first = read(tmp_path / "r", "detections.json")
    run("--engine", "onnx", "--precision", "fp32")  # the defaults
    (tmp_path / "r" / "images_annotated" / "000003.png").unlink()
    run()
    assert read(tmp_path / "r", "detections.json") == first
    names = sorted(photos.iterdir())
    content = names[2].read_bytes()
    names[1].unlink()
    names[1].write_bytes(content)
    run()
    bad = names.index(photos / "000002b.jpg")
    assert cluster_here == [list(range(7)), [bad], [bad, 4], sorted({bad, 1})]
    assert "another engine" in run("--engine", "openvino", code=2).err


def test_stored_results_of_another_command_are_rejected(
    run_bpnet, model, photos, drawn_dataset, tmp_path, cluster_here
):
    command = (*model, "-r", tmp_path, "--ray", "auto")
    images = ("inference", *command, "--input_type", "dir", "--input", photos)
    assert run_bpnet(*images).code == 0
    for other in (
        (*images, "--dump_visualizations"),
        ("evaluate", *command, "-d", drawn_dataset.spec),
    ):
        done = run_bpnet(*other)
        assert done.code == 2 and "another work" in done.err
    assert run_bpnet("evaluate", *command, "-d", drawn_dataset.spec, "--overwrite").code == 0


@pytest.mark.slow
def test_cluster_gives_the_results_of_one_process(model, photos, drawn_dataset, tmp_path):
    """Runs in separate processes: Ray starts threads and handlers that outlive a test."""
    pytest.importorskip("ray")
    images = ("inference", *model, "--input_type", "dir", "--input", photos)
    cluster = ("--ray", "local", "--processes", 2)
    one = bpnet(*images, "-r", tmp_path / "one")
    two = bpnet(*images, *cluster, "-r", tmp_path / "two")
    assert one.returncode == two.returncode == 0, two.stderr
    found = (tmp_path / "one" / "detections.json").read_bytes()
    assert (tmp_path / "two" / "detections.json").read_bytes() == found
    assert "000002b.jpg: not an image" in two.stdout
    (part,) = (tmp_path / "two" / "parts").glob("*.jsonl")
    lines = part.read_text().splitlines()
    assert len(lines) == 7
    part.write_text("".join(f"{line}\n" for line in lines[:3]))  # as after an interrupted run
    again = bpnet(*images, *cluster, "-r", tmp_path / "two")
    assert again.returncode == 0, again.stderr
    assert "reusing " in again.stderr
    assert (tmp_path / "two" / "detections.json").read_bytes() == found
    (tmp_path / "infer.yaml").write_text("input_shape: [96, 96]\n")
    other = bpnet(*images, *cluster, "-r", tmp_path / "two", "-i", tmp_path / "infer.yaml")
    assert other.returncode == 2
    assert "another inference spec" in other.stderr and "--overwrite" in other.stderr
    test_data = ("evaluate", *model, "-d", drawn_dataset.spec)
    assert bpnet(*test_data, "-r", tmp_path / "three").returncode == 0
    assert bpnet(*test_data, *cluster, "-r", tmp_path / "four").returncode == 0
    name = "results.json"
    assert read(tmp_path / "four", name) == read(tmp_path / "three", name)
