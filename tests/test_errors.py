"""Error texts without passwords, and checks of arguments."""

import pickle

import numpy as np
import pytest

from bodyposenet.errors import BodyPoseNetError, check_count, check_score, mask_passwords


@pytest.mark.parametrize(
    ("address", "masked"),
    [
        ("rtsp://bob:hunter2@cam/live", "rtsp://***@cam/live"),
        ("rtsp:/bob:hunter2@cam/live", "rtsp:/***@cam/live"),  # as a path prints it
        ("rtsp://bob:hun@ter2@cam:554/live", "rtsp://***@cam:554/live"),
        ("rtsp://:hunter2@cam", "rtsp://***@cam"),
        ("rtsp://bob:hunter2/@cam/live", "rtsp://***@cam/live"),
        ("http://cam/v?user=bob&pwd=hunter2&fps=5", "http://cam/v?user=bob&pwd=***&fps=5"),
        ("http://cam/v?access_token=hunter2", "http://cam/v?access_token=***"),
        ("http://cam/v?apiKey=hunter2", "http://cam/v?apiKey=***"),
        ("http://cam/v?loginpas=hunter2", "http://cam/v?loginpas=***"),
        ("rtsp://bob:hunter2@cam/people@home", "rtsp://***@cam/people@home"),
        ("rtsp://cam:554/people@home", "rtsp://cam:554/people@home"),
        ("/data/img?monkey=3.jpg", "/data/img?monkey=3.jpg"),
        ("C:/data:x/me@home.jpg", "C:/data:x/me@home.jpg"),
        ("rtsp://cam:554/live?channel=1", "rtsp://cam:554/live?channel=1"),
        ("http://cam/people@home.mp4", "http://cam/people@home.mp4"),
        ("C:/photos/a@b.jpg", "C:/photos/a@b.jpg"),
    ],
)
def test_passwords_in_addresses_are_masked(address, masked):
    assert mask_passwords(f"webcam {address}: lost") == f"webcam {masked}: lost"


@pytest.mark.parametrize(
    "piece", ["?" + "a-" * 9, "?pass", "?key=:", "ab:/ab:x/", "a:/b:", "&pwd=", "?_"]
)
def test_long_texts_are_masked_in_linear_time(piece):
    """A quadratic search would take minutes."""
    text = piece * (1_000_000 // len(piece))
    assert mask_passwords(f"{text} rtsp://bob:hunter2@cam").endswith(" rtsp://***@cam")


def test_errors_contain_no_passwords():
    error = BodyPoseNetError("rtsp://bob:hunter2@cam: lost", "Try rtsp://bob:hunter2@cam2.")
    for text in (str(error), repr(error), error.what, error.remedy, repr(pickle.dumps(error))):
        assert "hunter2" not in text


@pytest.mark.parametrize("value", [2, np.int64(2), np.uint8(2)])
def test_valid_counts(value):
    check_count("stride", value, 2)


@pytest.mark.parametrize("value", [1, -1, 2.0, 1.5, "2", True, None, np.bool_(True), [], np.nan])
def test_invalid_counts_are_errors(value):
    with pytest.raises(BodyPoseNetError, match="stride") as caught:
        check_count("stride", value, 2)
    assert "at least 2" in caught.value.remedy


@pytest.mark.parametrize("value", [0, 1, 0.5, np.float32(0.5), np.int64(1)])
def test_valid_scores(value):
    check_score("score_threshold", value)


@pytest.mark.parametrize("value", [-0.1, 1.1, 2, True, "0.5", None, float("nan"), [0.5]])
def test_invalid_scores_are_errors(value):
    with pytest.raises(BodyPoseNetError, match="score_threshold"):
        check_score("score_threshold", value)
