"""Files of precomputed teacher maps: quantization, metadata of the folder, damaged files."""

import numpy as np
import pytest

from bodyposenet.data.teacher_map_store import PhotoFingerprint, TeacherMapStore
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.geometry import Affine
from bodyposenet.specs.pose import load_skeleton
from bodyposenet.types import Maps

SKELETON = load_skeleton("bpnet_18joints.json")
TO_CELLS = Affine.resize(8).inverse()
HEIGHT, WIDTH = 240, 320


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    path.write_bytes(b"any content")
    return path


def fingerprint(photo):
    return PhotoFingerprint(HEIGHT, WIDTH, photo.stat().st_size)


def random_maps():
    rng, shape = np.random.default_rng(0), (HEIGHT // 8, WIDTH // 8)
    heatmaps = rng.random((SKELETON.heatmap_channels, *shape), np.float32)
    pafs = rng.uniform(-1, 1, (SKELETON.paf_channels, *shape)).astype(np.float32)
    return Maps(heatmaps, pafs)


def test_maps_are_read_as_written_up_to_the_quantization(photo, tmp_path):
    store, maps = TeacherMapStore.create(tmp_path / "maps", SKELETON, {}), random_maps()
    assert store.read(photo, HEIGHT, WIDTH) is None
    store.write(photo, fingerprint(photo), maps, TO_CELLS)
    stored = store.read(photo, HEIGHT, WIDTH)
    assert stored is not None
    for found, step, expected in zip(
        (stored.heatmaps, stored.pafs), stored.steps, (maps.heatmaps, maps.pafs), strict=True
    ):
        np.testing.assert_allclose(found * step, expected, atol=0.5 * step + 1e-6)
    np.testing.assert_array_equal(stored.to_cells.matrix, TO_CELLS.matrix)


def test_a_folder_has_maps_of_one_teacher_only(photo, tmp_path):
    store = TeacherMapStore.create(tmp_path / "maps", SKELETON, {"settings": {"flip_test": True}})
    assert not store.has(photo, fingerprint(photo))
    store.write(photo, fingerprint(photo), random_maps(), TO_CELLS)
    again = TeacherMapStore.create(tmp_path / "maps", SKELETON, {"settings": {"flip_test": True}})
    assert again.has(photo, fingerprint(photo)) and len(again) == 1
    assert again.digest == store.digest == TeacherMapStore.open(tmp_path / "maps").digest
    with pytest.raises(BodyPoseNetError, match="settings"):
        TeacherMapStore.create(tmp_path / "maps", SKELETON, {"settings": {"flip_test": False}})
    store.file_of(photo).write_bytes(b"half")
    assert not store.has(photo, fingerprint(photo))


def test_maps_that_are_not_finite_are_not_written(photo, tmp_path):
    store, maps = TeacherMapStore.create(tmp_path / "maps", SKELETON, {}), random_maps()
    maps.pafs[0, 0, 0] = np.nan
    with pytest.raises(BodyPoseNetError, match=photo.name):
        store.write(photo, fingerprint(photo), maps, TO_CELLS)
    assert not store.file_of(photo).exists()
