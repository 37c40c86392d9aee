"""`bpnet doctor`: report of the installation, and errors that prevent inference."""

import json
import sys
from dataclasses import replace
from importlib.metadata import PackageNotFoundError

import numpy as np
import pytest

from bodyposenet.commands import diagnostics
from bodyposenet.commands.diagnostics import EngineCheck, EngineInfo, check_engines
from bodyposenet.inference.engines import onnx
from bodyposenet.types import Poses


@pytest.fixture
def no_engine_checks(monkeypatch):
    """Skip the checks of engines, which take seconds."""
    monkeypatch.setattr(diagnostics, "check_engines", lambda engines: [])


def test_all_checks_pass(run_bpnet, tmp_path):
    result = run_bpnet("doctor", "--json", tmp_path / "doctor.json", "-r", tmp_path / "run")
    assert result.code == 0, result.out + result.err
    assert "no problems found" in result.out
    report = json.loads((tmp_path / "doctor.json").read_text())
    assert report["system"]["python"] == sys.version.split()[0]
    versions = {package["name"]: package["version"] for package in report["packages"]}
    assert versions["numpy"] == np.__version__
    assert not {"pytest", "bodyposenet"} & set(versions)
    assert [engine["name"] for engine in report["engines"]] == [
        "onnx",
        "openvino",
        "pytorch",
        "tensorrt",
    ]
    assert report["engines"][0]["devices"]
    assert report["threads"]["cores"] >= 1
    for check in report["decoder"]:
        assert check["found"] == check["people"] and check["error"] < 2
        assert f"{check['error']:.1f} px" in result.out
    assert [check["engine"] for check in report["inference"]] == ["onnx", "openvino", "pytorch"]
    for check in report["inference"]:
        assert check["found"] == check["people"] == 2 and check["similarity"] > 0.95
    assert "SUCCESS" in (tmp_path / "run" / "status.json").read_text()


def test_optional_packages_may_be_missing_or_broken(monkeypatch, run_bpnet, no_engine_checks):
    def broken():
        raise OSError("libtorch.so: cannot open shared object file")

    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setattr(diagnostics, "_inspect_pytorch", broken)
    result = run_bpnet("doctor")
    assert result.code == 0, result.err
    assert "openvino is not installed: pip install 'bodyposenet[openvino]'" in result.out
    assert "cannot be loaded: libtorch.so" in result.out


def test_no_engine_is_an_error(monkeypatch, run_bpnet):
    for package in ("onnxruntime", "openvino", "torch"):
        monkeypatch.setitem(sys.modules, package, None)
    result = run_bpnet("doctor")
    assert result.code == 2 and "onnxruntime" in result.err


def test_broken_numba_is_an_error(monkeypatch, run_bpnet):
    monkeypatch.setitem(sys.modules, "numba.core", None)
    result = run_bpnet("doctor")
    assert result.code == 2 and "the decoder cannot be loaded" in result.err


def test_a_missing_package_is_an_error(monkeypatch, run_bpnet, no_engine_checks):
    def version(package):
        if package in ("numba", "h5py"):
            raise PackageNotFoundError(package)
        return "1.0"

    monkeypatch.setattr(diagnostics, "version", version)
    result = run_bpnet("doctor")
    assert result.code == 2 and "not installed: numba" in result.err
    assert "not installed: pip install 'bodyposenet[export]'" in result.out


def test_onnxruntime_gpu_replaces_onnxruntime(monkeypatch):
    def version(package):
        if package == "onnxruntime":
            raise PackageNotFoundError(package)
        return "1.0"

    monkeypatch.setattr(diagnostics, "version", version)
    packages = {package.name: package.version for package in diagnostics.list_packages()}
    assert packages["onnxruntime"] == "1.0"


def test_decoder_without_detections_is_an_error(monkeypatch, run_bpnet, no_engine_checks):
    monkeypatch.setattr(
        diagnostics, "decode", lambda maps, skeleton, options: Poses.empty(skeleton)
    )
    result = run_bpnet("doctor")
    assert result.code == 2 and "decoder" in result.err
    assert "0 of 4 people" in result.out


def test_a_build_for_gpus_without_a_gpu_is_reported(monkeypatch):
    monkeypatch.setattr(
        "onnxruntime.get_available_providers",
        lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"],
    )
    monkeypatch.setattr(onnx, "cuda_problem", lambda index=0: "libcudart.so: not found")
    found = diagnostics.find_engines()[0]
    assert found.devices == ("cpu",)
    assert "libcudart.so: not found" in found.describe()


def test_a_cpu_build_that_replaced_the_build_for_gpus_is_reported(monkeypatch):
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
    monkeypatch.setattr(diagnostics, "version", lambda package: "1.0")
    monkeypatch.setattr(onnx, "cuda_problem", lambda index=0: "replaced")
    assert "replaced" in diagnostics.find_engines()[0].describe()


class Shifted:
    """A predictor whose poses are shifted by 40 pixels."""

    def __init__(self, predictor):
        self.engine = predictor.engine
        self._predictor = predictor

    def __call__(self, image):
        poses = self._predictor(image)
        return replace(poses, keypoints=poses.keypoints + 40)


def test_an_engine_that_fails_or_gives_other_poses_fails_the_check(monkeypatch):
    correct = diagnostics._open_default_model("onnx")

    def open_default_model(engine):
        if engine == "pytorch":
            raise RuntimeError("no kernel image is available")
        return Shifted(correct) if engine == "openvino" else correct

    monkeypatch.setattr(diagnostics, "_open_default_model", open_default_model)
    names = ("onnx", "openvino", "pytorch", "tensorrt")
    checks = check_engines([EngineInfo(name, ("cpu",)) for name in names])
    assert [check.passed for check in checks] == [True, False, False, True]
    assert checks[1].found == 0 and checks[1].similarity < 0.5
    assert "no kernel image" in checks[2].problem
    assert "engine files" in checks[3].skipped


def test_a_failed_check_of_an_engine_is_an_error(monkeypatch, run_bpnet):
    check = EngineCheck("openvino", people=2, found=2, similarity=0.4)
    monkeypatch.setattr(diagnostics, "check_engines", lambda engines: [check])
    result = run_bpnet("doctor")
    assert result.code == 2 and "openvino" in result.err


def test_package_list_is_empty_without_installed_metadata(monkeypatch):
    def requires(package):
        raise PackageNotFoundError(package)

    monkeypatch.setattr(diagnostics, "requires", requires)
    assert diagnostics.list_packages() == []
