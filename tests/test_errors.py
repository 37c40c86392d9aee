"""What errors tell, and what they must not tell."""

import pickle

import pytest

from bodyposenet.errors import BodyPoseNetError, mask_passwords


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
        ("rtsp://cam:554/live?channel=1", "rtsp://cam:554/live?channel=1"),
        ("http://cam/people@home.mp4", "http://cam/people@home.mp4"),
        ("C:/photos/a@b.jpg", "C:/photos/a@b.jpg"),
    ],
)
def test_passwords_in_addresses_are_masked(address, masked):
    assert mask_passwords(f"webcam {address}: lost") == f"webcam {masked}: lost"


def test_no_error_tells_a_password():
    error = BodyPoseNetError("rtsp://bob:hunter2@cam: lost", "Try rtsp://bob:hunter2@cam2.")
    for told in (str(error), repr(error), error.what, error.remedy, repr(pickle.dumps(error))):
        assert "hunter2" not in told
