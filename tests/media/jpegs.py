"""JPEG files with additional segments, such as EXIF data."""

import struct

import cv2
import numpy as np


def segment(code: int, content: bytes) -> bytes:
    return bytes([0xFF, code]) + struct.pack(">H", len(content) + 2) + content


def exif_segment(orientation: int) -> bytes:
    """Return EXIF data with one tag, the orientation."""
    tag = struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0)
    return segment(0xE1, b"Exif\0\0II*\0" + struct.pack("<IH", 8, 1) + tag + bytes(4))


def encode(image: np.ndarray, segments: bytes = b"", *, progressive: bool = False) -> bytes:
    """Encode an RGB image as JPEG, with further segments at the beginning."""
    flags = [cv2.IMWRITE_JPEG_PROGRESSIVE, int(progressive)]
    jpeg = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), flags)[1].tobytes()
    return jpeg[:2] + segments + jpeg[2:]
