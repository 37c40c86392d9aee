"""Tests of examples/readme_picture.py."""

import runpy
from pathlib import Path

import cv2

SCRIPT = Path(__file__).parents[2] / "examples" / "readme_picture.py"


def test_all_people_in_the_picture_are_detected(tmp_path, capsys):
    main = runpy.run_path(str(SCRIPT))["main"]
    picture = tmp_path / "people.png"
    assert main([str(picture)]) == 0
    assert "8 of 8 people" in capsys.readouterr().out
    assert cv2.imread(str(picture)).shape == (432, 1200, 3)
    assert picture.stat().st_size < 400_000
