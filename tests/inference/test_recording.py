"""Tests of the preview window."""

import cv2
import numpy as np

from bodyposenet.inference.recording import PreviewWindow

FRAME = np.zeros((48, 64, 3), np.uint8)


def test_no_window_without_a_display(monkeypatch, caplog):
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with PreviewWindow() as window:
        assert window.show(FRAME)
        assert window.show(FRAME)
    assert caplog.text.count("there is no display") == 1


def test_no_window_if_opencv_is_built_without_windows(monkeypatch, caplog):
    def fail(*_):
        raise cv2.error("not implemented")

    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(cv2, "namedWindow", fail)
    with PreviewWindow() as window:
        assert window.show(FRAME)
    assert "built without windows" in caplog.text


def test_a_window_shows_frames_until_q_is_pressed(monkeypatch):
    shown, keys = [], iter([-1, ord("q")])
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(cv2, "namedWindow", lambda *_: None)
    monkeypatch.setattr(cv2, "imshow", lambda _, pixels: shown.append(pixels))
    monkeypatch.setattr(cv2, "waitKey", lambda _: next(keys))
    monkeypatch.setattr(cv2, "destroyWindow", lambda _: shown.append("closed"))
    with PreviewWindow() as window:
        assert window.show(FRAME + np.uint8([200, 0, 0]))
        assert not window.show(FRAME + np.uint8([200, 0, 0]))
    assert shown[0][0, 0].tolist() == [0, 0, 200]
    assert shown[-1] == "closed"
