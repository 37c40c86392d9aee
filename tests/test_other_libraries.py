"""Errors about names of other pose libraries contain the equivalent in this package."""

import copy
import logging
import pickle

import cv2
import numpy as np
import pytest

import bodyposenet
from bodyposenet import BodyPoseNetError, Poses
from bodyposenet.media.images import read_image
from bodyposenet.specs.pose import load_skeleton


@pytest.fixture(scope="module")
def model():
    return bodyposenet.load(input_shape=(64, 64))


@pytest.fixture
def photo(drawn_dataset, tmp_path):
    """The path of an image with people."""
    path = tmp_path / "people.png"
    source = sorted((drawn_dataset.folder / "test").rglob("*.jpg"))[0]
    cv2.imwrite(str(path), cv2.cvtColor(read_image(source), cv2.COLOR_RGB2BGR))
    return path


@pytest.mark.parametrize(
    ("options", "write"),
    [
        # ultralytics: YOLO("yolo11n-pose.pt"), model.predict(source, ...)
        ({"conf": 0.5}, "score_threshold"),
        ({"iou": 0.7}, "leave it out"),
        ({"imgsz": 640}, "input_shape=(height, width)"),
        ({"max_det": 5}, "max_people"),
        ({"half": True}, "precision"),
        ({"verbose": False}, "getLogger"),
        ({"stream": True}, "iterator"),
        ({"vid_stride": 2}, "stride=2"),
        ({"classes": [0]}, "only people"),
        ({"weights": "yolo11n-pose.pt"}, "load(model)"),
        # rtmlib: Body(...)
        ({"backend": "onnxruntime"}, 'engine="onnx"'),
        ({"pose_input_size": (192, 256)}, "input_shape"),
        ({"to_openpose": False}, "skeleton"),
        ({"det": "yolox.onnx"}, "no detector"),
        # MediaPipe: PoseLandmarkerOptions(...), Pose(...)
        ({"num_poses": 2}, "max_people"),
        ({"min_pose_detection_confidence": 0.5}, "score_threshold"),
        ({"running_mode": "VIDEO"}, "model.video"),
        ({"smooth_landmarks": True}, "smooth=True"),
        # MMPose: MMPoseInferencer(...), inferencer(img, ...)
        ({"pose2d": "human"}, "load(model)"),
        ({"kpt_thr": 0.3}, "heatmap_threshold"),
        # a mistyped option of this package
        ({"scor_threshold": 0.5}, "score_threshold"),
    ],
)
def test_keywords_of_other_libraries_suggest_ours(model, options, write):
    (name,) = options
    for call in (lambda: bodyposenet.load(**options), lambda: model("a.jpg", **options)):
        with pytest.raises(BodyPoseNetError) as caught:
            call()
        assert name in caught.value.what
        assert "\n" not in str(caught.value)  # the hint replaces the list of all options
    with pytest.raises(BodyPoseNetError) as caught:
        bodyposenet.load(**options)
    assert write in caught.value.what


@pytest.mark.parametrize(
    ("options", "function"),
    [
        ({"device": "cpu"}, "load()"),
        ({"flip_test": True}, "load()"),
        ({"batch_size": 2}, "load()"),
        ({"track": True}, "model.video()"),
        ({"stride": 2}, "model.video()"),
    ],
)
def test_options_of_another_function_name_it(model, options, function):
    calls = [lambda: model("a.jpg", **options)]
    calls += [lambda: bodyposenet.load(**options)] if "video" in function else []
    calls += [lambda: model.video("a.mp4", **options)] if "load" in function else []
    assert len(calls) == 2
    for call in calls:
        with pytest.raises(BodyPoseNetError, match=next(iter(options))) as caught:
            call()
        assert function in caught.value.what


def test_unknown_option_lists_all_options(model):
    for call in (lambda: bodyposenet.load(xyzzy=1), lambda: model("a.jpg", xyzzy=1)):
        with pytest.raises(BodyPoseNetError, match="xyzzy") as caught:
            call()
        assert "max_people" in caught.value.remedy


def test_several_unknown_keywords_are_one_error(model):
    with pytest.raises(BodyPoseNetError) as caught:
        model(source="a.jpg", conf=0.5, verbose=False)
    assert all(name in caught.value.what for name in ("source", "conf", "verbose"))


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("predict", "model(image)"),
        ("track", "model.video(source, track=True)"),
        ("process", "model(image)"),
        ("detect", "model(image)"),
        ("detect_for_video", "model.video"),
        ("to", "device="),
        ("cuda", "device="),
        ("eval", "leave it out"),
        ("names", "model.skeleton.joints"),
        ("val", "evaluate"),
        ("release", "model.close()"),
    ],
)
def test_methods_of_other_libraries_suggest_ours(model, name, write):
    with pytest.raises(AttributeError, match=name) as caught:
        getattr(model, name)
    assert write in str(caught.value)
    assert not hasattr(model, name)


def test_name_of_command_suggests_its_function():
    with pytest.raises(AttributeError, match="convert_dataset"):
        bodyposenet.dataset_convert  # noqa: B018


@pytest.mark.parametrize("name", ["YOLO", "Body", "PoseLandmarker", "MMPoseInferencer"])
def test_classes_of_other_libraries_suggest_ours(name):
    with pytest.raises(AttributeError, match=name) as caught:
        getattr(bodyposenet, name)
    assert "bodyposenet.load()" in str(caught.value)
    assert not hasattr(bodyposenet, "lode")


@pytest.mark.parametrize("exists", [False, True])
@pytest.mark.parametrize("name", ["yolo11n-pose.pt", "pose_landmarker.task", "rtmpose.pth"])
def test_models_of_other_libraries_are_rejected(tmp_path, name, exists):
    if exists:
        (tmp_path / name).write_bytes(b"weights")
    with pytest.raises(BodyPoseNetError, match=name) as caught:
        bodyposenet.load(tmp_path / name)
    assert "default model" in caught.value.remedy


def test_modes_of_rtmlib_are_rejected():
    with pytest.raises(BodyPoseNetError, match=r"mode.*balanced") as caught:
        bodyposenet.load(mode="balanced")
    assert "accurate" in str(caught.value)


@pytest.mark.parametrize(
    "use",
    [
        lambda model, folder: model.video(folder / "lost.mp4"),
        lambda model, folder: model.video(folder),
        lambda model, folder: model.video(999),
        lambda model, folder: model.video("rtsp://127.0.0.1:1/a"),
        lambda model, folder: model(folder),  # without images
        lambda model, folder: model(folder / "lost.png"),
        lambda model, folder: bodyposenet.load(folder / "lost.onnx"),
        lambda model, folder: bodyposenet.load(folder),
        lambda model, folder: bodyposenet.load(engine="tflite"),
        lambda model, folder: bodyposenet.load(precision="int4"),
        lambda model, folder: bodyposenet.load(precision="bf16"),
        lambda model, folder: bodyposenet.load(threads=0),
    ],
)
def test_errors_in_python_contain_no_flags(model, tmp_path, use):
    with pytest.raises(BodyPoseNetError) as caught:
        use(model, tmp_path)
    assert caught.value.remedy
    assert " -" not in str(caught.value)


def test_device_numbers_are_rejected():
    with pytest.raises(BodyPoseNetError) as caught:
        bodyposenet.load(device=0)
    assert "cuda:0" in caught.value.remedy


def test_one_image_gives_one_result_and_a_list_gives_a_list(model, photo):
    poses = model(str(photo))
    assert isinstance(poses, Poses)
    (first,) = model([photo])
    np.testing.assert_array_equal(first.keypoints, poses.keypoints)
    assert [len(found) for found in model(path for path in [photo])] == [len(poses)]


def test_opencv_images_with_color_bgr(photo):
    model = bodyposenet.load(input_shape=(64, 64), color="bgr", device="cpu")
    frame = cv2.imread(str(photo))
    np.testing.assert_array_equal(model(frame).keypoints, model(photo).keypoints)
    np.testing.assert_array_equal(model(photo.read_bytes()).keypoints, model(photo).keypoints)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("plot", "draw(image)"),  # ultralytics: results[0].plot()
        ("xy", "poses.keypoints"),
        ("cpu", "NumPy"),
        ("names", "skeleton.joints"),
        ("tojson", "to_dict()"),
        ("xyxy", "poses.boxes"),
        ("orig_img", "keep the image"),
        ("pose_landmarks", "poses.keypoints"),  # MediaPipe
        ("pred_instances", "poses.keypoints"),  # MMPose
        ("shape", "poses.keypoints"),  # rtmlib: keypoints, scores = body(image)
    ],
)
def test_attributes_of_other_results_suggest_ours(name, write):
    skeleton = load_skeleton("bpnet_18joints.json")
    points = np.zeros((1, 18, 2), np.float32)
    poses = Poses(points, points[..., 0], points[:, 0, 0], skeleton)
    for result in (poses, poses[0]):
        with pytest.raises(AttributeError, match=name) as caught:
            getattr(result, name)
        assert write in str(caught.value)
    again = pickle.loads(pickle.dumps(copy.copy(poses)))
    np.testing.assert_array_equal(again.keypoints, poses.keypoints)


def test_drawing_on_a_photo(model, photo):
    poses = model(photo, score_threshold=0.0)
    picture = poses.draw(photo, score_threshold=0)
    assert picture.shape == read_image(photo).shape


def test_loading_prints_nothing(capfd):
    level = logging.getLogger("bodyposenet").level
    bodyposenet.load(input_shape=(64, 64))(np.zeros((64, 64, 3), np.uint8))
    assert capfd.readouterr().out == ""
    assert logging.getLogger("bodyposenet").level == level
