"""DeepLabCut's tables."""

from dataclasses import replace

import numpy as np
import pytest

from bodyposenet.data.formats import deeplabcut
from bodyposenet.data.formats.predictions import PredictedFrame, VideoPredictions

from ...media.walkers import SKELETON
from .predicted import MODEL, poses, video

LEVELS = ["scorer", "individuals", "bodyparts", "coords"]


def check(table):
    """Check a data frame of `video`: person1 is in frames 0 and 1, person4 in frame 1."""
    assert list(table.columns.names) == LEVELS
    assert list(table.index) == [0, 1, 2]
    assert set(table.columns.get_level_values("scorer")) == {MODEL}
    first = table[MODEL]["person1"]
    assert list(dict.fromkeys(first.columns.get_level_values("bodyparts"))) == list(SKELETON.joints)
    expected = poses()
    for joint, points in zip(SKELETON.joints, expected.keypoints.transpose(1, 0, 2), strict=True):
        found = first[joint][["x", "y"]].to_numpy()
        np.testing.assert_allclose(found[:2], points, atol=0.01)
        assert np.isnan(found[2]).all()
    other = table[MODEL]["person4"]["left_ankle"]
    np.testing.assert_allclose(other.likelihood[1], expected.keypoint_scores[0, 15], atol=1e-4)
    assert np.isnan(table[MODEL]["person4"]["nose"].likelihood[1])


@pytest.fixture
def pandas():
    return pytest.importorskip("pandas")


def test_csv(tmp_path, pandas, caplog):
    caplog.set_level("INFO")
    deeplabcut.OUTPUT_FORMAT.write_video(tmp_path, video())
    check(pandas.read_csv(tmp_path / f"dance_{MODEL}.csv", header=[0, 1, 2, 3], index_col=0))
    assert "1 detections without a track id" in caplog.text


def test_hdf5(tmp_path, pandas):
    pytest.importorskip("tables")
    deeplabcut.OUTPUT_FORMAT.write_video(tmp_path, video())
    check(pandas.read_hdf(tmp_path / f"dance_{MODEL}.h5", "df_with_missing"))


def test_only_csv_without_the_packages_of_hdf5(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(deeplabcut, "find_spec", lambda _: None)
    deeplabcut.OUTPUT_FORMAT.write_video(tmp_path, video())
    assert [file.name for file in tmp_path.iterdir()] == [f"dance_{MODEL}.csv"]
    assert "pip install" in caplog.text


def test_only_csv_if_the_table_does_not_fit_into_memory(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(deeplabcut, "_missing_packages", list)
    monkeypatch.setattr(deeplabcut, "_MAX_HDF5_VALUES", 100)
    deeplabcut.OUTPUT_FORMAT.write_video(tmp_path, video())
    assert [file.name for file in tmp_path.iterdir()] == [f"dance_{MODEL}.csv"]
    assert "no HDF5 file" in caplog.text


def test_frames_without_people_are_empty_rows(tmp_path, pandas):
    predictions = video()
    nobody = replace(poses()[[]], track_ids=np.array([], int))
    frames = [*predictions.frames, PredictedFrame("dance_000000000003", 3, 0.3, nobody)]
    deeplabcut.OUTPUT_FORMAT.write_video(tmp_path, replace(predictions, frames=frames))
    path = tmp_path / f"dance_{MODEL}.csv"
    table = pandas.read_csv(path, header=[0, 1, 2, 3], index_col=0)
    assert list(table.index) == [0, 1, 2, 3]
    assert table.loc[3].isna().all()


def test_a_video_without_people(tmp_path):
    frames = [frame for frame in video().frames if frame.index == 2]
    deeplabcut.OUTPUT_FORMAT.write_video(
        tmp_path, VideoPredictions(frames, SKELETON, MODEL, "dance")
    )
    lines = (tmp_path / f"dance_{MODEL}.csv").read_text().splitlines()
    assert lines == [*LEVELS, "2"]
