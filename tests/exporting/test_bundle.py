"""Tests of deployment bundles: values of their files, and their example program."""

import importlib.util
import json
import os
import subprocess
import sys
from configparser import ConfigParser
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto

import bodyposenet
from bodyposenet.demo import draw_scene
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.exporting.bundle import BundleOptions, write_bundle
from bodyposenet.exporting.bundle.signature import read_signature
from bodyposenet.exporting.decoding_graph import DecodingGraphOptions, append_decoding
from bodyposenet.exporting.engine import DeviceOptions
from bodyposenet.exporting.onnx import OnnxExportOptions, export_onnx
from bodyposenet.model.checkpoint import model_header
from bodyposenet.model.network import BodyPoseNetwork
from bodyposenet.specs.network import BackboneAttributes, ModelConfig
from bodyposenet.specs.pose import load_skeleton
from bodyposenet.types import Poses

from ..inference.exported_models import write_model
from .text_format import parse

NAME = "my net.onnx"
SHAPE = 96, 128
OPTIONS = BundleOptions(DeviceOptions(SHAPE, opt_batch_size=4, max_batch_size=16))
SKELETON = load_skeleton("bpnet_18joints.json")
FIXED = {"size": (2, 96, 128)}
DECODING = DecodingGraphOptions(max_peaks=20)
STATIC = replace(DECODING, static_shapes=True)
WITHOUT_TORCH = """
import runpy, sys
sys.modules["torch"] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
WITHOUT_BODYPOSENET = """
import os, runpy, sys
sys.modules["bodyposenet"] = sys.modules["torch"] = None
sys.argv = sys.argv[1:]
sys.path[0] = os.path.dirname(sys.argv[0])
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def write_exported(
    folder: Path,
    *,
    data_type="fp32",
    scale=(256,) * 3,
    offset=(0.5,) * 3,
    repeats=4,
    **options,
) -> Path:
    """Write a small model with the tensors and the header of an exported one."""
    header = {
        "skeleton": SKELETON.to_pose_configuration(),
        "normalization": {"image_scale": scale, "image_offset": offset},
        "network": {"stages": 3},
        "stride": 8,
        "form": {
            "upsample_ratio": repeats,
            "channels_last": options.get("channels_last", True),
        },
        "data_type": data_type,
    }
    metadata = {"bodyposenet": json.dumps(header)}
    return write_model(folder / NAME, repeats=repeats, metadata=metadata, **options)


def make_bundle(folder: Path, options: BundleOptions = OPTIONS, **model) -> Path:
    path = write_exported(folder, **model)
    write_bundle(folder / "bundle", path, path.read_bytes(), options)
    return folder / "bundle"


def make_decoding_bundle(
    folder: Path, decoding: DecodingGraphOptions = DECODING, **model
) -> tuple[Path, Path]:
    """Write a bundle of a model with decoding; also return the same model without decoding."""
    path = write_exported(folder, repeats=1, pafs="paf_out/BiasAdd:0", **model)
    content = append_decoding(path.read_bytes(), decoding)
    write_bundle(folder / "bundle", path, content, OPTIONS)
    return folder / "bundle", path


def nvinfer(bundle: Path) -> dict[str, str]:
    parser = ConfigParser(delimiters="=", interpolation=None)
    parser.read(bundle / "deepstream" / "nvinfer.txt")
    return dict(parser["property"])


def test_every_file_is_named_in_the_readme(tmp_path):
    bundle = make_bundle(tmp_path)
    readme = (bundle / "README.md").read_text()
    files = {path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file()}
    assert files == {
        "README.md", "signature.json", "labels.txt", "model.onnx", "run.py", "trtexec.sh",
        "deepstream/nvinfer.txt",
        "triton/my_net/config.pbtxt", "triton/my_net/1/model.onnx",
        "triton_tensorrt/my_net/config.pbtxt",
    }  # fmt: skip
    for file in files - {"README.md"}:
        assert f"`{file}`" in readme or f"`{file.partition('/')[0]}`" in readme, file
    assert "$" not in readme
    content = (tmp_path / NAME).read_bytes()
    assert (bundle / "model.onnx").read_bytes() == content
    assert (bundle / "triton/my_net/1/model.onnx").read_bytes() == content


def test_nvinfer_configuration_matches_the_model(tmp_path):
    config = nvinfer(make_bundle(tmp_path, data_type="fp16"))
    assert config["infer-dims"] == "3;96;128"
    assert config["network-input-order"] == "1"
    assert config["model-color-format"] == "0"
    assert config["net-scale-factor"] == "0.00390625"
    assert config["offsets"] == "128;128;128"
    assert config["batch-size"] == "16"
    assert config["network-mode"] == "2"
    assert config["output-blob-names"] == "conv2d_transpose_1/BiasAdd:0;heatmap_out/BiasAdd:0"
    assert (config["maintain-aspect-ratio"], config["symmetric-padding"]) == ("1", "1")
    assert (config["network-type"], config["output-tensor-meta"]) == ("100", "1")
    assert "int8-calib-file" not in config


def test_nvinfer_normalizes_as_the_network_does(tmp_path):
    scale, offset = (255.0,) * 3, (0.485, 0.456, 0.406)
    config = nvinfer(make_bundle(tmp_path, scale=scale, offset=offset))
    pixels = np.arange(256)[:, None]
    offsets = np.array([float(value) for value in config["offsets"].split(";")])
    normalized = float(config["net-scale-factor"]) * (pixels - offsets)
    np.testing.assert_allclose(normalized, pixels / np.array(scale) - np.array(offset), atol=1e-6)


def test_nvinfer_configuration_names_the_calibration_cache(tmp_path):
    cache = tmp_path / "cal.bin"
    cache.write_text("TRT-1001-EntropyCalibration2\n")
    bundle = make_bundle(
        tmp_path, replace(OPTIONS, calibration_cache=cache), data_type="int8-tensorrt"
    )
    config = nvinfer(bundle)
    assert config["network-mode"] == "1"
    assert (bundle / "deepstream" / config["int8-calib-file"]).read_bytes() == cache.read_bytes()
    assert "`calibration.cache`" in (bundle / "README.md").read_text()


def test_nvinfer_configuration_without_a_cache_refers_to_trtexec(tmp_path):
    bundle = make_bundle(tmp_path, data_type="int8-tensorrt")
    assert "int8-calib-file" not in nvinfer(bundle)
    assert "../trtexec.sh" in (bundle / "deepstream" / "nvinfer.txt").read_text()


@pytest.mark.parametrize(
    ("model", "reason", "skipped"),
    [
        ({"data_type": "int8-cpu"}, "target cpu", {"deepstream", "trtexec.sh", "triton_tensorrt"}),
        ({"dtype": TensorProto.UINT8}, "--bake_normalization", {"deepstream"}),
        ({"scale": (58.0, 57.0, 57.0)}, "image_scale", {"deepstream"}),
    ],
)
def test_programs_that_cannot_run_the_model_are_skipped_with_the_reason(
    tmp_path, caplog, model, reason, skipped
):
    bundle = make_bundle(tmp_path, **model)
    assert not skipped & {path.name for path in bundle.iterdir()}
    assert reason in (bundle / "README.md").read_text()
    assert reason in caplog.text
    config = parse((bundle / "triton/my_net/config.pbtxt").read_text())
    on_cpu = model.get("data_type") == "int8-cpu"
    assert config.get("instance_group") == ([{"kind": "KIND_CPU"}] if on_cpu else None)
    readme = (bundle / "README.md").read_text()
    assert ("session.x64quantprecision" in readme) is on_cpu


FAKE_TRTEXEC = """#!/bin/sh
for flag; do
    echo "$flag"
    case $flag in --saveEngine=*) echo plan > "${flag#*=}" ;; esac
done
"""


def run_trtexec(bundle: Path) -> list[str]:
    """Run a bundle's trtexec.sh with a fake of trtexec; returns the flags."""
    program = bundle / "trtexec"
    program.write_text(FAKE_TRTEXEC)
    program.chmod(0o755)
    path = {"PATH": f"{bundle}{os.pathsep}{os.environ['PATH']}"}
    run = subprocess.run(
        ["sh", bundle / "trtexec.sh"],
        capture_output=True, text=True, check=True, env=os.environ | path,
    )  # fmt: skip
    return run.stdout.split()


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ({}, "model.onnx_b16_gpu0_fp32.engine"),
        ({"data_type": "fp16"}, "model.onnx_b16_gpu0_fp16.engine"),
        ({"data_type": "int8-tensorrt"}, "model.onnx_b16_gpu0_int8.engine"),
        (FIXED, "model.onnx_b2_gpu0_fp32.engine"),
    ],
)
def test_nvinfer_and_trtexec_have_the_same_engine_file(tmp_path, model, name):
    bundle = make_bundle(tmp_path, **model)
    assert nvinfer(bundle)["model-engine-file"] == f"../{name}"
    run_trtexec(bundle)
    assert (bundle / name).read_text() == "plan\n"
    assert (bundle / "triton_tensorrt/my_net/1/model.plan").read_text() == "plan\n"


def declared_sizes(bundle: Path) -> dict[str, list[int]]:
    """Return the sizes of the model's tensors in ONNX Runtime, with -1 for dynamic ones."""
    session = onnxruntime.InferenceSession(
        bundle / "model.onnx", providers=["CPUExecutionProvider"]
    )
    return {
        tensor.name: [size if isinstance(size, int) else -1 for size in tensor.shape]
        for tensor in (*session.get_inputs(), *session.get_outputs())
    }


@pytest.mark.parametrize(
    "model",
    [{}, FIXED, {"channels_last": False}, {"dtype": TensorProto.UINT8}],
    ids=["dynamic", "fixed", "channels first", "pixels"],
)
def test_triton_configuration_matches_the_model(tmp_path, model):
    bundle = make_bundle(tmp_path, **model)
    config = parse((bundle / "triton/my_net/config.pbtxt").read_text())
    assert (config["name"], config["platform"]) == ("my_net", "onnxruntime_onnx")
    batch = [] if model == FIXED else [-1]
    tensors = {entry["name"]: entry for entry in (*config["input"], *config["output"])}
    assert {name: [*batch, *entry["dims"]] for name, entry in tensors.items()} == declared_sizes(
        bundle
    )
    pixels = "dtype" in model
    assert tensors["input_1:0"]["data_type"] == ("TYPE_UINT8" if pixels else "TYPE_FP32")
    assert config["max_batch_size"] == (0 if model == FIXED else 16)
    assert ("dynamic_batching" in config) == (model != FIXED)


@pytest.mark.parametrize("model", [{}, FIXED], ids=["dynamic", "fixed"])
def test_triton_configuration_of_a_model_with_decoding(tmp_path, model):
    bundle, _ = make_decoding_bundle(tmp_path, STATIC, **model)
    batch = [2] if model == FIXED else []
    for path in bundle.glob("triton*/*/config.pbtxt"):
        outputs = {entry["name"]: entry for entry in parse(path.read_text())["output"]}
        assert outputs["peaks"]["dims"] == [*batch, 18, 20, 3]
        assert outputs["paf_scores"]["dims"] == [*batch, 19, 20, 20]
        assert {entry["data_type"] for entry in outputs.values()} == {"TYPE_FP32"}
    assert nvinfer(bundle)["output-blob-names"] == "peaks;paf_scores"


def test_files_of_a_bundle_with_decoding(tmp_path):
    bundle, _ = make_decoding_bundle(tmp_path)
    files = {path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file()}
    assert files == {
        "README.md", "signature.json", "labels.txt", "model.onnx", "run.py", "bodypose.py",
        "bodypose.hpp", "triton/my_net/config.pbtxt", "triton/my_net/1/model.onnx",
    }  # fmt: skip
    readme = (bundle / "README.md").read_text()
    assert "--static_input_dims" in readme  # the reason why there are no files for TensorRT
    assert "$" not in readme


def test_older_bundle_leaves_no_engines_and_no_files_for_other_programs(tmp_path):
    bundle, _ = make_decoding_bundle(tmp_path, STATIC)
    run_trtexec(bundle)
    own_file = bundle / "deepstream" / "app.txt"
    own_file.write_text("mine")
    (bundle / "calibration.cache").write_text("mine")
    make_bundle(tmp_path)
    assert not list(bundle.glob("*.engine"))
    assert not list(bundle.rglob("model.plan"))
    assert not list(bundle.glob("bodypose.*"))
    run_trtexec(bundle)
    make_bundle(tmp_path, data_type="int8-cpu")
    files = {path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file()}
    assert files - {"trtexec", "timing.cache"} == {
        "README.md", "signature.json", "labels.txt", "model.onnx", "run.py", "deepstream/app.txt",
        "calibration.cache", "triton/my_net/config.pbtxt",
        "triton/my_net/1/model.onnx",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("file", "name"),
    [("...onnx", "model"), (".net.onnx", "net"), ("v1.2 b\u00e9.onnx", "v1.2_b_"), ("a-b", "a-b")],
)
def test_models_are_named_after_their_file(tmp_path, file, name):
    content = write_exported(tmp_path).read_bytes()
    write_bundle(tmp_path / "bundle", Path(file), content, OPTIONS)
    for repository in ("triton", "triton_tensorrt"):
        (config,) = (tmp_path / "bundle" / repository).rglob("config.pbtxt")
        assert config.parent.name == parse(config.read_text())["name"] == name


def test_older_engine_that_cannot_be_removed_is_an_error(tmp_path):
    engine = tmp_path / "bundle" / "model.onnx_b1_gpu0_fp32.engine"
    engine.mkdir(parents=True)
    with pytest.raises(BodyPoseNetError, match=engine.name):
        make_bundle(tmp_path)
    assert [path.name for path in engine.parent.iterdir()] == [engine.name]


def test_tensorrt_plan_has_one_height_and_width(tmp_path):
    bundle = make_bundle(tmp_path)
    config = parse((bundle / "triton_tensorrt/my_net/config.pbtxt").read_text())
    dims = [entry["dims"] for entry in (*config["input"], *config["output"])]
    assert dims == [[96, 128, 3], [48, 64, 38], [12, 16, 19]]
    assert config["platform"] == "tensorrt_plan"


@pytest.mark.parametrize("model", [{}, FIXED], ids=["dynamic", "fixed"])
def test_triton_reads_the_configuration(tmp_path, model):
    messages = pytest.importorskip("tritonclient.grpc.model_config_pb2")
    from google.protobuf import text_format

    bundle = make_bundle(tmp_path, **model)
    for path in bundle.glob("triton*/*/config.pbtxt"):
        config = text_format.Parse(path.read_text(), messages.ModelConfig())
        assert config.name == path.parent.name
        assert len(config.output) == 2


@pytest.mark.parametrize(
    ("model", "shapes"),
    [
        ({}, ["1x96x128x3", "4x96x128x3", "16x96x128x3"]),
        ({"channels_last": False}, ["1x3x96x128", "4x3x96x128", "16x3x96x128"]),
        ({"size": (2, "height", "width")}, ["2x96x128x3"] * 3),
        (FIXED, []),
    ],
)
def test_trtexec_command_has_the_shapes(tmp_path, model, shapes):
    bundle = make_bundle(tmp_path, **model)
    flags = dict(flag.partition("=")[::2] for flag in run_trtexec(bundle))
    found = {name: value for name, value in flags.items() if name.endswith("Shapes")}
    expected = zip(("min", "opt", "max"), shapes, strict=False)
    assert found == {f"--{which}Shapes": f"input_1:0:{shape}" for which, shape in expected}
    assert flags["--memPoolSize"] == "workspace:2048"
    assert "--stronglyTyped" in flags


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    """A drawn picture of another aspect ratio than the network's input."""
    path = tmp_path_factory.mktemp("picture") / "people.png"
    image, _ = draw_scene(np.random.default_rng(5), 150, 130)
    cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    return path


def expected_poses(model: Path, picture: Path) -> Poses:
    """Return the poses of the Python API."""
    estimator = bodyposenet.load(
        model,
        input_shape=SHAPE,
        keep_aspect_ratio_mode="pad_image_input",
        threads=1,
    )
    return estimator(picture)


def test_example_detects_the_same_people_without_torch(tmp_path, picture):
    bundle, annotated = make_bundle(tmp_path), tmp_path / "annotated.png"
    run = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, bundle / "run.py", picture, annotated],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    poses = expected_poses(bundle / "model.onnx", picture)
    assert len(poses)
    assert json.loads(run.stdout) == poses.to_dict()
    assert (cv2.imread(str(annotated)) != cv2.imread(str(picture))).any()


@pytest.mark.parametrize(
    "model",
    [{}, {"channels_last": False}, FIXED, {"dtype": TensorProto.UINT8}],
    ids=["dynamic", "channels first", "fixed", "pixels"],
)
def test_example_with_decoding_finds_the_people_of_decode(tmp_path, picture, model):
    bundle, maps_model = make_decoding_bundle(tmp_path, **model)
    annotated = tmp_path / "annotated.png"
    run = subprocess.run(
        [sys.executable, "-c", WITHOUT_BODYPOSENET, bundle / "run.py", picture, annotated],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    found = Poses.from_dict(json.loads(run.stdout), SKELETON)
    poses = expected_poses(maps_model, picture)
    assert len(found) == len(poses) > 0
    np.testing.assert_allclose(found.keypoints, poses.keypoints, atol=1e-2)
    np.testing.assert_allclose(found.keypoint_scores, poses.keypoint_scores, atol=1e-3)
    np.testing.assert_allclose(found.scores, poses.scores, atol=1e-3)
    assert (cv2.imread(str(annotated)) != cv2.imread(str(picture))).any()


def test_example_with_decoding_shrinks_large_images_without_aliasing(tmp_path, picture):
    bundle, maps_model = make_decoding_bundle(tmp_path)
    large = tmp_path / "large.png"
    cv2.imwrite(str(large), cv2.resize(cv2.imread(str(picture)), (407, 389)))
    run = subprocess.run(
        [sys.executable, bundle / "run.py", large], capture_output=True, text=True, check=True
    )
    poses = expected_poses(maps_model, large)
    found = Poses.from_dict(json.loads(run.stdout), SKELETON)
    assert len(found) == len(poses) > 0
    np.testing.assert_allclose(found.keypoints, poses.keypoints, atol=3e-2)


def test_example_returns_at_most_max_people(tmp_path, picture):
    bundle, maps_model = make_decoding_bundle(tmp_path, replace(DECODING, max_people=1))
    run = subprocess.run(
        [sys.executable, bundle / "run.py", picture], capture_output=True, text=True, check=True
    )
    poses = expected_poses(maps_model, picture)
    found = Poses.from_dict(json.loads(run.stdout), SKELETON)
    assert len(poses) > len(found) == 1
    np.testing.assert_allclose(found.keypoints, poses.keypoints[:1], atol=1e-2)


def test_missing_photo_is_an_error_of_the_example(tmp_path):
    run = subprocess.run(
        [sys.executable, make_bundle(tmp_path) / "run.py", "nope.jpg"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 2
    assert "error: nope.jpg" in run.stderr


@pytest.mark.parametrize(
    ("with_decoding", "name"), [(False, "missing/annotated.png"), (True, "annotated.text")]
)
def test_example_that_cannot_write_the_image_fails(tmp_path, picture, with_decoding, name):
    bundle = make_decoding_bundle(tmp_path)[0] if with_decoding else make_bundle(tmp_path)
    run = subprocess.run(
        [sys.executable, bundle / "run.py", picture, tmp_path / name],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 2
    assert json.loads(run.stdout)["scores"]
    assert f"error: {tmp_path / name}" in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize(
    "model",
    [{"repeats": 1, "pafs": "paf_out/BiasAdd:0"}, {"channels_last": False}, FIXED,
     {"dtype": TensorProto.UINT8}],
    ids=["plain", "channels first", "fixed", "pixels"],
)  # fmt: skip
def test_example_runs_models_of_all_export_options(tmp_path, picture, capsys, monkeypatch, model):
    bundle = make_bundle(tmp_path, **model)
    spec = importlib.util.spec_from_file_location("run", bundle / "run.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    monkeypatch.setattr(sys, "argv", ["run.py", str(picture)])
    example.main()
    poses = expected_poses(bundle / "model.onnx", picture)
    assert len(poses)
    assert json.loads(capsys.readouterr().out) == poses.to_dict()


def test_signature_of_a_real_export(tmp_path):
    spec = ModelConfig(
        backbone_attributes=BackboneAttributes(architecture="lightweight_openpose", width=0.125),
        stages=1,
    )
    network = BodyPoseNetwork(SKELETON, spec)
    options = OnnxExportOptions(upsample_ratio=2, static_batch_size=1, static_shape=(32, 48))
    content = export_onnx(network, model_header(network), options)
    signature = read_signature(tmp_path / "m.onnx", content, DeviceOptions(SHAPE, max_batch_size=8))
    assert signature.shape == (32, 48)
    assert (signature.batch, signature.max_batch_size, signature.upsample_ratio) == (1, 1, 2)
    assert signature.description.data_type == "fp32"
    assert [tensor.sizes for tensor in signature.outputs] == [(8, 12, 38), (4, 6, 19)]


def test_older_bundle_is_replaced_and_other_files_are_kept(tmp_path):
    bundle = make_bundle(tmp_path)
    (bundle / "notes.txt").write_text("notes")
    path = write_exported(tmp_path, data_type="fp16")
    write_bundle(bundle, path, path.read_bytes(), OPTIONS)
    assert nvinfer(bundle)["network-mode"] == "2"
    assert (bundle / "notes.txt").read_text() == "notes"


def test_shape_that_is_not_a_multiple_of_the_stride_is_refused(tmp_path):
    with pytest.raises(BodyPoseNetError, match="100 x 128 pixels") as error:
        make_bundle(tmp_path, BundleOptions(DeviceOptions((100, 128))))
    assert "96 x 128" in error.value.remedy
    assert not (tmp_path / "bundle").exists()


def test_model_without_a_header_is_refused(tmp_path):
    path = write_model(tmp_path / NAME)
    with pytest.raises(BodyPoseNetError, match=r"my net.onnx.*header"):
        write_bundle(tmp_path / "bundle", path, path.read_bytes(), OPTIONS)


def test_plain_bundle_of_a_sealed_model_logs_a_warning(tmp_path, caplog):
    path = write_exported(tmp_path)
    write_bundle(tmp_path / "bundle", tmp_path / "model.etlt", path.read_bytes(), OPTIONS)
    assert "is sealed" in caplog.text
