"""`bpnet browse`: the gallery of a dataset."""

import json
import shutil

import pytest

import bodyposenet
from tests.reporting.html_page import HtmlPage


def test_gallery_with_training_samples(run_bpnet, drawn_dataset, write_train_spec, tmp_path):
    gallery = tmp_path / "gallery"
    run = run_bpnet("browse", "-d", drawn_dataset.spec, "-e", write_train_spec(), "-o", gallery)
    assert run.code == 0, run.err
    assert str(gallery / "browse.html") in run.out
    page = HtmlPage(gallery / "browse.html")
    assert "12 of 12 images" in page.text
    samples = [picture for picture in page.pictures if picture.shape[:2] == (64, 64)]
    assert len(samples) % 3 == 0 and len(samples) > 3
    assert page.shapes["joint"] > 100


def test_gallery_of_the_test_data_from_python(drawn_dataset, tmp_path):
    page = tmp_path / "page.html"
    result = bodyposenet.browse_dataset(
        dataset_spec=drawn_dataset.spec, results_dir=page, mode="test", max_images=2
    )
    assert result.page == page
    assert not [finding for finding in result.findings if finding.severity == 0]
    assert len(HtmlPage(page).pictures) <= 2


def test_mistakes_are_summarized(run_bpnet, drawn_dataset, tmp_path):
    spec = json.loads(drawn_dataset.spec.read_text())
    annotations = json.loads(
        (drawn_dataset.folder / spec["train_data"]["annotation_root_dir_path"]).read_text()
    )
    images, copies = tmp_path / "images", annotations["images"][:4]
    images.mkdir()
    source = drawn_dataset.folder / spec["train_data"]["images_root_dir_path"]
    for entry in annotations["images"]:
        shutil.copy(source / entry["file_name"], images)
    shutil.copy(images / copies[0]["file_name"], images / copies[1]["file_name"])
    for annotation in annotations["annotations"]:
        x, y, width, height = annotation["bbox"]
        annotation["bbox"] = [x, y, x + width, y + height]
    (tmp_path / "annotations.json").write_text(json.dumps(annotations))
    split = {
        "images_root_dir_path": "images", "mask_root_dir_path": "masks",
        "annotation_root_dir_path": "annotations.json",
    }  # fmt: skip
    spec |= {"root_directory_path": str(tmp_path), "train_data": split, "test_data": split}
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    run = run_bpnet("browse", "-d", tmp_path / "spec.json", "-o", tmp_path)
    assert run.code == 0, run.err
    assert "boxes as x1, y1, x2, y2" in run.out
    assert "same image several times" in run.out
    assert "1 same image in train and test data" in run.out  # one finding for all images


@pytest.mark.parametrize("flags", [("-m", "test"), ("-e", "missing.yaml"), ("--max_images", "0")])
def test_errors(run_bpnet, drawn_dataset, tmp_path, flags):
    spec = json.loads(drawn_dataset.spec.read_text())
    del spec["test_data"]
    spec["root_directory_path"] = str(drawn_dataset.folder)
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    run = run_bpnet("browse", "-d", tmp_path / "spec.json", "-o", tmp_path, *flags)
    assert run.code == 2
    assert not (tmp_path / "browse.html").exists()
