"""Folders of the output formats, and the checks before they are written."""

from dataclasses import replace
from typing import get_args, get_type_hints

import pytest

from bodyposenet.commands.inference import InferenceOptions
from bodyposenet.data.formats.output import (
    OUTPUT_FORMATS,
    check_output_formats,
    write_predictions,
)
from bodyposenet.errors import BodyPoseNetError

from .predicted import images, video


def files_of(folder) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


def test_the_option_lists_all_formats():
    hint = get_type_hints(InferenceOptions)["output_format"]
    assert get_args(get_args(hint)[0]) == tuple(OUTPUT_FORMATS)


@pytest.mark.parametrize("name", [name for name, output in OUTPUT_FORMATS.items()])
def test_a_second_run_replaces_the_folder(tmp_path, name):
    is_video = OUTPUT_FORMATS[name].write_images is None
    predictions = video() if is_video else images()
    (folder,) = write_predictions([name], tmp_path, predictions)
    written = files_of(folder)
    stale = next(iter(written)).replace("dance", "walk").replace("empty", "former")
    (folder / stale).touch()
    check_output_formats([name], tmp_path, is_video=is_video, has_tracks=is_video)
    write_predictions([name], tmp_path, predictions)
    assert files_of(folder) == written
    assert [file.name for file in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("name", "is_video", "has_tracks", "facts"),
    [
        ("coco", True, True, "images"),
        ("deeplabcut", False, False, "videos"),
        ("deeplabcut", True, False, "--track"),
    ],
)
def test_formats_that_do_not_fit_are_errors(tmp_path, name, is_video, has_tracks, facts):
    with pytest.raises(BodyPoseNetError, match=f"(?s){name}.*{facts}"):
        check_output_formats([name], tmp_path, is_video=is_video, has_tracks=has_tracks)


def test_other_files_are_not_removed(tmp_path):
    notes = tmp_path / "csv" / "notes.txt"
    notes.parent.mkdir()
    notes.touch()
    with pytest.raises(BodyPoseNetError, match=r"notes\.txt"):
        check_output_formats(["openpose", "csv"], tmp_path, is_video=False, has_tracks=False)
    (tmp_path / "openpose").touch()
    with pytest.raises(BodyPoseNetError, match="openpose: not a folder"):
        check_output_formats(["openpose"], tmp_path, is_video=False, has_tracks=False)


def test_an_error_keeps_the_earlier_files(tmp_path, monkeypatch):
    write_predictions(["csv"], tmp_path, images())
    before = (tmp_path / "csv" / "poses.csv").read_bytes()

    def fail(folder, _):
        raise BodyPoseNetError(f"{folder / 'poses.csv'}: no space left")

    monkeypatch.setitem(OUTPUT_FORMATS, "csv", replace(OUTPUT_FORMATS["csv"], write_images=fail))
    with pytest.raises(BodyPoseNetError) as raised:
        write_predictions(["csv"], tmp_path, images())
    assert str(tmp_path / "csv" / "poses.csv") in raised.value.what
    assert (tmp_path / "csv" / "poses.csv").read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["csv"]
