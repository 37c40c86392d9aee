"""Hints for users of ultralytics, rtmlib, MediaPipe and MMPose: the equivalents of their names.

Errors about unknown keywords and attributes contain the name that this package uses.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bodyposenet.errors import BodyPoseNetError, closest

_SCORE = "score_threshold=0.5, the minimum score of a person (heatmap_threshold: of a joint)"
_SHAPE = "input_shape=(height, width), given to load()"
_PEOPLE = "max_people=5"
_FILE = 'the precision is that of the model file (bpnet export --data_type); or precision="bf16"'
_NO_NMS = "leave it out: the network detects joints, not boxes, so there is nothing to suppress"
_LOG = 'logging.getLogger("bodyposenet").setLevel(...)'
_STREAM = "an iterator of images gives an iterator of poses; model.video(source) reads videos"
_DEVICE = 'device="cpu", "cuda" or "cuda:1", given to load()'
_ENGINE = 'engine="onnx", "openvino", "pytorch" or "tensorrt", given to load()'
_DRAW = "bodyposenet.draw(image, poses)"
_TRACK = "model.video(source, track=True)"
_CALL = "call the model: poses = model(image)"
_LOAD = "model = bodyposenet.load(), then poses = model(image)"
_TRAIN = "bodyposenet.train(...), evaluate(...) and export(...), or the command bpnet"

_KEYWORDS = {
    "conf": _SCORE, "conf_thres": _SCORE, "confidence": _SCORE, "threshold": _SCORE,
    "score_thr": _SCORE, "kpt_thr": _SCORE, "bbox_thr": _SCORE, "min_detection_confidence": _SCORE,
    "min_tracking_confidence": _SCORE, "min_pose_detection_confidence": _SCORE,
    "min_pose_presence_confidence": _SCORE, "model_complexity": _SHAPE,
    "iou": _NO_NMS, "iou_thres": _NO_NMS, "nms_thr": _NO_NMS, "agnostic_nms": _NO_NMS,
    "classes": "leave it out: there are only people",
    "imgsz": _SHAPE, "img_size": _SHAPE, "input_size": _SHAPE, "model_input_size": _SHAPE,
    "pose_input_size": _SHAPE, "det_input_size": _SHAPE, "size": _SHAPE,
    "max_det": _PEOPLE, "num_poses": _PEOPLE, "max_num_people": _PEOPLE, "max_persons": _PEOPLE,
    "half": _FILE, "fp16": _FILE, "int8": _FILE, "dtype": _FILE,
    "verbose": _LOG, "show_log": _LOG,
    "stream": _STREAM, "running_mode": _STREAM, "static_image_mode": _STREAM,
    "vid_stride": "model.video(source, stride=2), which also yields the frames in between, with "
    "earlier poses and frame.is_processed == False",
    "source": "the image is the first argument: model(image)",
    "img": "the image is the first argument: model(image)",
    "image": "the image is the first argument: model(image)",
    "inputs": "the image is the first argument: model(image)",
    "batch": "batch_size=8, given to load()",
    "augment": "flip_test=True, given to load()",
    "flip": "flip_test=True, given to load()",
    "smooth_landmarks": "model.video(source, smooth=True)",
    "tracker": _TRACK, "persist": _TRACK, "tracking": _TRACK,
    "gpu": _DEVICE, "devices": _DEVICE, "use_gpu": _DEVICE,
    "backend": _ENGINE, "providers": _ENGINE, "runtime": _ENGINE,
    "weights": "the model file is the first argument: load(model)",
    "path": "the model file is the first argument: load(model)",
    "model_path": "the model file is the first argument: load(model)",
    "pose": "the model file is the first argument: load(model)",
    "pose2d": "the model file is the first argument: load(model)",
    "pose2d_weights": "the model file is the first argument: load(model)",
    "det": "leave it out: there is no detector before the network",
    "det_model": "leave it out: there is no detector before the network",
    "to_openpose": "poses.skeleton has the joints of the model, poses.to_coco() maps to COCO",
    "show": _DRAW, "save": "poses.save(path), or bodyposenet.draw(image, poses)",
}  # fmt: skip
"""Keyword argument in another library -> hint."""

_METHODS = {
    "predict": _CALL, "process": _CALL, "detect": _CALL, "inference": _CALL, "infer": _CALL,
    "estimate": _CALL, "forward": _CALL,
    "detect_for_video": _TRACK, "detect_async": _TRACK, "track": _TRACK, "stream": _STREAM,
    "to": _DEVICE, "cuda": _DEVICE, "cpu": _DEVICE, "half": _FILE,
    "eval": "leave it out: networks run in evaluation mode",
    "fuse": "leave it out: bpnet export folds batch normalization",
    "warmup": _CALL, "plot": _DRAW, "show": _DRAW, "names": "model.skeleton.joints",
    "train": _TRAIN, "val": _TRAIN, "export": _TRAIN, "benchmark": _TRAIN,
    "release": "model.close()",
}  # fmt: skip
"""Attribute of a model in another library -> hint."""

_ARRAYS = (
    "poses.keypoints, (people, joints, 2), and poses.keypoint_scores, (people, joints), are arrays"
)
_RESULTS = {
    **dict.fromkeys(("plot", "show", "visualize", "vis"), "poses.draw(image) gives a new image"),
    **dict.fromkeys(("xy", "xyn", "conf", "shape", "pose_landmarks", "landmark"), _ARRAYS),
    **dict.fromkeys(("keypoints_visible", "pred_instances", "predictions"), _ARRAYS),
    **dict.fromkeys(("cpu", "cuda", "numpy", "to"), "leave it out: the arrays are NumPy arrays"),
    **dict.fromkeys(("tojson", "to_json", "summary"), "poses.to_dict(), or poses.save(path)"),
    **dict.fromkeys(("masks", "probs", "obb"), "there are only joints"),
    "names": "poses.skeleton.joints",
    "to_df": "poses.to_dataframe()",
    "save_txt": "poses.save(path)",
    **dict.fromkeys(("bboxes", "xyxy", "boxes", "box"), "poses.boxes, and the box of one person"),
    "id": "poses.track_ids",
    "orig_img": "keep the image: poses do not have it",
}
"""Attribute of a result in another library -> hint."""

_ATTRIBUTES = {
    **dict.fromkeys(("YOLO", "Body", "Wholebody", "BodyWithFeet", "PoseTracker", "Custom"), _LOAD),
    **dict.fromkeys(("PoseLandmarker", "Pose", "MMPoseInferencer", "init_model"), _LOAD),
    **dict.fromkeys(("KeypointRCNN", "OpenPose", "PoseEstimation", "Model"), _LOAD),
    **dict.fromkeys(("draw_skeleton", "draw_landmarks", "visualize", "plot"), _DRAW),
    **dict.fromkeys(("infer", "detect", "process"), _LOAD),
    "dataset_convert": "bodyposenet.convert_dataset(...)",
}
"""Name in another library -> hint."""


def unknown_keywords(
    function: str,
    unknown: Iterable[str],
    known: Iterable[str],
    others: Mapping[str, Iterable[str]] | None = None,
) -> BodyPoseNetError:
    """Create the error about keywords that a function does not have.

    Args:
        function: Name of the function.
        unknown: The unknown keywords.
        known: The keywords of the function.
        others: Other functions -> their keywords.
    """
    known, unknown = list(known), list(unknown)
    advice = {name: _advice(name, known, others or {}) for name in unknown}
    lines = [f"{function} has no option {name}{advice[name]}" for name in unknown]
    listed = f"Options of {function}: {', '.join(known)}."
    return BodyPoseNetError("\n".join(lines), "" if all(advice.values()) else listed)


def missing_model_attribute(name: str) -> AttributeError:
    """Create the error about an attribute that `PoseEstimator` does not have."""
    advice = f": {_METHODS[name]}" if name in _METHODS else ""
    return AttributeError(f"PoseEstimator has no attribute {name!r}{advice}")


def missing_result_attribute(kind: str, name: str) -> AttributeError:
    """Create the error about an attribute that a result class does not have.

    Args:
        kind: Name of the class.
        name: Name of the attribute.
    """
    advice = f": {_RESULTS[name]}" if name in _RESULTS else ""
    return AttributeError(f"{kind} has no attribute {name!r}{advice}")


def missing_package_attribute(name: str) -> AttributeError:
    """Create the error about a name that the package does not have."""
    advice = f": {_ATTRIBUTES[name]}" if name in _ATTRIBUTES else ""
    return AttributeError(f"module 'bodyposenet' has no attribute {name!r}{advice}")


def _advice(name: str, known: list[str], others: Mapping[str, Iterable[str]]) -> str:
    for function, options in others.items():
        if name in options:
            return f": it is an option of {function}()"
    if name in _KEYWORDS:
        return f"; write: {_KEYWORDS[name]}"
    similar = closest(name, known)
    return f", did you mean {' or '.join(similar)}?" if similar else ""
