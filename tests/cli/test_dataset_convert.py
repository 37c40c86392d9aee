"""`bpnet dataset_convert`: records, masks, pseudo-labels, summary and errors."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from bodyposenet.data import masks
from bodyposenet.data.records import RecordSet
from bodyposenet.data.reduced_images import ReducedImageReader
from bodyposenet.directory_lock import directory_lock

from ..data.coco_files import JOINTS, image, person, unlabeled, write_spec
from ..media.jpegs import exif_segment

IMAGES = [image(1), image(2), image(3)]
PEOPLE = [
    person(1),
    unlabeled(2, bbox=[80, 10, 30, 50]),
    person(3, 2),
    person(4, 2, flags=(2, 0, 0)),
]


def write_images(folder, *names, height=120, width=160):
    (folder / "images").mkdir(exist_ok=True)
    for name in names:
        assert cv2.imwrite(str(folder / "images" / name), np.zeros((height, width, 3), np.uint8))


@pytest.fixture
def convert(run_bpnet, tmp_path):
    """Convert a toy dataset: `convert(images, annotations, *flags)` -> result, records."""

    def run(images, annotations, *flags, output=None, **changes):
        spec = write_spec(tmp_path, images, annotations, **changes)
        if not (tmp_path / "images").exists():
            write_images(tmp_path, "0001.jpg")  # one existing file is enough
        output = output or tmp_path / "out" / "toy"
        result = run_bpnet("dataset_convert", "-d", spec, "-o", output, *flags)
        paths = sorted(Path(output).parent.glob(Path(output).name + "*"))
        return result, RecordSet(paths) if result.code == 0 else None

    return run


def counts_of(folder):
    """Return the counts of a conversion from its status.json."""
    lines = (folder / "out" / "status.json").read_text().splitlines()
    return next(row for row in map(json.loads, lines) if row["status"] == "RUNNING")


def test_records_masks_and_a_summary(convert, tmp_path):
    result, records = convert(IMAGES, PEOPLE, "--generate_masks", "-m", "train")
    assert result.code == 0, result.err
    assert sorted(record.image_id for record in records) == [1, 2]
    assert records.paths[0].name == "toy-fold-000-of-001"
    mask = cv2.imread(str(tmp_path / records[0].mask_path), cv2.IMREAD_UNCHANGED)
    assert mask.shape == (120, 160)
    ignored = cv2.imread(str(tmp_path / "masks" / "0001.png"), cv2.IMREAD_UNCHANGED) == 0
    assert ignored.sum() == 30 * 50
    lines = " ".join(result.out.split())
    for count in (
        "3 images", "2 records", "2 masks", "3 people in records", "1 TFRecord files",
        "1 images without annotations",
        "2 people who are not anchor persons: fewer than 2 labeled keypoints",
    ):  # fmt: skip
        assert count in lines
    assert "Execution status: PASS" in result.out
    assert f"{tmp_path / 'masks'}: 2 masks" in result.err


def test_status_file_is_beside_the_records_or_in_the_results_folder(convert, tmp_path):
    convert(IMAGES, PEOPLE)
    convert(IMAGES, PEOPLE, "-r", tmp_path / "results")
    for folder in ("out", "results"):
        lines = (tmp_path / folder / "status.json").read_text().splitlines()
        rows = [json.loads(line) for line in lines]
        assert [row["status"] for row in rows] == ["STARTED", "RUNNING", "SUCCESS"]
        assert rows[1]["done"]["records"] == 2
        assert rows[1]["left_out"]["images without annotations"] == 1


def test_conversion_is_deterministic(convert, tmp_path):
    contents = []
    for name, processes in (("a", 1), ("b", 2)):
        flags = ("--generate_masks", "-p", 2, "-s", 2, "--num_processes", processes)
        images = [image(n) for n in range(1, 81)]
        people = [person(n, n) for n in range(1, 81)] + [unlabeled(99, 5)]
        convert(images, people, *flags, output=tmp_path / name / "toy")
        masks = [path.read_bytes() for path in sorted((tmp_path / "masks").iterdir())]
        shards = sorted((tmp_path / name).glob("toy-*"))
        assert shards[1].name == "toy-fold-000-of-002-shard-00001-of-00002"
        contents.append((masks, [path.read_bytes() for path in shards]))
    assert contents[0] == contents[1]
    assert len(contents[0][1]) == 4


def test_test_data_and_an_output_without_a_folder(convert, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result, records = convert(IMAGES, PEOPLE, "-m", "test", output="plain")
    assert result.code == 0, result.err
    assert [path.name for path in records.paths] == ["plain-fold-000-of-001"]


def test_check_files_skips_unusable_images(convert, tmp_path):
    names = ["good.jpg", "good.png", "large.jpg", "zero.jpg", "absent.jpg", "text.jpg"]
    names += ["head.jpg", "cut.jpg", "cut.png"]
    stems = {"good.png": "other.png", "cut.png": "half.png"}
    images = [image(n, stems.get(name, name)) for n, name in enumerate(names)]
    people = [person(n, n) for n in range(len(names))]
    write_images(tmp_path, "good.jpg", "other.png", "head.jpg", "cut.jpg", "half.png")
    write_images(tmp_path, "large.jpg", width=161)
    for name, share in (("head.jpg", 0.05), ("cut.jpg", 0.67), ("half.png", 0.9)):
        path = tmp_path / "images" / name
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    (tmp_path / "images" / "zero.jpg").touch()
    (tmp_path / "images" / "text.jpg").write_text("no image")
    result, records = convert(images, people, "--check_files", "--generate_masks")
    assert result.code == 0, result.err
    assert {record.image_path for record in records} == {"images/good.jpg", "images/other.png"}
    counted = counts_of(tmp_path)["left_out"]
    for problem, count in (("missing", 1), ("cannot be read", 2), ("truncated", 3), ("size", 1)):
        assert [n for kind, n in counted.items() if problem in kind and n] == [count]
    assert "large.jpg" in result.err
    assert sorted(path.name for path in (tmp_path / "masks").iterdir()) == ["good.png", "other.png"]


def test_check_files_skips_images_without_masks(convert, tmp_path):
    write_images(tmp_path, "0001.jpg", "0002.jpg")
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "0002.png").touch()
    _, records = convert(IMAGES, PEOPLE, "--check_files")
    assert [record.image_id for record in records] == [2]
    assert 1 in [n for kind, n in counts_of(tmp_path)["left_out"].items() if "mask" in kind]


def add_exif(path, orientation):
    content = path.read_bytes()
    path.write_bytes(content[:2] + exif_segment(orientation) + content[2:])


def test_exchanged_sizes_are_corrected_in_records_and_masks(convert, tmp_path):
    write_images(tmp_path, "0001.jpg", height=160, width=120)
    _, records = convert(IMAGES[:1], [person(1, bbox=[10, 60, 40, 90])], "--generate_masks")
    (record,) = records
    assert cv2.imread(str(tmp_path / record.mask_path), cv2.IMREAD_UNCHANGED).shape == (160, 120)
    photo = ReducedImageReader().read(tmp_path / record.image_path, record.height, record.width)
    assert photo.shape == (160, 120, 3)
    assert list(counts_of(tmp_path)["repaired"].values()) == [1]


def test_images_of_another_size_are_logged_or_skipped(convert, tmp_path):
    write_images(tmp_path, "0001.jpg")
    write_images(tmp_path, "0002.jpg", height=160, width=120)
    people = [person(1), person(2, 2, bbox=[110, 20, 40, 80])]  # inside the annotated size only
    result, records = convert(IMAGES[:2], people)
    assert len(list(records)) == 2
    assert "0002.jpg" in result.err
    assert "--check_files" in result.err
    _, records = convert(IMAGES[:2], people, "--check_files", "--generate_masks")
    assert [record.image_id for record in records] == [1]
    assert not counts_of(tmp_path)["repaired"]


def test_missing_images_are_an_error(convert, tmp_path):
    (tmp_path / "images").mkdir()
    result, _ = convert(IMAGES, PEOPLE, "--generate_masks")
    assert result.code == 2
    assert str(tmp_path / "images") in result.err
    assert "images_root_dir_path" in result.err
    assert not (tmp_path / "masks").exists()


def test_windows_file_names_are_repaired(convert, tmp_path):
    (tmp_path / "images" / "deep").mkdir(parents=True)
    write_images(tmp_path, "deep/a.jpg")
    result, records = convert([image(1, "deep\\a.jpg")], [person(1)], "--generate_masks")
    assert records[0].image_path == "images/deep/a.jpg"
    assert (tmp_path / "masks" / "deep" / "a.png").is_file()
    assert list(counts_of(tmp_path)["repaired"].values()) == [1]
    result, _ = convert([image(1, "deep\\b.jpg")], [person(1)])
    assert result.code == 2
    assert "b.jpg" in result.err


def test_repairs_are_in_summary_and_status(convert, tmp_path):
    result, records = convert(IMAGES, [person(1, num_keypoints=0), person(2, 2, area=0)])
    assert len(records) == 2
    repaired = counts_of(tmp_path)["repaired"]
    assert list(repaired.values()) == [1, 1]
    for kind, word in zip(repaired, ("num_keypoints", "segmentation"), strict=True):
        assert word in kind
        assert kind in result.out


def test_image_with_exif_orientation_fits_either_size(convert, tmp_path):
    write_images(tmp_path, "0001.jpg", height=160, width=120)
    add_exif(tmp_path / "images" / "0001.jpg", 6)
    _, records = convert(IMAGES, PEOPLE, "--check_files", "--generate_masks")
    assert [record.image_id for record in records] == [1]


@pytest.mark.parametrize("orientation", [2, 3, 4])
def test_orientations_that_keep_the_size_are_logged(convert, tmp_path, orientation):
    write_images(tmp_path, "0001.jpg", "0002.jpg")
    add_exif(tmp_path / "images" / "0001.jpg", orientation)
    result, records = convert(IMAGES, PEOPLE)
    assert len(list(records)) == 2
    (line,) = (line for line in result.err.splitlines() if "EXIF" in line)
    assert "0001.jpg" in line
    assert " 1 " in line


def write_detections(folder, *people):
    """Write a detections.json of people, each (number of the image, x of the left side, score)."""
    images = [
        {"full_image_path": f"/photos/{number:04d}.jpg", "keypoints": [], "scores": []}
        for number in range(1, 5)
    ]
    for number, x, score in people:
        images[number - 1]["keypoints"].append([[x + 10, 10], [x, 50], [x + 20, 90]])
        images[number - 1]["scores"].append(score)
    path = folder / "detections.json"
    path.write_text(json.dumps({"keypoint_names": JOINTS, "images": images}))
    return path


def test_detections_become_labels_and_masked_regions(convert, tmp_path):
    detections = write_detections(
        tmp_path, (1, 20, 0.99), (1, 120, 0.8), (2, 100, 0.95), (3, 60, 0.7), (3, 100, 0.2),
        (4, 1, 0.99),
    )  # fmt: skip
    flags = ("--generate_masks", "--pseudo_labels", detections, "--pseudo_score_high", 0.9)
    people = [person(1), person(2, 2)]
    contents = []
    for _ in range(2):
        result, records = convert(IMAGES, people, *flags, "--pseudo_score_low", 0.6)
        assert result.code == 0, result.err
        contents.append(records.paths[0].read_bytes())
    assert contents[0] == contents[1]
    lines = " ".join(result.out.split())
    for count in (
        "1 detections added as labels",
        "2 detections added as masked regions",
        "3 records",
        "3 masks",
        "1 detections of annotated people, or repeated",
        "1 detections with a score below --pseudo_score_low",
        "1 detections in images that are not annotated",
    ):
        assert count in lines
    by_anchor = {(record.image_id, record.person_index): record for record in records}
    assert sorted(by_anchor) == [(1, 0), (2, 0), (2, 1)]
    np.testing.assert_array_equal(
        by_anchor[2, 1].joints[0], [[110, 10, 2], [100, 50, 2], [120, 90, 2]]
    )
    # Image 3 has no annotations, and a mask of the detection with a low score.
    mask = cv2.imread(str(tmp_path / "masks" / "0003.png"), cv2.IMREAD_UNCHANGED)
    assert (mask == 0).sum() == 36 * 96


def test_photos_without_annotations_have_pseudo_labels(convert, tmp_path):
    detections = write_detections(tmp_path, (1, 20, 0.99), (3, 60, 0.95))
    flags = ("--pseudo_labels", detections, "--pseudo_score_low", 0.9)
    result, records = convert(IMAGES, [], *flags)
    assert result.code == 0, result.err
    assert sorted(record.image_id for record in records) == [1, 3]
    assert not (tmp_path / "masks").exists()
    assert "1 images without annotations" in " ".join(result.out.split())


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--pseudo_score_high", 0.8), "--pseudo_score_high 0.8: "),
        (("--pseudo_score_low", 0), "--pseudo_score_low 0: "),
        (("--pseudo_labels", "x", "--pseudo_score_low", 0.95), "--pseudo_score_low 0.95"),
        (("--pseudo_labels", "x", "--pseudo_score_low", -1), "--pseudo_score_low -1"),
        (("--pseudo_labels", "x", "--pseudo_score_high", "nan"), "--pseudo_score_high nan"),
        (("--pseudo_labels", "x"), "--generate_masks"),
        (("--pseudo_labels", "absent.json", "--generate_masks"), "absent.json: "),
    ],
)
def test_wrong_pseudo_label_flags_are_errors(convert, flags, message):
    result, _ = convert(IMAGES, PEOPLE, *flags)
    assert result.code == 2
    assert message in result.err


def test_masks_in_the_image_folder_are_rejected(convert, tmp_path):
    write_images(tmp_path, "a.jpg", "a.png")
    before = (tmp_path / "images" / "a.png").read_bytes()
    split = {
        "images_root_dir_path": "images",
        "mask_root_dir_path": "images",
        "annotation_root_dir_path": "annotations.json",
    }
    images, people = [image(1, "a.jpg"), image(2, "a.png")], [person(1)]
    result, _ = convert(images, people, "--generate_masks", train_data=split)
    assert result.code == 2
    assert "overwrite images" in result.err
    assert (tmp_path / "images" / "a.png").read_bytes() == before
    result, records = convert(images, people, train_data=split)
    assert [record.mask_path for record in records] == ["images/a.png"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("-m", "validate"), "'validate'"),
        (("-p", -1), "--num_partitions -1"),
        (("-s", -2), "--num_shards -2"),
        (("--num_processes", 0), "--num_processes 0: "),
        (("--num_processes", -3), "--num_processes -3: "),
        (("--gpus", 2), "dataset_convert runs on one device"),
    ],
)
def test_wrong_flags_are_errors(convert, flags, message):
    result, _ = convert(IMAGES, PEOPLE, *flags)
    assert result.code == 2
    assert message in result.err


def test_nothing_to_convert_is_an_error(convert):
    result, _ = convert([], [])
    assert result.code == 2
    assert "no records to write" in result.err
    result, _ = convert(IMAGES, [unlabeled(1), unlabeled(2, 2)])
    assert result.code == 2
    assert "2 images without an anchor person" in " ".join(result.err.split())
    assert "data_filtering_params" in result.err


def test_broken_annotations_are_one_error(convert, tmp_path, run_bpnet):
    result, _ = convert(IMAGES, [person(1), person(1, bbox=[0, 0, 1, float("nan")])])
    assert result.code == 2
    assert "annotation 1: repeated id" in result.err
    (tmp_path / "annotations.json").write_text('{"images": [')
    result = run_bpnet("dataset_convert", "-d", tmp_path / "spec.json", "-o", tmp_path / "o" / "x")
    assert result.code == 2
    assert "annotations.json:1: not valid JSON" in result.err
    assert "Traceback" not in result.err


def test_no_records_are_written_after_a_broken_mask(convert, tmp_path):
    broken = unlabeled(9, segmentation=[[1, 2, 3, 4, 5, float("nan")]])
    result, _ = convert(IMAGES, [*PEOPLE, broken], "--generate_masks")
    assert result.code == 2
    assert "0001.png: annotation 9: invalid segmentation" in result.err
    assert not list((tmp_path / "out").glob("toy*"))


def test_an_output_folder_that_cannot_be_written_is_an_error(convert, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    result, _ = convert(IMAGES, PEOPLE, output=tmp_path / "file" / "toy")
    assert result.code == 2
    assert f"{tmp_path / 'file'}: " in result.err
    result, _ = convert(IMAGES, PEOPLE, output=f"{tmp_path}{os.sep}folder{os.sep}")
    assert result.code == 2
    assert "is a folder" in result.err


def names_below(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.is_file()]


def test_sigterm_leaves_no_unfinished_files(convert, tmp_path, monkeypatch):
    for place in ("bodyposenet.data.conversion.progress", "bodyposenet.data.masks.progress"):

        def terminate_after_first(items, *_):
            yield next(items)
            os.kill(os.getpid(), signal.SIGTERM)
            yield from items

        with monkeypatch.context() as patch:
            patch.setattr(place, terminate_after_first)
            result, _ = convert(IMAGES, PEOPLE, "--generate_masks", "--num_processes", "1")
        assert result.code == 130
        assert not [name for name in names_below(tmp_path) if ".tmp" in name]
    assert not (tmp_path / "out" / "toy-fold-000-of-001").exists()


def start_drawing(tmp_path: Path) -> subprocess.Popen:
    """Start a command, as the leader of a process group, and wait until it draws masks."""
    images = [image(number) for number in range(1, 4 * masks._MASKS_PER_TASK)]
    people = [person(number, number) for number in range(1, len(images) + 1)]
    spec = write_spec(tmp_path, images, people)
    write_images(tmp_path, "0001.jpg")
    command = ["dataset_convert", "-d", spec, "-o", tmp_path / "out" / "toy", "--generate_masks"]
    process = subprocess.Popen(
        [sys.executable, "-m", "bodyposenet.cli", *map(str, command), "--num_processes", "2"],
        start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while process.poll() is None and not any(tmp_path.rglob("*.png")):
        time.sleep(0.01)
    return process


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="this system has no process groups")
def test_sigterm_to_all_processes_leaves_no_unfinished_masks(tmp_path):
    """Clusters send SIGTERM to all processes of a command."""
    with start_drawing(tmp_path) as process:
        os.killpg(process.pid, signal.SIGTERM)
        assert process.wait(30) == 130
    assert not [name for name in names_below(tmp_path) if ".tmp" in name]


def test_mask_processes_end_if_the_command_is_killed(tmp_path):
    with start_drawing(tmp_path) as process:
        process.kill()
        process.communicate(timeout=30)  # waits until all of them have closed it


def test_second_conversion_of_one_prefix_is_an_error(convert, tmp_path):
    (tmp_path / "out").mkdir()
    with directory_lock(tmp_path / "out", "toy"):
        assert convert(IMAGES, PEOPLE)[0].code == 2
        assert convert(IMAGES, PEOPLE, output=tmp_path / "out" / "other")[0].code == 0
    assert convert(IMAGES, PEOPLE)[0].code == 0
