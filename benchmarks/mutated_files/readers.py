"""The readers under test: a small valid file of each kind, its mutation and its reader."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import yaml

from bodyposenet import Maps, Poses, decode, load
from bodyposenet.cli import main
from bodyposenet.data.coco import load_coco
from bodyposenet.data.dataset import SampleSet
from bodyposenet.data.detections import read_detections
from bodyposenet.data.masks import read_mask
from bodyposenet.data.records import RecordSet, read_records
from bodyposenet.decoding import DecodingOptions
from bodyposenet.demo import write_drawn_dataset
from bodyposenet.evaluation.comparison import read_run
from bodyposenet.evaluation.details import evaluate_in_detail
from bodyposenet.evaluation.evaluator import (
    EvaluationJob,
    ImageResult,
    load_test_images,
    score_results,
)
from bodyposenet.evaluation.protocols import EvaluationProtocol
from bodyposenet.exporting.engine import EngineOptions, build_engine_file
from bodyposenet.exporting.int8.calibration_cache import read_cache, write_cache
from bodyposenet.exporting.int8.ranges import Range
from bodyposenet.exporting.int8.tensorfile import read_tensorfile, write_tensorfile
from bodyposenet.inference.detections import DetectionJob, read_pictures
from bodyposenet.inference.engines.onnx_file import write_etlt
from bodyposenet.inference.models import open_predictor
from bodyposenet.inference.parallel.result_store import ResultStore
from bodyposenet.media.images import read_image
from bodyposenet.media.video import open_video
from bodyposenet.media.video_writer import Mp4Writer
from bodyposenet.skeleton import COCO_JOINTS
from bodyposenet.specs.dataset import DatasetSpec
from bodyposenet.specs.inference import InferenceSpec
from bodyposenet.specs.pose import load_skeleton
from bodyposenet.specs.training import TrainSpec
from bodyposenet.training.build import build_training
from bodyposenet.training.distributed import DistributedContext
from bodyposenet.training.samples import dataset_sources

from . import mutations
from .annotation_files import (
    ANNOTATION_FILES,
    read_annotations,
    read_yolo_description,
    read_yolo_labels,
    write_annotation_files,
)
from .mutations import Mutation

_SIZE = 64
_KEY = "key"
_MAX_PIXELS = 2**20


@dataclass(frozen=True)
class Reader:
    """A kind of file, with its mutation and its reader.

    Args:
        seed: A valid file, relative to the folder of `write_seeds`.
        mutate: Function that mutates its content.
        read: Function that processes a file like the command that reads it.
    """

    seed: str
    mutate: Mutation
    read: Callable[[Path], object]


def write_seeds(folder: Path) -> None:
    """Write a valid file of every kind.

    Args:
        folder: Folder to write to: the files, and the synthetic dataset that they refer to.
    """
    spec = write_drawn_dataset(folder, 2, 1, (_SIZE, _SIZE), seed=0)
    _bpnet("dataset_convert", "-d", spec, "-o", folder / "records" / "train", "--generate_masks")
    (folder / "infer.yaml").write_text(f"input_shape: [{_SIZE}, {_SIZE}]\nmode: accurate\n")
    skeleton = load_skeleton("bpnet_18joints.json")
    (folder / "pose.json").write_text(json.dumps(skeleton.to_pose_configuration()))
    (folder / "train.yaml").write_text(yaml.safe_dump(_train_spec(folder)))
    write_annotation_files(folder)
    _write_pictures(folder)
    _write_poses(folder / "poses.json")
    _write_models(folder)
    cells = {f"layer_{number}/BiasAdd:0": Range(-1.0, 1.0 + number) for number in range(4)}
    write_cache(folder / "cal.bin", cells)
    batches = [np.zeros((1, _SIZE, _SIZE, 3), np.float32)] * 2
    write_tensorfile(folder / "cal.h5", batches, requested=(2, 1), photos=["00" * 32] * 2)
    found = folder / "found"
    _bpnet("inference", "-m", folder / "m.onnx", "--input", folder / "train", "-r", found)
    entry = json.loads((found / "detections.json").read_text())["images"][0]
    (found / "results.json").write_text(json.dumps({"keypoints_not_evaluated": ["nose"]}))
    stored = {"entry": entry, "picture": None}
    (folder / "part-00000.jsonl").write_text(json.dumps({"key": "a", "result": stored}) + "\n")
    evaluated = {"entry": entry, "results": [], "unreadable": "", "resized": ""}
    line = json.dumps({"key": "a", "result": evaluated})
    (folder / "part-00001.jsonl").write_text(line + "\n")


def readers(folder: Path) -> dict[str, Reader]:
    """Return all readers by name.

    Args:
        folder: Folder of `write_seeds`.
    """
    photo = read_image(folder / "photo.png")
    run = partial(_open_and_run, photo)
    return {
        "dataset spec": Reader("dataset.json", mutations.mutate_json, _convert),
        "train spec": Reader("train.yaml", mutations.mutate_yaml, _prepare_training),
        "inference spec": Reader(
            "infer.yaml", mutations.mutate_yaml, partial(_infer_with, folder / "m.onnx", photo)
        ),
        "pose configuration": Reader("pose.json", mutations.mutate_json, _decode_zeros),
        "annotations, converted": Reader(
            "annotations/test.json", mutations.mutate_json, partial(_convert_annotations, folder)
        ),
        "annotations, evaluated": Reader(
            "annotations/test.json", mutations.mutate_json, partial(_evaluate, folder)
        ),
        **{
            f"annotations, {name}": Reader(
                f"formats/{file}",
                mutations.mutate_xml if file.endswith(".xml") else mutations.mutate_json,
                partial(read_annotations, folder, joints),
            )
            for name, (file, joints) in ANNOTATION_FILES.items()
        },
        "annotations, YOLO-pose": Reader(
            "formats/yolo/data.yaml", mutations.mutate_yaml, partial(read_yolo_description, folder)
        ),
        "labels, YOLO-pose": Reader(
            "formats/yolo/labels/000000.txt", mutations.mutate_lines,
            partial(read_yolo_labels, folder),
        ),
        "TFRecord": Reader(
            "records/train-fold-000-of-001", mutations.mutate_tfrecord,
            partial(_make_samples, folder),
        ),
        "PNG": Reader("photo.png", mutations.mutate_png, read_image),
        "JPEG": Reader("photo.jpg", mutations.mutate_bytes, read_image),
        "mask": Reader(
            "train_mask/000000.png", mutations.mutate_png,
            partial(read_mask, height=_SIZE, width=_SIZE),
        ),
        "video": Reader("video.mp4", mutations.mutate_bytes, _read_video),
        ".tlt": Reader("m.tlt", mutations.mutate_container, run),
        ".onnx": Reader("m.onnx", mutations.mutate_onnx, run),
        ".onnx, OpenVINO": Reader(
            "m.onnx", mutations.mutate_onnx, partial(run, engine="openvino")
        ),
        ".etlt": Reader("m.etlt", mutations.mutate_container, partial(run, key=_KEY)),
        ".engine": Reader("m.engine", mutations.mutate_engine, run),
        "state": Reader(
            "run/model.epoch-1.state", mutations.mutate_container, partial(_resume, folder)
        ),
        "calibration cache": Reader("cal.bin", mutations.mutate_lines, read_cache),
        "tensorfile": Reader("cal.h5", mutations.mutate_hdf5, _read_tensorfile),
        "detections": Reader(
            "found/detections.json", mutations.mutate_json, partial(_use_detections, folder)
        ),
        "results of an evaluation": Reader(
            "found/results.json", mutations.mutate_json, partial(_read_run, folder)
        ),
        "saved poses": Reader("poses.json", mutations.mutate_json, _use_poses),
        "stored entries": Reader(
            "part-00000.jsonl", mutations.mutate_json_lines, partial(_load_results, DetectionJob())
        ),
        "stored detections": Reader(
            "part-00001.jsonl", mutations.mutate_json_lines,
            partial(_load_results, EvaluationJob(folder, COCO_JOINTS)),
        ),
    }  # fmt: skip


def _bpnet(*arguments: object) -> None:
    """Run a command on valid files.

    Raises:
        RuntimeError: The command failed.
    """
    if main([str(argument) for argument in arguments]):
        raise RuntimeError(f"bpnet {arguments[0]} failed on valid files")


def _train_spec(folder: Path) -> dict[str, Any]:
    schedule = {
        "__class_name__": "SoftstartAnnealingLearningRateSchedule",
        "base_learning_rate": 1e-3,
        "min_learning_rate": 1e-5,
    }
    return {
        "num_epoch": 2,
        "checkpoint_n_epoch": 1,
        "validation_every_n_epoch": 2,
        "dataloader": {
            "batch_size": 1,
            "workers": 0,
            "image_config": {"image_dims": {"height": _SIZE, "width": _SIZE}},
            "dataset_config": {
                "root_data_path": str(folder),
                "train_records_folder_path": str(folder / "records"),
                "train_records_path": ["train-fold-000-of-001"],
                "dataset_specs": {"drawn": str(folder / "dataset.json")},
            },
            "augmentation_config": {
                "spatial_aug_params": {"flip_lr_prob": 0.5, "rotate_deg_max": 20.0}
            },
            "label_processor_config": {"paf_ortho_dist_thresh": 1.0},
        },
        "model": {
            "backbone_attributes": {"architecture": "lightweight_openpose", "width": 0.125},
            "stages": 2,
            "kernel_regularization_factor": 1e-4,
        },
        "optimizer": {"__class_name__": "AdamW", "learning_rate_schedule": schedule},
    }


def _write_pictures(folder: Path) -> None:
    (photo, *_) = sorted((folder / "train").iterdir())
    pixels = read_image(photo)
    cv2.imwrite(str(folder / "photo.png"), pixels)
    shutil.copy(photo, folder / "photo.jpg")
    with Mp4Writer(folder / "video.mp4", 25.0) as video:
        for shift in range(6):
            video.write(np.roll(pixels, shift, axis=1), shift / 25)


def _write_models(folder: Path) -> None:
    """Train a tiny network for one epoch and write it in all formats."""
    run = folder / "run"
    spec = _train_spec(folder) | {"num_epoch": 1}
    (folder / "one_epoch.yaml").write_text(yaml.safe_dump(spec))
    _bpnet("train", "-e", folder / "one_epoch.yaml", "-r", run)
    shutil.copy(run / "bpnet_model.tlt", folder / "m.tlt")
    size = f"{_SIZE},{_SIZE},3"
    _bpnet("export", "-m", folder / "m.tlt", "-o", folder / "m.onnx", "-d", size)
    content = (folder / "m.onnx").read_bytes()
    write_etlt(folder / "m.etlt", content, _KEY)
    build_engine_file(content, folder / "m.engine", EngineOptions("openvino"))


def _convert(path: Path) -> None:
    """Convert with a dataset spec, without masks, because the spec may name any folder for them."""
    _check(main(["dataset_convert", "-d", str(path), "-o", str(path.parent / "out" / "r")]))


def _check(code: int) -> None:
    """Check the exit code of a command.

    Raises:
        InvalidInputError: The exit code is 2: the command reported an error in its input.
        RuntimeError: Any other exit code except 0.
    """
    if code == 2:
        raise InvalidInputError
    if code:
        raise RuntimeError(f"exit code {code}")


class InvalidInputError(Exception):
    """A command reported an error in its input (exit code 2)."""


def _prepare_training(path: Path) -> None:
    """Prepare a training up to its first step, with one sample."""
    spec = TrainSpec.load(path)
    if spec.dataloader.workers != 0:  # the process that reads mutations must not start others
        return
    training = build_training(
        spec, path.parent / "run", DistributedContext(torch.device("cpu")), key="", use_amp=False
    )
    next(training.loader.iterate(range(1)))


def _infer_with(model: Path, photo: np.ndarray, path: Path) -> None:
    """Run inference with an inference spec; large valid inputs are skipped."""
    rows, columns = InferenceSpec.load(path).input_shape
    if rows * columns <= _MAX_PIXELS:
        open_predictor(str(path), str(model), "", threads=1)(photo)


def _decode_zeros(path: Path) -> None:
    """Use a pose configuration for targets and for decoding."""
    skeleton = load_skeleton(path)
    shape = (8, 8)
    maps = Maps(
        np.zeros((skeleton.heatmap_channels, *shape), np.float32),
        np.zeros((skeleton.paf_channels, *shape), np.float32),
        8,
    )
    skeleton.joints_from(COCO_JOINTS).keypoints(np.zeros((1, 17, 2)), np.ones((1, 17), bool))
    decode(maps, skeleton, DecodingOptions())


def _convert_annotations(folder: Path, path: Path) -> None:
    """Convert an annotation file to records and masks."""
    spec = _dataset_spec(folder, path)
    convert = ["dataset_convert", "-d", str(spec), "-o", str(path.parent / "out" / "r")]
    _check(main([*convert, "--generate_masks", "--check_files", "--num_processes", "1"]))


def _evaluate(folder: Path, path: Path) -> None:
    """Evaluate a pose in every image against an annotation file."""
    spec = DatasetSpec.load(_dataset_spec(folder, path))
    images = load_test_images(spec)
    skeleton = load_skeleton("bpnet_18joints.json")
    poses = Poses.load(folder / "poses.json")
    results = [ImageResult({}, poses.to_coco(image.image_id)) for image in images]
    result = score_results(results, skeleton, spec, images)
    for name in ("coco", "crowdpose", "pck") if images else ():
        evaluate_in_detail(EvaluationProtocol(name, spec, images), result, skeleton)


def _dataset_spec(folder: Path, annotations: Path) -> Path:
    """Write a dataset spec for an annotation file."""
    spec = json.loads((folder / "dataset.json").read_text())
    spec["train_data"] = {
        "images_root_dir_path": "test",
        "mask_root_dir_path": str(annotations.parent / "masks"),
        "annotation_root_dir_path": str(annotations),
    }
    spec["test_data"] = spec["train_data"]
    path = annotations.parent / "spec.json"
    path.write_text(json.dumps(spec))
    return path


def _make_samples(folder: Path, path: Path) -> None:
    for _ in read_records(path):
        pass
    spec = TrainSpec.load(folder / "train.yaml")
    sources = dataset_sources(spec, spec.dataset_specs())
    augmentation = spec.dataloader.augmentation_config
    samples = SampleSet(RecordSet([path]), sources, augmentation, _SIZE, _SIZE, 0)
    for index in range(len(samples)):
        sample = samples[0, index]
        if isinstance(sample, Exception):
            raise sample


def _read_video(path: Path) -> None:
    for _ in open_video(path).frames():
        pass


def _open_and_run(photo: np.ndarray, path: Path, **arguments: Any) -> None:
    load(path, threads=1, input_shape=(_SIZE, _SIZE), **arguments)(photo)


def _resume(folder: Path, path: Path) -> None:
    """Resume a training from a state file."""
    results = path.parent / "run"
    shutil.rmtree(results, ignore_errors=True)
    shutil.copytree(folder / "run", results)
    shutil.move(path, results / "model.epoch-1.state")
    spec = TrainSpec.load(folder / "train.yaml")
    build_training(spec, results, DistributedContext(torch.device("cpu")), key="", use_amp=False)


def _read_tensorfile(path: Path) -> None:
    for _ in read_tensorfile(path, 2, (_SIZE, _SIZE)):
        pass


def _use_detections(folder: Path, path: Path) -> None:
    read_pictures(path)
    read_detections(
        path, load_coco(folder / "annotations" / "train.json", COCO_JOINTS), COCO_JOINTS
    )


def _read_run(folder: Path, path: Path) -> None:
    shutil.copy(folder / "found" / "detections.json", path.parent)
    images = load_coco(folder / "annotations" / "train.json", COCO_JOINTS)
    read_run(path.parent, images, COCO_JOINTS)


def _use_poses(path: Path) -> None:
    poses = Poses.load(path)
    poses.to_coco(0)
    poses.draw(np.zeros((_SIZE, _SIZE, 3), np.uint8))


def _write_poses(path: Path) -> None:
    skeleton = load_skeleton("bpnet_18joints.json")
    joints = (2, len(skeleton.joints))
    points = np.random.default_rng(0).uniform(0, _SIZE, (*joints, 2)).astype(np.float32)
    Poses(points, np.ones(joints, np.float32), np.ones(2, np.float32), skeleton).save(path)


def _load_results(job: Any, path: Path) -> None:
    """Load the results of an interrupted run."""
    results = path.parent / "parts"
    shutil.rmtree(results, ignore_errors=True)
    results.mkdir()
    (results / "manifest.json").write_text('{"a": 1}')
    shutil.move(path, results / "part-00000.jsonl")
    for stored in ResultStore(results, {"a": 1}).results.values():
        if job.is_done(stored):
            job.restore(stored)
