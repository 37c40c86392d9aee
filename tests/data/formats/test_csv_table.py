"""The CSV table."""

import csv

import numpy as np
import pytest

from bodyposenet.data.formats import csv_table

from .predicted import images, poses, video


def read(path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_one_row_per_person_and_joint_of_each_image(tmp_path):
    csv_table.OUTPUT_FORMAT.write_images(tmp_path, images())
    rows = read(tmp_path / "poses.csv")
    assert [row["image"] for row in rows] == ["a.jpg"] * 34 + ["more/b.jpg"] * 17
    people = poses()
    assert [row["joint"] for row in rows[:17]] == list(people.skeleton.joints)
    assert (rows[0]["x"], rows[0]["y"], rows[0]["score"]) == ("", "", "0.0")
    points = [[float(row["x"]), float(row["y"])] for row in rows[17:34]]
    np.testing.assert_allclose(points, people.keypoints[1], atol=0.01)
    assert {row["joint"] for row in rows if row["inferred"] == "1"} == {"left_wrist"}
    assert {row["track_id"] for row in rows} == {""}


def test_frames_have_index_time_and_track_id(tmp_path):
    csv_table.OUTPUT_FORMAT.write_video(tmp_path, video())
    rows = read(tmp_path / "poses.csv")[::17]
    found = [(row["frame"], row["time"], row["person"], row["track_id"]) for row in rows]
    assert found == [
        ("0", "0.0", "0", "1"), ("1", "0.1", "0", "4"), ("1", "0.1", "1", "1"),
        ("2", "0.2", "0", ""),
    ]  # fmt: skip


def test_pandas_reads_it(tmp_path):
    pandas = pytest.importorskip("pandas")
    csv_table.OUTPUT_FORMAT.write_images(tmp_path, images())
    table = pandas.read_csv(tmp_path / "poses.csv")
    assert len(table) == 51
    assert table.x.isna().sum() == 1
