"""Tests of `bodyposenet.load`, of `PoseEstimator`, and of the examples in docs and docstrings."""

import copy
import inspect
import io
import os
import pickle
import re
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import get_args, get_type_hints

import cv2
import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

import bodyposenet
from bodyposenet import BodyPoseNetError, PoseEstimator, Poses
from bodyposenet.demo import write_drawn_dataset
from bodyposenet.inference import engines, estimator
from bodyposenet.inference.engines.base import ENGINES, PRECISIONS
from bodyposenet.inference.estimator import ImageError
from bodyposenet.inference.models import PRESETS, default_model
from bodyposenet.inference.predictor import Predictor
from bodyposenet.inference.video import VideoPredictor
from bodyposenet.media.images import read_image
from bodyposenet.media.video_writer import Mp4Writer
from bodyposenet.model.checkpoint import read_tensors, save_model, write_tensors
from bodyposenet.model.network import BodyPoseNetwork
from bodyposenet.skeleton import Skeleton
from bodyposenet.specs.inference import InferenceSpec
from bodyposenet.specs.network import BackboneAttributes, ModelConfig
from bodyposenet.specs.pose import load_skeleton
from bodyposenet.types import Maps

PAGE = Path(__file__).parents[2] / "docs" / "python.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
ROW = Skeleton("row", ("red", "green", "blue"), ((0, 1), (1, 2)))


class ColorEngine:
    """Fake network: the heatmaps are the colors of the image, and all limbs point to the right."""

    skeleton, stride, stages, fixed_shape = ROW, 8, 1, None

    def infer(self, images, stage=None):
        return [self.maps(image) for image in images]

    def maps(self, image):
        rows, columns = image.shape[0] // 8, image.shape[1] // 8
        cells = cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA) / np.float32(255)
        heatmaps = np.moveaxis(cells, 2, 0)
        pafs = np.zeros((4, rows, columns), np.float32)
        pafs[::2] = 1
        return Maps(np.concatenate([heatmaps, 1 - heatmaps.max(axis=0)[None]]), pafs)


class CountingEngine(ColorEngine):
    """Records the batch sizes."""

    def __init__(self):
        self.batches = []

    def infer(self, images, stage=None):
        self.batches.append(len(images))
        return super().infer(images, stage)


@pytest.fixture(scope="module")
def model():
    spec = InferenceSpec(input_shape=(96, 128), keep_aspect_ratio_mode=None)
    return PoseEstimator(Predictor(ColorEngine(), spec))


def row_of_dots(x=30, y=40, height=96, width=128):
    """Draw a red, a green and a blue dot, 32 pixels apart."""
    image = np.zeros((height, width, 3), np.float32)
    for channel in range(3):
        image[y, x + 32 * channel, channel] = 1
        blurred = cv2.GaussianBlur(image[..., channel], (0, 0), 7)
        image[..., channel] = blurred / blurred.max()
    return (250 * image).round().astype(np.uint8)


@pytest.fixture(scope="module")
def tlt(tmp_path_factory):
    """Path of a model file with a small network and random weights."""
    torch.manual_seed(0)
    attributes = BackboneAttributes(architecture="lightweight_openpose", width=0.125)
    config = ModelConfig(stages=1, backbone_attributes=attributes)
    path = tmp_path_factory.mktemp("model") / "model.tlt"
    save_model(path, BodyPoseNetwork(load_skeleton("bpnet_18joints.json"), config))
    return path


def assert_found(poses, x=30, y=40):
    assert len(poses) == 1
    expected = np.array([[x, y], [x + 32, y], [x + 64, y]])
    np.testing.assert_allclose(poses.keypoints[0], expected, atol=2)


def test_all_types_of_images(model, tmp_path):
    pixels = row_of_dots()
    path = tmp_path / "row.png"
    Image.fromarray(pixels).save(path)
    mirrored = np.ascontiguousarray(pixels[..., ::-1])
    images = (pixels, path, str(path), Image.fromarray(pixels), mirrored[..., ::-1])
    for image in (*images, Image.open(path), Image.fromarray(pixels).convert("RGBA")):
        assert_found(model(image))
    assert model.skeleton is ROW


def test_exif_orientation_of_pil_images_is_applied(model, tmp_path):
    turned = Image.fromarray(np.rot90(row_of_dots()))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.jpg", exif=exif, quality=100)
    assert_found(model(Image.open(tmp_path / "turned.jpg")))
    assert_found(model(tmp_path / "turned.jpg"))


def test_lists_and_iterators(model):
    places = range(24, 44, 2)
    found = model([row_of_dots(x) for x in places])
    assert isinstance(found, list)
    for x, poses in zip(places, found, strict=True):
        assert_found(poses, x)
    taken = []

    def endless():
        while True:
            taken.append(len(taken))
            yield row_of_dots()

    stream = model(endless())
    assert not taken
    for _ in range(3):
        assert_found(next(stream))
    stream.close()
    assert len(taken) <= 3 + 1 + 4
    assert model([]) == [] and list(model(iter(()))) == []


def test_the_frames_of_a_gif(model, tmp_path):
    places = range(24, 44, 2)
    first, *others = (Image.fromarray(row_of_dots(x)) for x in places)
    first.save(tmp_path / "moving.gif", save_all=True, append_images=others)
    with Image.open(tmp_path / "moving.gif") as gif:
        found = list(model(ImageSequence.Iterator(gif)))
    for x, poses in zip(places, found, strict=True):
        assert_found(poses, x)


def test_an_array_can_be_reused_for_all_images(model):
    places = range(24, 44, 2)
    images = [row_of_dots(x) for x in places]

    def frames():
        frame = np.empty_like(images[0])
        for image in images:
            frame[:] = image
            yield frame

    for x, poses in zip(places, model(frames()), strict=True):
        assert_found(poses, x)


def test_an_opened_file_several_times(model, tmp_path):
    Image.fromarray(row_of_dots()).save(tmp_path / "row.png")
    with Image.open(tmp_path / "row.png") as image:
        for poses in model([image] * 4):
            assert_found(poses)


def test_a_damaged_file_opened_by_pil(model, tmp_path):
    Image.fromarray(row_of_dots()).save(tmp_path / "whole.png")
    content = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(content[: len(content) // 2])
    with (
        Image.open(tmp_path / "cut.png") as image,
        pytest.raises(BodyPoseNetError, match=r"cut\.png: cannot be read"),
    ):
        model(image)


@pytest.mark.parametrize("image", [None, "", np.zeros((8, 8, 3), np.int64), b"bytes"])
def test_values_that_are_not_images(model, image):
    with pytest.raises(BodyPoseNetError) as caught:
        model(image)
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("arguments", "facts", "remedy"),
    [
        (({"a.jpg": 1},), "dict", "values()"),
        (({},), "dict", "values()"),
        ((row_of_dots(), row_of_dots()), "one positional argument", "list"),
        (("photos/*.jpg",), "*", "glob"),
        (("a.jpg,b.jpg",), "a.jpg,b.jpg", "list"),
        (("data:image/png;base64,iVBORw0",), "data:", "b64decode"),
    ],
)
def test_arguments_that_are_not_images(model, arguments, facts, remedy):
    with pytest.raises(BodyPoseNetError) as caught:
        model(*arguments)
    assert facts in caught.value.what
    assert remedy in caught.value.remedy


def test_a_video_of_the_model_and_its_frames(model, tmp_path):
    with Mp4Writer(tmp_path / "dots.mp4", 30) as movie:
        for index in range(3):
            movie.write(row_of_dots(), index / 30)
    with (
        model.video(tmp_path / "dots.mp4") as stream,
        pytest.raises(BodyPoseNetError, match=r"model\.video") as caught,
    ):
        model(stream)
    assert "for frame, poses in" in caught.value.remedy
    for frame, poses in model.video(tmp_path / "dots.mp4"):
        assert_found(poses)
        assert model(frame) == model(frame.pixels) == poses
        assert np.asarray(frame) is frame.pixels
        assert np.array(frame, np.float32).dtype == np.float32
        again = list(model(iter([frame, frame])))
        assert again == [poses, poses]


def test_a_folder_is_the_list_of_its_images(model, tmp_path):
    places = range(24, 44, 4)
    for number, x in enumerate(places):
        Image.fromarray(row_of_dots(x)).save(tmp_path / f"{number}.png")
    (tmp_path / "notes.txt").write_text("not an image")
    for folder in (tmp_path, str(tmp_path)):
        for x, poses in zip(places, model(folder), strict=True):
            assert_found(poses, x)
    (tmp_path / "empty").mkdir()
    with pytest.raises(BodyPoseNetError, match="empty"):
        model(tmp_path / "empty")


@pytest.mark.parametrize("bad", [0, 1, 4])
@pytest.mark.parametrize("wrong", ["lost.jpg", None, b"bytes"])
def test_an_error_in_the_middle_keeps_earlier_results(model, wrong, bad):
    places = [24, 30, 36, 42, 28, 34]
    images = [row_of_dots(x) for x in places]
    images[bad] = wrong
    found = []
    with pytest.raises(ImageError, match=rf"images\[{bad}\]: ") as caught:
        for poses in model(iter(images)):
            found.append(poses)
    assert caught.value.index == bad and caught.value.results == []
    with pytest.raises(ImageError, match=rf"images\[{bad}\]: ") as caught:
        model(images)
    assert caught.value.index == bad
    for results in (found, caught.value.results):
        for x, poses in zip(places[:bad], results, strict=True):
            assert_found(poses, x)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.what, again.index, len(again.results)) == (caught.value.what, bad, bad)


def test_an_error_of_the_network_keeps_earlier_results():
    class FailingEngine(ColorEngine):
        def infer(self, images, stage=None):
            if (images[0] == 77).all():
                raise BodyPoseNetError("out of memory")
            return super().infer(images, stage)

    spec = InferenceSpec(input_shape=(96, 128), keep_aspect_ratio_mode=None)
    model = PoseEstimator(Predictor(FailingEngine(), spec))
    bad = np.full((96, 128, 3), 77, np.uint8)
    with pytest.raises(ImageError, match=r"images\[3\]: out of memory") as caught:
        model([row_of_dots()] * 3 + [bad, row_of_dots()])
    assert len(caught.value.results) == 3


@pytest.mark.parametrize(("batch_size", "read_ahead"), [(1, 4), (1, 0), (4, 4), (8, 2)])
def test_an_iterator_reads_a_few_images_ahead(batch_size, read_ahead):
    engine = CountingEngine()
    spec = InferenceSpec(input_shape=(96, 128), keep_aspect_ratio_mode=None)
    model = PoseEstimator(Predictor(engine, spec), batch_size=batch_size, read_ahead=read_ahead)
    taken = given = most = 0

    def images():
        nonlocal taken, most
        for _ in range(32):
            taken += 1
            most = max(most, taken - given)
            yield row_of_dots()

    for _ in model(images()):
        given += 1
    assert given == 32
    assert most == batch_size + read_ahead
    assert engine.batches == [batch_size] * (32 // batch_size)


def test_a_list_is_processed_in_batches():
    engine = CountingEngine()
    spec = InferenceSpec(input_shape=(96, 128), keep_aspect_ratio_mode="adjust_network_input")
    model = PoseEstimator(Predictor(engine, spec), batch_size=8)
    places = [24, 26, 28, 30, 32, 34, 36, 38]
    for x, poses in zip(places, model([row_of_dots(x) for x in places]), strict=True):
        assert_found(poses, x)
    assert engine.batches == [8]
    model([row_of_dots()] * 3 + [row_of_dots(height=120)] * 2)  # another input shape
    assert engine.batches == [8, 3, 2]


def test_limits_of_the_model_and_of_a_call(model):
    image = np.concatenate([row_of_dots(), row_of_dots() // 2])
    unlimited = model(image)
    assert len(unlimited) == 2
    best = unlimited.scores.max()
    assert len(model(image, max_people=1)) == 1
    assert model(image, max_people=1).scores[0] == best
    assert len(model(image, score_threshold=float(best))) == 1
    assert [len(poses) for poses in model([image] * 2, max_people=1)] == [1, 1]
    assert [len(poses) for poses in model(iter([image] * 2), max_people=1)] == [1, 1]
    assert len(model(image)) == 2
    for limits in ({"max_people": 0}, {"score_threshold": 2}):
        with pytest.raises(BodyPoseNetError, match=next(iter(limits))):
            model(iter([image]), **limits)  # raised by the call, not with the first result


def test_limits_given_to_load(exported):
    photo = read_image(sorted((exported.parent).rglob("test/*.jpg"))[0])
    options = {"input_shape": (128, 128)}
    unlimited = bodyposenet.load(exported / "model.onnx", **options)(photo)
    assert len(unlimited) > 1
    limited = bodyposenet.load(exported / "model.onnx", max_people=1, **options)
    for one in (limited, pickle.loads(pickle.dumps(limited))):
        assert len(one(photo)) == 1
        assert len(one(photo, max_people=9)) == len(unlimited)


def test_a_closed_model(tlt, tmp_path):
    with bodyposenet.load(tlt, input_shape=(64, 64)) as model:
        assert isinstance(model(row_of_dots()), Poses)
        iterator = model(iter([row_of_dots()] * 3))
        next(iterator)
    assert len(list(iterator)) == 2
    assert "closed" in repr(model)
    for use in (lambda: pickle.dumps(model), lambda: copy.copy(model), model.__enter__):
        with pytest.raises(BodyPoseNetError, match="closed"):
            use()
    model.close()  # a second time
    for call in (lambda: model(row_of_dots()), lambda: model([]), lambda: model.video("a.mp4")):
        with pytest.raises(BodyPoseNetError, match=r"model\.tlt.*closed") as caught:
            call()
        assert "load()" in caught.value.remedy
    assert model.skeleton


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts the threads of Linux")
@pytest.mark.parametrize("engine", ["onnx", "openvino", "pytorch"])
def test_closed_models_leave_no_threads(engine, tlt):
    def count():
        return len(list(Path("/proc/self/task").iterdir()))

    def use():
        file = tlt if engine == "pytorch" else None
        with bodyposenet.load(file, engine=engine, input_shape=(64, 64), threads=3) as model:
            model([row_of_dots()] * 3)
            return count()

    use()  # a runtime may keep threads that all of its models share
    time.sleep(0.5)  # until the other threads have ended
    before = count()
    for _ in range(3):
        assert use() > before
        deadline = time.monotonic() + 5
        while count() > before and time.monotonic() < deadline:
            time.sleep(0.01)
        assert count() <= before


@pytest.mark.parametrize("engine", ["onnx", "openvino"])
def test_nothing_but_numbas_cache_is_written_to_the_home_folder(tmp_path, engine):
    """Telemetry is disabled: neither a device id nor a queue of events is written."""
    code = (
        "import sys, numpy, bodyposenet\n"
        f"bodyposenet.load(engine={engine!r}, input_shape=(64, 64))"
        "(numpy.zeros((64, 64, 3), numpy.uint8))\n"
        "assert 'openvino_telemetry' not in sys.modules\n"  # so that users can import the real one
    )
    kept = ("PATH", "PYTHONPATH", "SYSTEMROOT", "LD_LIBRARY_PATH", "OMP_NUM_THREADS")
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    homes = ("HOME", "USERPROFILE", "LOCALAPPDATA", "APPDATA", "TMPDIR", "TEMP")
    environment |= dict.fromkeys(homes, str(tmp_path))
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, env=environment)
    left = [path for path in tmp_path.rglob("*") if path.is_file() and "numba" not in str(path)]
    assert left == []


def test_require_sealed(tlt, tmp_path):
    header, tensors = read_tensors(tlt)
    write_tensors(tmp_path / "sealed.tlt", header, tensors, key="key")
    sealed = bodyposenet.load(tmp_path / "sealed.tlt", "key", require_sealed=True)
    with pytest.raises(BodyPoseNetError, match=r"\.tlt: .*sealed"):
        bodyposenet.load(tlt, "key", require_sealed=True)
    with pytest.raises(BodyPoseNetError, match="require_sealed"):
        bodyposenet.load(tmp_path / "sealed.tlt", require_sealed=True)
    write_tensors(tmp_path / "sealed.tlt", header, tensors)
    with pytest.raises(BodyPoseNetError, match=r"\.tlt: .*sealed"):
        pickle.loads(pickle.dumps(sealed))


def test_a_model_file_is_opened(tlt):
    model = bodyposenet.load(tlt, input_shape=(64, 64))
    assert repr(model) == "PoseEstimator(model.tlt on pytorch fp32, input 64 x 64)"
    assert len(model.skeleton.joints) == 18
    poses = model(row_of_dots())
    assert poses.skeleton is model.skeleton


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"input_shap": (64, 64)}, "input_shap.*input_shape"),
        ({"input_shape": (64, 0)}, "input_shape.1: .*greater than or equal to 1"),
        ({"input_shape": 320}, r"input_shape: .*, as in \[368, 368\] \(got 320\)"),
        ({"mode": "fast"}, "mode: "),
        ({"flip_test": 1}, "flip_test: "),
        ({"paf_threshold": float("nan")}, "paf_threshold: "),
        ({"scales": {1.0}}, "options of load"),
        ({"output_stage_to_use": 7}, "output_stage_to_use: there is no stage 7"),
        ({"batch_size": 0}, "batch_size: 0"),
        ({"batch_size": 2.5}, "batch_size: 2.5"),
        ({"batch_size": True}, "batch_size: True"),
        ({"threads": True}, "threads: True"),
        ({"max_people": True}, "max_people: True"),
        ({"score_threshold": True}, "score_threshold: True"),
        ({"read_ahead": -1}, "read_ahead: -1"),
        ({"concurrency": 0}, "concurrency: 0"),
        ({"color": "hsv"}, "color: 'hsv'"),
        ({"score_threshold": 50}, "score_threshold: 50"),
        ({"max_people": 0}, "max_people: 0"),
        ({"device": "gpu"}, "device: 'gpu'"),
    ],
)
def test_wrong_options(tlt, options, message):
    with pytest.raises(BodyPoseNetError, match=message) as caught:
        bodyposenet.load(tlt, **options)
    assert "options.json" not in str(caught.value)


def test_options_of_numpy(tlt):
    options = {"input_shape": np.array([64, 64]), "heatmap_threshold": np.float64(0.5)}
    numbers = {"batch_size": np.int64(4), "read_ahead": np.uint8(0), "threads": np.int32(1)}
    model = bodyposenet.load(tlt, train_spec=Path("lost.yaml"), **options, **numbers)
    assert len(model([row_of_dots()] * 3)) == 3


def test_the_default_model_is_opened_without_arguments():
    model = bodyposenet.load(input_shape=(64, 96))
    assert model.skeleton.name == "bpnet_18_joints"
    assert len(model(np.full((64, 96, 3), 128, np.uint8))) == 0


def test_wrong_models(tmp_path):
    with pytest.raises(BodyPoseNetError, match=r"lost\.tlt: no such model file"):
        bodyposenet.load(tmp_path / "lost.tlt")
    with pytest.raises(BodyPoseNetError, match="engine: tensorflow"):
        bodyposenet.load(engine="tensorflow")
    with pytest.raises(BodyPoseNetError, match="an empty name: no such model file"):
        bodyposenet.load("")


@pytest.mark.parametrize("model", [3, b"model.onnx", ["model.onnx"], True])
def test_the_model_must_be_a_path(model):
    with pytest.raises(BodyPoseNetError, match=rf"model: .*{type(model).__name__}"):
        bodyposenet.load(model)


def test_no_decoder_is_compiled_for_invalid_models(tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr("bodyposenet.inference.models.warm_up_in_background", started.append)
    (tmp_path / "empty.onnx").touch()
    (tmp_path / "text.onnx").write_text("not a model")
    (tmp_path / "cut.onnx").write_bytes(default_model("onnx").read_bytes()[:100_000])
    for name in ("empty.onnx", "text.onnx", "cut.onnx"):
        with pytest.raises(BodyPoseNetError, match=name):
            bodyposenet.load(tmp_path / name)
    with pytest.raises(BodyPoseNetError, match="tensorflow"):
        bodyposenet.load(engine="tensorflow")
    assert not started
    bodyposenet.load(input_shape=(64, 64))
    assert started == ["accurate"]


def test_a_model_without_its_runtime(tlt, monkeypatch):
    monkeypatch.delitem(sys.modules, "bodyposenet.inference.engines.pytorch", raising=False)
    monkeypatch.delattr(engines, "pytorch", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(BodyPoseNetError, match=r"model\.tlt: .* needs torch") as caught:
        bodyposenet.load(tlt)
    assert "bpnet doctor" in caught.value.remedy


def test_option_types_match_load_and_the_inference_spec():
    keys = get_type_hints(InferenceSpec)
    assert get_type_hints(estimator.SpecOptions) == {
        key: keys[key] for key in InferenceSpec.model_fields if key != "model_path"
    }
    hints = get_type_hints(bodyposenet.load, vars(estimator))
    del hints["options"], hints["return"]
    assert get_type_hints(estimator.Options) == get_type_hints(estimator.SpecOptions) | hints
    parameters = list(inspect.signature(bodyposenet.load).parameters)
    assert list(estimator.OPTIONS)[: len(parameters) - 1] == parameters[:-1]
    assert get_args(estimator.EngineName) == ENGINES
    assert get_args(estimator.Precision) == PRECISIONS
    assert parameters[:3] == ["model", "key", "engine"]


@pytest.mark.parametrize(
    ("options", "scales"),
    [
        ({}, 2),
        ({"input_shape": (64, 64)}, 1),
        ({"input_shape": (64, 64), "multi_scale_inference": True}, 2),
        ({"input_shape": (64, 64), "scales": (1.0, 1.5, 2.0)}, 3),
        ({"scales": (1.0,)}, 1),
        ({"flip_test": True}, 2),
    ],
)
def test_an_input_shape_without_scales_means_one_scale(monkeypatch, tmp_path, options, scales):
    default = tmp_path / "infer_spec.yaml"
    default.write_text("input_shape: [96, 96]\nmulti_scale_inference: true\nscales: [0.5, 1.0]\n")
    monkeypatch.setitem(PRESETS, "default", default)
    predictor = bodyposenet.load(**options)._open()
    assert len(predictor.prepare(row_of_dots())) == scales


@pytest.mark.parametrize("color", ["rgb", "bgr"])
def test_colors(color):
    spec = InferenceSpec(input_shape=(96, 128), keep_aspect_ratio_mode=None)
    model = PoseEstimator(Predictor(ColorEngine(), spec), color=color)
    pixels = row_of_dots() if color == "rgb" else row_of_dots()[..., ::-1]
    for found in (model(pixels), *model([pixels]), *model(iter([pixels]))):
        assert_found(found)
    assert_found(model(Image.fromarray(row_of_dots())))


def test_a_list_of_different_types_of_images(model, tmp_path):
    Image.fromarray(row_of_dots()).save(tmp_path / "row.png")
    content = (tmp_path / "row.png").read_bytes()
    path = tmp_path / "row.png"
    with open(path, "rb") as file:
        images = [
            path,
            str(path),
            content,
            bytearray(content),
            io.BytesIO(content),
            file,
            row_of_dots(),
            torch.from_numpy(row_of_dots()),
            Image.open(path),
        ]
        for poses in model(images):
            assert_found(poses)
        file.seek(0)
        assert_found(model(file))


def test_the_package_is_typed():
    assert (Path(bodyposenet.__file__).parent / "py.typed").exists()
    assert "load" in dir(bodyposenet)


def test_importing_load_does_not_import_torch():
    code = "import sys, bodyposenet; bodyposenet.load; raise SystemExit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ)


def test_the_examples_of_the_python_page_run(tlt, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_drawn_dataset(tmp_path, train_images=3, test_images=1, size=96, seed=1)
    (tmp_path / "train").rename("photos")
    next(Path("photos").iterdir()).rename("people.jpg")
    Path("model.tlt").write_bytes(tlt.read_bytes())
    names = {}
    for example in EXAMPLES:
        exec(compile(example, "docs/python.md", "exec"), names)
    assert "lost.jpg" in capsys.readouterr().out
    assert Path("drawn.png").exists()
    assert names["again"].skeleton == names["model"].skeleton
    assert len(names["same"]) == len(names["results"]) == len(names["again"])
    assert names["poses"].track_ids is not None


def test_the_examples_of_the_docstrings_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_drawn_dataset(tmp_path, train_images=3, test_images=1, size=96, seed=1)
    (tmp_path / "train").rename("photos")
    next(Path("photos").iterdir()).rename("people.jpg")
    with Mp4Writer(Path("dance.mp4"), 30) as movie:
        for index in range(3):
            movie.write(read_image(Path("people.jpg")), index / 30)
    small = bodyposenet.load(input_shape=(96, 96), threads=1)
    monkeypatch.setattr(bodyposenet, "load", lambda **options: small, raising=False)
    names = {"bodyposenet": bodyposenet, "model": small}
    documented = (estimator.load, ImageError, PoseEstimator, VideoPredictor)
    documented += (PoseEstimator.__call__, PoseEstimator.video)
    for item in documented:
        examples = re.findall(r"```python\n(.*?)```", inspect.getdoc(item), re.DOTALL)
        assert examples, item
        for example in examples:
            code = textwrap.dedent(example)
            exec(compile(code, f"docstring of {item.__qualname__}", "exec"), names)
    assert len(names["results"]) == 2
    assert names["annotated"].shape == (96, 96, 3)
    assert "1 images[1]: " in capsys.readouterr().out
