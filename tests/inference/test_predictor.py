"""Tests of the predictor: modes of the aspect ratio, scales, flip test, limits."""

import cv2
import numpy as np
import pytest

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.inference.predictor import Predictor, network_affine
from bodyposenet.skeleton import Skeleton
from bodyposenet.specs.inference import InferenceSpec
from bodyposenet.types import Maps, Poses

KITE = Skeleton(
    "kite", ("red", "green", "blue", "yellow"), ((0, 1), (1, 2), (2, 3), (3, 0), (0, 2))
)
COLORS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0))
STRIDE = 8
MODES = ("pad_image_input", "adjust_network_input", None)


class BlobEngine:
    """Fake network: finds one blob per color and renders perfect maps of the kite."""

    skeleton = KITE
    stride = STRIDE
    stages = 2

    def __init__(self, fixed_shape=None):
        self.fixed_shape = fixed_shape
        self.inputs, self.requested = [], []

    def infer(self, images, stage=None):
        assert not any(side % STRIDE for side in images.shape[1:3])
        self.inputs += [image.copy() for image in images]
        self.requested.append(stage)
        return [render(find_blobs(image), *image.shape[:2]) for image in images]


def find_blobs(image):
    red, green, blue = np.moveaxis(image.astype(float), 2, 0)
    values = (
        red - np.maximum(green, blue),
        green - np.maximum(red, blue),
        blue - np.maximum(red, green),
        np.minimum(red, green) - blue,
    )
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    weights = [np.clip(value - 30, 0, None) for value in values]
    return np.array([[(w * columns).sum(), (w * rows).sum()] / w.sum() for w in weights])


def render(points, height, width):
    """Return Gaussian heatmaps and strips of unit vectors, at the centers of the cells."""
    rows, columns = np.mgrid[: -(-height // STRIDE), : -(-width // STRIDE)] * STRIDE + 3.5
    cells = np.stack([columns, rows], axis=-1)
    gaussians = [np.exp(-((cells - p) ** 2).sum(-1) / (2 * 7**2)) for p in points]
    pafs = []
    for start, end in KITE.limbs:
        unit = (points[end] - points[start]) / np.linalg.norm(points[end] - points[start])
        along = (cells - points[start]) @ unit
        across = np.abs((cells - points[start]) @ np.array([-unit[1], unit[0]]))
        length = np.linalg.norm(points[end] - points[start])
        strip = (across < STRIDE) & (along > -STRIDE) & (along < length + STRIDE)
        pafs += [strip * unit[0], strip * unit[1]]
    heatmaps = np.stack([*gaussians, 1 - np.max(gaussians, axis=0)]).astype(np.float32)
    return Maps(heatmaps, np.stack(pafs).astype(np.float32), STRIDE)


def kite_image(height, width):
    """Draw one blob per color. Returns the image and the (4, 2) centers of the blobs."""
    points = np.array([[0.2, 0.3], [0.7, 0.2], [0.75, 0.7], [0.3, 0.8]]) * (width, height)
    points = np.round(points * 4) / 4
    image = np.zeros((height, width, 3), np.uint8)
    radius = max(height, width) / 25
    for (x, y), color in zip(points, COLORS, strict=True):
        center = (round(x * 16), round(y * 16))
        cv2.circle(image, center, round(radius * 16), color, -1, cv2.LINE_AA, 4)
    return image, points


def spec(**keys):
    return InferenceSpec(**({"input_shape": (160, 160)} | keys))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [(300, 200), (200, 300), (161, 163), (90, 120), (1000, 700)])
def test_poses_are_in_image_pixels(mode, size):
    image, points = kite_image(*size)
    poses = Predictor(BlobEngine(), spec(keep_aspect_ratio_mode=mode))(image)
    assert len(poses) == 1
    network_pixel = max(size) / 160  # in image pixels
    np.testing.assert_allclose(poses.keypoints[0], points, atol=0.8 * network_pixel + 0.3)


@pytest.mark.parametrize("mode", MODES)
def test_multi_scale_agrees_with_a_single_scale(mode):
    image, points = kite_image(300, 220)
    engine = BlobEngine()
    scales = spec(
        keep_aspect_ratio_mode=mode, multi_scale_inference=True, scales=(2.0, 0.75, 1.0, 1.0)
    )
    maps, to_network = Predictor(engine, scales).maps(image)
    sides = [max(network_affine(*image.shape[:2], scales, scale=s)[1]) for s in (2.0, 1.0, 0.75)]
    assert [max(pixels.shape) for pixels in engine.inputs] == [-(-s // 8) * 8 for s in sides]
    expected, same = Predictor(
        BlobEngine(), spec(keep_aspect_ratio_mode=mode, input_shape=(320, 320))
    ).maps(image)
    np.testing.assert_allclose(to_network.matrix, same.matrix)
    assert maps.heatmaps.shape == expected.heatmaps.shape
    assert maps.pafs.shape == expected.pafs.shape
    poses = Predictor(BlobEngine(), scales)(image)
    np.testing.assert_allclose(poses.keypoints[0], points, atol=2.0)


def test_pad_centers_the_image_on_gray():
    engine = BlobEngine()
    image, _ = kite_image(100, 200)
    Predictor(engine, spec(keep_aspect_ratio_mode="pad_image_input"))(image)
    (pixels,) = engine.inputs
    assert pixels.shape == (160, 160, 3)
    assert (pixels[:38] == 128).all()
    assert (pixels[-38:] == 128).all()
    assert (pixels[42:118] != 128).any(axis=2).all()


@pytest.mark.parametrize(
    ("size", "shape", "expected"),
    [
        ((480, 640), (368, 368), (368, 491)),
        ((640, 480), (368, 368), (491, 368)),
        ((368, 368), (368, 368), (368, 368)),
        ((100, 400), (288, 384), (288, 1152)),
        ((400, 100), (288, 384), (1536, 384)),
    ],
)
def test_adjust_covers_the_input_shape(size, shape, expected):
    _, network = network_affine(*size, spec(input_shape=shape))
    assert network == expected


def test_null_stretches_the_image_to_the_input_shape():
    to_network, network = network_affine(100, 200, spec(keep_aspect_ratio_mode=None))
    assert network == (160, 160)
    corners = to_network.apply(np.array([[-0.5, -0.5], [199.5, 99.5]]))
    np.testing.assert_allclose(corners, [[-0.5, -0.5], [159.5, 159.5]])


@pytest.mark.parametrize("mode", MODES)
def test_an_image_of_the_network_size_is_not_resized(mode):
    to_network, network = network_affine(160, 160, spec(keep_aspect_ratio_mode=mode))
    assert network == (160, 160)
    np.testing.assert_array_equal(to_network.matrix, np.eye(2, 3))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 3)])
def test_images_of_a_few_pixels(mode, size):
    engine = BlobEngine()
    far_away = np.array([[0, 0], [9, 0], [9, 9], [0, 9]]) - 1e4
    engine.infer = lambda images, stage=None: [render(far_away, *images.shape[1:3])]
    predictor = Predictor(engine, spec(keep_aspect_ratio_mode=mode))
    assert len(predictor(np.zeros((*size, 3), np.uint8))) == 0


def test_an_image_too_narrow_to_adjust_is_an_error():
    image = np.zeros((2, 900, 3), np.uint8)
    with pytest.raises(BodyPoseNetError, match="900 x 2"):
        Predictor(BlobEngine(), spec())(image)


def test_the_stage_is_passed_on_and_must_exist(tmp_path):
    engine = BlobEngine()
    image, _ = kite_image(160, 160)
    Predictor(engine, spec(output_stage_to_use=1))(image)
    assert engine.requested == [1]
    (tmp_path / "infer.yaml").write_text("input_shape: [160, 160]\noutput_stage_to_use: 3\n")
    with pytest.raises(BodyPoseNetError, match=r"infer\.yaml:2: .*no stage 3, the model has 2"):
        Predictor(engine, InferenceSpec.load(tmp_path / "infer.yaml"))


@pytest.mark.parametrize("key", ["heatmap_threshold", "paf_threshold"])
def test_thresholds_are_applied(key):
    image, points = kite_image(160, 160)
    weak = render(points, 160, 160)
    engine = BlobEngine()
    engine.infer = lambda images, stage=None: [Maps(0.6 * weak.heatmaps, 0.6 * weak.pafs)]
    assert len(Predictor(engine, spec(**{key: 0.4}))(image)) == 1
    assert len(Predictor(engine, spec(**{key: 0.8}))(image)) == 0


@pytest.mark.parametrize("factors", [(8, 8), (4, 8), (8, 2)])
def test_upsampling_factors_are_vertical_and_horizontal(factors):
    image, points = kite_image(160, 160)
    poses = Predictor(BlobEngine(), spec(mode="tao", output_upsampling_factor=factors))(image)
    cell = np.array([STRIDE / factors[1], STRIDE / factors[0]])
    assert (np.abs(poses.keypoints[0] - points) <= cell).all()


def test_averaging_does_not_modify_the_engines_maps():
    engine = BlobEngine()
    given = [render(np.array([[20, 20], [60, 20], [60, 60], [20, 60.0]]), 160, 160)]
    before = given[0].heatmaps.copy()
    engine.infer = lambda images, stage=None: given
    settings = spec(multi_scale_inference=True, scales=(1.0, 1.001), keep_aspect_ratio_mode=None)
    Predictor(engine, settings).maps(np.zeros((160, 160, 3), np.uint8))
    np.testing.assert_array_equal(given[0].heatmaps, before)


def test_upsampling_has_no_effect_on_the_accurate_mode(tmp_path, caplog):
    (tmp_path / "infer.yaml").write_text("output_upsampling_factor: [4, 4]\n")
    with caplog.at_level("INFO", "bodyposenet"):
        InferenceSpec.load(tmp_path / "infer.yaml")
        InferenceSpec.load(tmp_path / "infer.yaml")
    (line,) = caplog.messages
    assert "infer.yaml:1: output_upsampling_factor has no effect" in line
    caplog.clear()
    (tmp_path / "usual.yaml").write_text("output_upsampling_factor: [8, 8]\n")
    (tmp_path / "tao.yaml").write_text("output_upsampling_factor: [4, 4]\nmode: tao\n")
    with caplog.at_level("INFO", "bodyposenet"):
        InferenceSpec.load(tmp_path / "usual.yaml")
        InferenceSpec.load(tmp_path / "tao.yaml")
    assert not caplog.messages


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("multi_scale", [False, True])
@pytest.mark.parametrize("width", [160, 163, 221])
def test_the_flip_test_gives_the_same_poses(mode, multi_scale, width):
    image, points = kite_image(180, width)
    keys = {"keep_aspect_ratio_mode": mode, "multi_scale_inference": multi_scale}
    plain = Predictor(BlobEngine(), spec(scales=(1.0, 1.4), **keys))(image)
    engine = BlobEngine()
    flipped = Predictor(engine, spec(scales=(1.0, 1.4), flip_test=True, **keys))
    poses = flipped(image)
    np.testing.assert_allclose(poses.keypoints[0], plain.keypoints[0], atol=0.3)
    np.testing.assert_allclose(poses.keypoints[0], points, atol=2.5)
    for first, second in zip(engine.inputs[::2], engine.inputs[1::2], strict=True):
        np.testing.assert_array_equal(first, second[:, ::-1])


def test_a_fixed_shape_pads_with_one_warning(caplog):
    image, points = kite_image(200, 300)
    engine = BlobEngine(fixed_shape=(96, 128))
    settings = spec(keep_aspect_ratio_mode=None, multi_scale_inference=True)
    with caplog.at_level("WARNING", "bodyposenet"):
        predictor = Predictor(engine, settings)
        poses = predictor(image)
        predictor(image)
    (line,) = caplog.messages
    assert "pad_image_input" in line and "(96, 128)" in line and "multi_scale" in line
    assert {pixels.shape for pixels in engine.inputs} == {(96, 128, 3)}
    assert predictor.spec.keep_aspect_ratio_mode == "pad_image_input"
    np.testing.assert_allclose(poses.keypoints[0], points, atol=3)
    caplog.clear()
    Predictor(engine, spec(input_shape=(96, 128), keep_aspect_ratio_mode="pad_image_input"))
    assert not caplog.messages


def test_a_batch_gives_the_poses_of_each_image():
    images = [kite_image(150, 150)[0], np.rot90(kite_image(150, 150)[0]).copy()]
    predictor = Predictor(BlobEngine(), spec(flip_test=True))
    batch = [predictor.prepare(image) for image in images]
    maps = predictor.infer(batch)
    for image, inputs, its_maps in zip(images, batch, maps, strict=True):
        alone, together = predictor(image), predictor.find_poses(inputs, its_maps)
        np.testing.assert_allclose(together.keypoints, alone.keypoints)


class CrowdPredictor(Predictor):
    """Predictor whose decoder is replaced: it returns people with these scores, in this order."""

    scores = (0.3, 0.9, 0.5, 0.9)

    def __init__(self, **limits):
        super().__init__(BlobEngine(), spec(), **limits)


@pytest.fixture
def crowd(monkeypatch):
    scores = np.array(CrowdPredictor.scores, np.float32)
    points = np.arange(len(scores), dtype=np.float32)[:, None, None] + np.zeros((1, 4, 2))
    people = Poses(points.astype(np.float32), np.ones((len(scores), 4), np.float32), scores, KITE)
    monkeypatch.setattr("bodyposenet.inference.predictor.decode", lambda *_: people)
    return lambda image=None, call=None, **limits: (
        CrowdPredictor(**limits)(kite_image(160, 160)[0], **(call or {})).scores.round(3).tolist()
    )


def test_limits_keep_the_best(crowd):
    assert crowd() == [pytest.approx(score) for score in CrowdPredictor.scores]  # as decoded
    assert crowd(score_threshold=0.5) == pytest.approx([0.9, 0.9, 0.5])
    assert crowd(score_threshold=0.0) == pytest.approx([0.9, 0.9, 0.5, 0.3])
    assert crowd(max_people=3) == pytest.approx([0.9, 0.9, 0.5])
    assert crowd(score_threshold=0.95) == []
    assert crowd(score_threshold=0.4, max_people=2) == pytest.approx([0.9, 0.9])


def test_limits_of_a_call_override_those_of_the_predictor(crowd):
    call = {"max_people": 4}
    assert len(crowd(max_people=1, call=call)) == 4
    assert len(crowd(max_people=1, score_threshold=0.4, call=call)) == 3
    assert len(crowd(score_threshold=0.6, call={"score_threshold": 0.1})) == 4


@pytest.mark.parametrize(
    "limits",
    [
        {"score_threshold": 1.5},
        {"score_threshold": "high"},
        {"score_threshold": float("nan")},
        {"max_people": 0},
        {"max_people": 2.5},
    ],
)
def test_limits_out_of_range(crowd, limits):
    ((name, value),) = limits.items()
    with pytest.raises(BodyPoseNetError, match=f"{name}: {value!r}"):
        crowd(**limits)
    with pytest.raises(BodyPoseNetError, match=name):
        crowd(call=limits)
