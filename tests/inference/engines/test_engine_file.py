"""Tests of engine files with OpenVINO's compiled models."""

import json
import sys

import openvino
import pytest

from bodyposenet.encryption import read_container, write_container
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.exporting.engine import EngineOptions, build_engine_file
from bodyposenet.inference.engines.engine_file import read_engine, write_engine
from bodyposenet.inference.models import open_engine
from bodyposenet.specs.inference import InferenceSpec

from ..exported_models import HEADER, check_maps, images, write_model

OPENVINO = EngineOptions("openvino")


def write_onnx(folder, **header):
    metadata = {"bodyposenet": json.dumps(HEADER | header)}
    return write_model(folder / "m.onnx", metadata=metadata).read_bytes()


def run(path, key="", engine="auto", precision=None):
    return open_engine(InferenceSpec(), str(path), key, engine, 1, precision)


@pytest.fixture
def built(tmp_path):
    """An engine file of OpenVINO."""
    build_engine_file(write_onnx(tmp_path), tmp_path / "m.engine", OPENVINO)
    return tmp_path / "m.engine"


@pytest.mark.parametrize("engine", ["auto", "openvino"])
def test_the_maps_are_those_of_the_model(built, engine):
    opened = run(built, engine=engine)
    assert (opened.stages, opened.stride, opened.fixed_shape) == (3, 8, None)
    check_maps(opened, images(3, 24, 40))
    check_maps(opened, images(1, 16, 24))


def test_the_header_names_runtime_device_and_precision(built):
    header, _ = read_container(built)
    assert header == {
        "kind": "engine",
        "runtime": "openvino",
        "version": openvino.get_version(),
        "device": openvino.Core().get_property("CPU", "FULL_DEVICE_NAME").strip(),
        "precision": "fp32",
        "model": HEADER,
    }


def test_the_precision_of_the_header_is_passed_to_openvino(built, monkeypatch):
    hints = []

    class Core(openvino.Core):
        def import_model(self, body, device, options):
            hints.append(options["INFERENCE_PRECISION_HINT"])
            return super().import_model(body, device, options)

    monkeypatch.setattr(openvino, "Core", Core)
    run(built)
    run(built, precision="bf16")
    assert hints == ["f32", "bf16"]


def test_an_encrypted_engine_needs_its_key(tmp_path):
    path = tmp_path / "m.engine"
    build_engine_file(write_onnx(tmp_path), path, OPENVINO, "key")
    check_maps(run(path, "key"), images(1, 16, 16))
    with pytest.raises(BodyPoseNetError, match="wrong key"):
        run(path, "other")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"device": "Z80"}, r"built by openvino \S+ for Z80, .* openvino \S+ on \w"),
        ({"version": "2020.1"}, r"built by openvino 2020\.1 for .*, .* openvino 20\S+ on"),
    ],
    ids=["processor", "version"],
)
def test_an_engine_from_another_machine_is_refused(built, change, message):
    header, body = read_engine(built)
    write_engine(built, header.model_copy(update=change), body)
    with pytest.raises(BodyPoseNetError, match=rf"m\.engine: {message}") as error:
        run(built)
    assert "Build it on this machine: bpnet export" in error.value.remedy


def test_a_damaged_engine_is_refused(built):
    header, body = read_engine(built)
    write_engine(built, header, body[:200])
    with pytest.raises(BodyPoseNetError, match=r"m\.engine: OpenVINO cannot open it: ."):
        run(built)
    built.write_bytes(built.read_bytes()[:-9])
    with pytest.raises(BodyPoseNetError, match="truncated"):
        run(built)


def test_other_files_are_refused(built):
    write_container(built, {"kind": "model"}, b"")
    with pytest.raises(BodyPoseNetError, match=r"not an engine file.* model"):
        run(built)
    write_container(built, {"kind": "engine", "runtime": "tvm"}, b"")
    with pytest.raises(BodyPoseNetError, match="cannot read its header: runtime: Input should be"):
        run(built)
    built.write_bytes(b"a plan of trtexec")
    with pytest.raises(BodyPoseNetError, match="not a file of bodyposenet"):
        run(built)


def test_other_engines_than_the_runtime_are_refused(built):
    with pytest.raises(BodyPoseNetError, match="built by openvino"):
        run(built, engine="tensorrt")
    with pytest.raises(BodyPoseNetError, match=r"onnx .*\.engine"):
        run(built, engine="onnx")


def test_a_failed_build_leaves_no_file(tmp_path):
    path = tmp_path / "m.engine"
    with pytest.raises(BodyPoseNetError, match=r"m\.engine: .*stride"):
        build_engine_file(write_onnx(tmp_path, stride=0), path, OPENVINO)
    with pytest.raises(BodyPoseNetError, match=r"m\.engine: .*header"):
        build_engine_file(write_model(tmp_path / "m.onnx").read_bytes(), path, OPENVINO)
    assert not path.exists()


def test_the_default_runtime_is_an_installed_one(tmp_path, monkeypatch):
    header = build_engine_file(write_onnx(tmp_path), tmp_path / "m.engine", EngineOptions())
    assert header.runtime == "openvino"  # there is no GPU, or no TensorRT
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(BodyPoseNetError, match="OpenVINO or TensorRT") as error:
        build_engine_file(write_onnx(tmp_path), tmp_path / "n.engine", EngineOptions())
    assert "bodyposenet[openvino]" in error.value.remedy
