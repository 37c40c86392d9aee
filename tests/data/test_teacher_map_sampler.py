"""Teacher maps in training samples: position and width as in the targets, scale, invalid files."""

import shutil

import cv2
import numpy as np
import pytest
import torch

from bodyposenet.data.dataset import DatasetSource, SampleSet, collate
from bodyposenet.data.records import RecordSet, write_records
from bodyposenet.data.teacher_map_sampler import MAX_ENLARGEMENT, MAX_REDUCTION
from bodyposenet.data.teacher_map_store import HEADER_FILE, PhotoFingerprint, TeacherMapStore
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.geometry import Affine
from bodyposenet.model.targets import render_targets
from bodyposenet.skeleton import COCO_JOINTS, Skeleton
from bodyposenet.specs.dataloader import AugmentationConfig, SpatialAugParams
from bodyposenet.specs.pose import load_skeleton
from bodyposenet.training.distillation import open_teacher_maps
from bodyposenet.types import Maps, Record

HEIGHT, WIDTH = 240, 320
SKELETON = load_skeleton("bpnet_18joints.json")
BODY = np.array([
    [0, -46], [4, -50], [-4, -50], [9, -47], [-9, -47], [18, -30], [-18, -30], [30, -12],
    [-27, -10], [38, 8], [-22, 12], [11, 20], [-11, 20], [15, 50], [-14, 48], [20, 80], [-9, 78],
])  # fmt: skip
"""Joints of COCO, about the middle of a person, in pixels."""
PEOPLE = [BODY + np.array([100, 120]), BODY * (1.2, 1.1) + (225, 115)]
# Other names and another order of joints and limbs, some of them from end to start.
ORDER = (17, *range(16, -1, -1))
THEIRS = Skeleton(
    "theirs",
    tuple(SKELETON.joints[joint] for joint in ORDER),
    tuple(
        (ORDER.index(limb[number % 3 > 0]), ORDER.index(limb[number % 3 == 0]))
        for number, limb in reversed(list(enumerate(SKELETON.limbs)))
    ),
)  # fmt: skip


@pytest.fixture
def photo(tmp_path):
    cv2.imwrite(str(tmp_path / "photo.png"), np.full((HEIGHT, WIDTH, 3), 90, np.uint8))
    return tmp_path / "photo.png"


def file_fingerprint(photo):
    return PhotoFingerprint(HEIGHT, WIDTH, photo.stat().st_size)


def perfect_maps(skeleton, scale):
    """Return the maps of a perfect teacher at a scale of the photo, and the map to its cells."""
    to_network = Affine.resize(scale)
    joint_map = skeleton.joints_from(COCO_JOINTS)
    points, labeled = joint_map.keypoints(np.array(PEOPLE), np.ones((2, 17), bool))
    keypoints = torch.tensor(to_network.apply(points), dtype=torch.float32)[None]
    size = round(HEIGHT * scale), round(WIDTH * scale)
    heatmaps, pafs = render_targets(keypoints, torch.tensor(labeled)[None], skeleton, *size)
    return Maps(heatmaps[0].numpy(), pafs[0].numpy()), to_network.then(Affine.resize(8).inverse())


def write(folder, photo, skeleton=SKELETON, scale=1.0):
    TeacherMapStore.create(folder, skeleton, {"model": None}).write(
        photo, file_fingerprint(photo), *perfect_maps(skeleton, scale)
    )


def teacher_maps(folder, spec):
    spec.distillation = spec.distillation.model_copy(update={"maps": str(folder)})
    return open_teacher_maps(spec)


@pytest.fixture
def spec(write_train_spec):
    from bodyposenet.specs.training import TrainSpec

    return TrainSpec.load(write_train_spec(distillation={"maps": "none"}))


@pytest.fixture
def make_samples(photo, spec, tmp_path):
    """`make_samples(size=..., mode=..., **params)` -> samples with the maps of `tmp_path/maps`."""

    def make(size=(192, 192), mode="person_centric", maps=True, **params):
        joints = np.concatenate([np.array(PEOPLE), np.full((2, 17, 1), 2.0)], axis=2)
        record = Record(
            1, "photo.png", "mask.png", HEIGHT, WIDTH, "own", joints, np.array([130.0, 150.0]),
            np.array([[150.0, 120.0], [225.0, 115.0]]),
        )  # fmt: skip
        write_records(tmp_path / "records", [record])
        augmentation = AugmentationConfig(
            spatial_augmentation_mode=mode, spatial_aug_params=SpatialAugParams(**params)
        )
        source = DatasetSource(tmp_path, SKELETON.joints_from(COCO_JOINTS), (1, 2))
        return SampleSet(
            RecordSet([tmp_path / "records"]), {"own": source}, augmentation, *size, 1, None,
            teacher_maps(tmp_path / "maps", spec) if maps else None,
        )  # fmt: skip

    return make


def compare(sample):
    """Return correlations of heatmaps and PAFs, distances of peaks in cells, angles in degrees."""
    size = sample.image.shape[:2]
    targets = render_targets(
        torch.from_numpy(sample.keypoints)[None], torch.from_numpy(sample.labeled)[None],
        SKELETON, *size,
    )  # fmt: skip
    heatmaps, pafs = (target[0].numpy() for target in targets)
    teacher = sample.teacher_heatmaps.astype(float), sample.teacher_pafs.astype(float)
    cells = sample.teacher_cells
    correlations = [
        np.corrcoef(target[:, cells].ravel(), found[:, cells].ravel())[0, 1]
        for target, found in zip((heatmaps, pafs), teacher, strict=True)
    ]
    distances = [distance_of_peak(teacher[0][joint], x, y) for x, y, joint in joints_within(sample)]
    # Only at cells of a single limb, and not at its edge.
    field, found = (f.reshape(-1, 2, *f.shape[1:]) for f in (pafs, teacher[1]))
    lengths = np.hypot(field[:, 0], field[:, 1]), np.hypot(found[:, 0], found[:, 1])
    strong = (lengths[0] > 0.99) & (lengths[1] > 0.6) & cells
    cosines = ((field * found).sum(1) / np.maximum(lengths[0] * lengths[1], 1e-6))[strong]
    angles = np.degrees(np.arccos(cosines.clip(-1, 1)))
    return correlations, np.array(distances), angles


def joints_within(sample):
    """Yield cell (x, y) and index of joints with all neighbor cells inside of crop and photo."""
    for person in (sample.keypoints + 0.5) / 8 - 0.5:
        for joint, (x, y) in enumerate(person):
            row, column = round(y), round(x)
            if row >= 1 and column >= 1:
                near = sample.teacher_cells[row - 1 : row + 2, column - 1 : column + 2]
                if near.shape == (3, 3) and near.all():
                    yield x, y, joint


def distance_of_peak(heatmap, x, y):
    """Return the distance of a peak from (x, y) in cells, by a parabola fit of logarithms."""
    row, column = round(y), round(x)
    window = heatmap[row - 1 : row + 2, column - 1 : column + 2]
    down, across = np.unravel_index(window.argmax(), window.shape)
    row, column = row + down - 1, column + across - 1
    found = []
    for place, line in ((column, heatmap[row, column - 1 : column + 2]),
                        (row, heatmap[row - 1 : row + 2, column])):  # fmt: skip
        if len(line) == 3:
            a, b, c = np.log(line.clip(1e-3))
            place += 0.5 * (a - c) / (a - 2 * b + c) if a - 2 * b + c < 0 else 0.0
        found.append(place)
    return np.hypot(found[0] - x, found[1] - y)


CROPS = {
    "plain": {},
    "flipped": {"flip_lr_prob": 1.0},
    "rotated": {"rotate_deg_min": 25.0, "rotate_deg_max": 25.0},
    "lying": {"rotate_deg_min": -90.0, "rotate_deg_max": -90.0, "flip_lr_prob": 1.0},
    "flipped_vertically": {"flip_tb_prob": 1.0},
    "upside_down": {"flip_lr_prob": 1.0, "flip_tb_prob": 1.0},
    "shifted": {"translate_min_x": 31.0, "translate_max_x": 31.0},
    "rotated_flipped": {"rotate_deg_min": 40.0, "rotate_deg_max": 40.0, "flip_lr_prob": 1.0},
}


@pytest.mark.parametrize("skeleton", [SKELETON, THEIRS], ids=["ours", "theirs"])
@pytest.mark.parametrize("crop", CROPS)
@pytest.mark.parametrize("scale", [0.7, 0.9, 1.1, 2.0, 2.8])
def test_maps_match_the_targets_of_the_crop(make_samples, photo, tmp_path, skeleton, crop, scale):
    """The crop has a scale of 1 (a person of 130 pixels in .68 x 192), the teacher another."""
    write(tmp_path / "maps", photo, skeleton, scale)
    sample = make_samples(target_person_scale=130 / 192, **CROPS[crop])[0, 0]
    assert sample.teacher_cells.any()
    (heatmap_correlation, paf_correlation), distances, angles = compare(sample)
    assert heatmap_correlation > (0.99 if scale > 1 / 1.2 else 0.93)  # enlarged maps stay blurred
    assert paf_correlation > 0.75  # of strips with hard edges, sampled twice
    assert len(distances) > 20
    assert distances.max() < 0.25
    assert len(angles) > 200
    assert np.percentile(angles, 95) < 1


def test_a_stretched_sample_rotates_pafs_with_its_limbs(make_samples, photo, tmp_path):
    write(tmp_path / "maps", photo)
    sample = make_samples(
        (240, 240), "standard_with_fixed_aspect_ratio", rotate_deg_min=20.0, rotate_deg_max=20.0
    )[0, 0]
    (heatmap_correlation, paf_correlation), distances, angles = compare(sample)
    assert heatmap_correlation > 0.97 and paf_correlation > 0.75
    assert distances.max() < 0.25
    assert np.percentile(angles, 95) < 2


def test_teacher_maps_do_not_change_the_rest_of_a_sample(make_samples, photo, tmp_path):
    write(tmp_path / "maps", photo)
    varied = {"rotate_deg_max": 40.0, "flip_lr_prob": 0.5}
    with_maps, without = make_samples(**varied), make_samples(maps=False, **varied)
    for place in ((0, 0), (1, 0), (2, 0)):
        sample, plain = with_maps[place], without[place]
        for name in ("image", "mask", "keypoints", "labeled", "known"):
            np.testing.assert_array_equal(getattr(sample, name), getattr(plain, name))
        assert plain.teacher_heatmaps is None
        again = with_maps[place]
        np.testing.assert_array_equal(sample.teacher_pafs, again.teacher_pafs)


def test_teacher_maps_do_not_count_outside_of_the_photo(make_samples, photo, tmp_path):
    write(tmp_path / "maps", photo)
    sample = make_samples((320, 320), "standard")[0, 0]  # 40 pixels of gray above and below
    assert sample.teacher_cells[5:35].all()
    assert not sample.teacher_cells[:5].any() and not sample.teacher_cells[35:].any()


def test_a_photo_without_maps_has_no_teacher_cells(make_samples, photo, tmp_path):
    write(tmp_path / "maps", photo)
    samples = make_samples()
    (tmp_path / "maps" / "photo.png.npz").unlink()
    sample = samples[0, 0]
    assert sample.without_maps == 1 and not sample.unreadable
    assert not sample.teacher_cells.any()
    write(tmp_path / "maps", photo)
    batch = collate([sample, samples[0, 0]])
    assert batch.without_maps == 1 and batch.out_of_scale == 0
    assert batch.teacher_cells.any(axis=(1, 2)).tolist() == [False, True]


def test_samples_out_of_scale_have_no_teacher_cells(make_samples, photo, tmp_path):
    for scale, used in (
        (MAX_REDUCTION * 0.98, True), (MAX_REDUCTION * 1.02, False),
        (1.02 / MAX_ENLARGEMENT, True), (0.98 / MAX_ENLARGEMENT, False),
    ):  # fmt: skip
        write(tmp_path / "maps", photo, scale=scale)
        sample = make_samples(target_person_scale=130 / 192)[0, 0]
        assert sample.out_of_scale == (not used)
        assert sample.teacher_cells.any() == used


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 truncated", "half", "flipped bit"])
def test_a_damaged_file_is_an_error_of_the_sample(make_samples, photo, tmp_path, content):
    write(tmp_path / "maps", photo)
    samples, path = make_samples(), tmp_path / "maps" / "photo.png.npz"
    whole = path.read_bytes()
    if content == "half":
        content = whole[: len(whole) // 2]
    elif content == "flipped bit":
        middle = len(whole) // 3
        content = whole[:middle] + bytes([whole[middle] ^ 16]) + whole[middle + 1 :]
    path.write_bytes(content)
    error = samples[0, 0]
    assert isinstance(error, BodyPoseNetError)
    assert str(path) in error.what and error.remedy


def test_maps_of_another_photo_with_the_same_name_are_an_error(make_samples, photo, tmp_path):
    write(tmp_path / "maps", photo)
    samples = make_samples()
    cv2.imwrite(str(photo), np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3)))
    error = samples[0, 0]
    assert isinstance(error, BodyPoseNetError)
    assert "photo.png.npz" in error.what and str(photo) in error.what


def test_invalid_folders_are_errors(photo, spec, tmp_path):
    folder = tmp_path / "maps"
    with pytest.raises(BodyPoseNetError, match=r"distillation\.maps"):
        teacher_maps(folder, spec)
    folder.mkdir()
    with pytest.raises(BodyPoseNetError, match=HEADER_FILE):
        teacher_maps(folder, spec)
    TeacherMapStore.create(folder, SKELETON, {})
    with pytest.raises(BodyPoseNetError, match=str(folder)):  # no photos
        teacher_maps(folder, spec)
    for content in ("[]", '{"format": 2}', '{"format": 1, "skeleton": {"categories": []}}', "{"):
        (folder / HEADER_FILE).write_text(content)
        with pytest.raises(BodyPoseNetError, match=HEADER_FILE) as caught:
            teacher_maps(folder, spec)
        assert caught.value.remedy
    shutil.rmtree(folder)
    finger = Skeleton("finger", ("knuckle", "tip"), ((0, 1),))
    TeacherMapStore.create(folder, finger, {}).write(
        photo,
        file_fingerprint(photo),
        Maps(np.zeros((3, 2, 2)), np.zeros((2, 2, 2))),
        Affine.resize(1),
    )
    with pytest.raises(BodyPoseNetError, match=str(folder)):
        teacher_maps(folder, spec)


def test_only_channels_that_the_teacher_has_count(make_samples, photo, spec, tmp_path):
    arm = Skeleton("arm", ("left_wrist", "left_elbow", "left_shoulder"), ((0, 1), (1, 2)))
    write(tmp_path / "maps", photo, arm)
    with pytest.raises(BodyPoseNetError, match="maps"):  # no channel is in mirrored samples too
        teacher_maps(tmp_path / "maps", spec)
    shutil.rmtree(tmp_path / "maps")
    arms = Skeleton(
        "arms", ("left_wrist", "left_elbow", "right_wrist", "right_elbow"), ((0, 1), (2, 3))
    )
    write(tmp_path / "maps", photo, arms)
    maps = teacher_maps(tmp_path / "maps", spec)
    names = [SKELETON.joints[joint] for joint in np.flatnonzero(maps.known_heatmaps)]
    assert sorted(names) == sorted(arms.joints)
    assert maps.known_pafs.sum() == 4
    sample = make_samples(flip_lr_prob=1.0)[0, 0]
    assert not sample.teacher_pafs[~maps.known_pafs].any()
