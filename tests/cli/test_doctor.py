"""`bpnet doctor`: tells what there is, and fails only where inference cannot work."""

import json
import sys
from importlib.metadata import PackageNotFoundError

import numpy as np

from bodyposenet.runtime import installation, self_test
from bodyposenet.types import Poses


def test_all_is_well(run_bpnet, tmp_path):
    result = run_bpnet("doctor", "--json", tmp_path / "doctor.json", "-r", tmp_path / "run")
    assert result.code == 0, result.out + result.err
    assert "everything that inference needs is there" in result.out
    told = json.loads((tmp_path / "doctor.json").read_text())
    assert told["system"]["python"] == sys.version.split()[0]
    versions = {package["name"]: package["version"] for package in told["packages"]}
    assert versions["numpy"] == np.__version__
    assert not {"pytest", "bodyposenet"} & set(versions)
    assert [engine["name"] for engine in told["engines"]] == [
        "onnx",
        "openvino",
        "pytorch",
        "tensorrt",
    ]
    assert told["engines"][0]["devices"]
    assert told["threads"]["cores"] >= 1
    for check in told["decoder"]:
        assert check["found"] == check["people"] and check["error"] < 2
        assert f"{check['error']:.1f} px" in result.out
    assert "SUCCESS" in (tmp_path / "run" / "status.json").read_text()


def test_optional_packages_may_be_missing_or_broken(monkeypatch, run_bpnet):
    def broken():
        raise OSError("libtorch.so: cannot open shared object file")

    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setattr(installation, "_pytorch_devices", broken)
    result = run_bpnet("doctor")
    assert result.code == 0, result.err
    assert "openvino is not installed: pip install 'bodyposenet[openvino]'" in result.out
    assert "cannot be loaded: libtorch.so" in result.out


def test_no_engine_is_an_error(monkeypatch, run_bpnet):
    for package in ("onnxruntime", "openvino", "torch"):
        monkeypatch.setitem(sys.modules, package, None)
    result = run_bpnet("doctor")
    assert result.code == 2 and "no engine runs" in result.err


def test_without_a_compiler(monkeypatch, run_bpnet):
    monkeypatch.setitem(sys.modules, "numba.core", None)
    result = run_bpnet("doctor")
    assert result.code == 2 and "the decoder cannot be loaded" in result.err


def test_a_missing_package_is_an_error(monkeypatch, run_bpnet):
    def version(package):
        if package in ("numba", "h5py"):
            raise PackageNotFoundError(package)
        return "1.0"

    monkeypatch.setattr(installation, "version", version)
    result = run_bpnet("doctor")
    assert result.code == 2 and "not installed: numba" in result.err
    assert "not installed: pip install 'bodyposenet[export]'" in result.out


def test_a_decoder_that_finds_nobody_is_an_error(monkeypatch, run_bpnet):
    monkeypatch.setattr(self_test, "decode", lambda maps, skeleton, options: Poses.empty(skeleton))
    result = run_bpnet("doctor")
    assert result.code == 2 and "does not find people" in result.err
    assert "0 of 4 people" in result.out


def test_run_from_its_source(monkeypatch):
    def requires(package):
        raise PackageNotFoundError(package)

    monkeypatch.setattr(installation, "requires", requires)
    assert installation.list_packages() == []
