"""Tests of devices: names, availability, and the default model's file for each."""

import onnxruntime
import pytest

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.inference import models
from bodyposenet.inference.engines import onnx
from bodyposenet.inference.engines.base import AUTO, Device
from bodyposenet.inference.models import open_engine, open_predictor
from bodyposenet.specs.inference import InferenceSpec

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
FAILURE = "CUDA failure 100: no CUDA-capable device is detected ; GPU=0"


class Machine:
    """Fake of ONNX Runtime's build for GPUs, on a machine with a number of GPUs.

    Args:
        gpus: Number of GPUs.
        raises: Whether a session for a missing GPU raises an error; else it runs on the CPU.
    """

    def __init__(self, gpus: int, raises: bool = True) -> None:
        self.gpus, self.raises = gpus, raises
        self.opened = []
        self.real = onnxruntime.InferenceSession

    def open(self, model, options=None, *, providers, enable_fallback=True):
        assert not enable_fallback  # the fallback prints
        names = [provider if isinstance(provider, str) else provider[0] for provider in providers]
        options_of = {name: options for name, options in providers if isinstance(options, dict)}
        session = self.real(model, options, providers=[CPU])
        if CUDA in names:
            index = int(options_of[CUDA]["device_id"])
            if index < self.gpus:
                session.get_providers = lambda: [CUDA, CPU]
                self.opened.append(index)
            elif self.raises:
                raise RuntimeError(FAILURE)
        return session


@pytest.fixture
def machine(monkeypatch):
    """Function that simulates a machine with a number of GPUs."""

    def make(gpus: int, raises: bool = True) -> Machine:
        made = Machine(gpus, raises)
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
        monkeypatch.setattr(onnxruntime, "InferenceSession", made.open)
        onnx.cuda_problem.cache_clear()
        return made

    yield make
    onnx.cuda_problem.cache_clear()


@pytest.mark.parametrize(
    ("name", "device"),
    [
        ("auto", AUTO),
        ("cpu", Device("cpu")),
        ("cpu:0", Device("cpu")),
        ("cuda", Device("cuda")),
        ("cuda:1", Device("cuda", 1)),
        ("mps", Device("mps")),
    ],
)
def test_device_names(name, device):
    assert Device.parse(name) == device


@pytest.mark.parametrize(
    ("name", "remedy"), [("gpu", "cuda"), (0, "cuda:0"), ("1", "cuda:1"), (None, "auto")]
)
def test_unknown_device_names(name, remedy):
    with pytest.raises(BodyPoseNetError, match="Unknown device") as caught:
        open_engine(InferenceSpec(), device=name)
    assert remedy in caught.value.remedy


@pytest.mark.parametrize("raises", [False, True])
def test_a_build_for_gpus_without_a_gpu_uses_the_cpu(machine, raises, capfd):
    machine(0, raises)
    assert models.default_model().name == models.INT8_FILE
    assert open_engine(InferenceSpec()).description.data_type == "int8-cpu"
    assert capfd.readouterr().out == ""
    with pytest.raises(BodyPoseNetError, match="device cuda: ONNX Runtime") as caught:
        open_engine(InferenceSpec(), device="cuda")
    assert "Available: cpu." in caught.value.remedy
    assert (FAILURE in caught.value.what) is raises


def test_a_gpu_is_used_where_there_is_one(machine):
    gpus = machine(1)
    assert models.default_model().name == models.FLOAT16_FILE
    assert open_engine(InferenceSpec()).description.data_type == "fp16"
    assert gpus.opened == [0, 0]  # sessions of `cuda_problem` and of the model
    assert open_engine(InferenceSpec(), device="cpu").description.data_type == "int8-cpu"
    assert gpus.opened == [0, 0]
    assert models.default_model("openvino").name == models.INT8_FILE


def test_one_of_several_gpus(machine):
    gpus = machine(2)
    open_engine(InferenceSpec(), device="cuda:1")
    assert gpus.opened == [1, 1]
    with pytest.raises(BodyPoseNetError, match="cuda:2") as caught:
        open_engine(InferenceSpec(), device="cuda:2")
    assert "cpu, cuda:0, cuda:1" in caught.value.remedy


def test_a_library_of_cuda_that_cannot_be_loaded_is_named(machine, monkeypatch, capfd):
    machine(0, raises=False)
    missing = "libcublasLt.so.13"
    monkeypatch.setattr(
        onnxruntime, "preload_dlls", lambda: print(f"Failed to load {missing}: not found")
    )
    with pytest.raises(BodyPoseNetError, match=f"device cuda: .*{missing}"):
        open_engine(InferenceSpec(), device="cuda")
    assert missing not in capfd.readouterr().out


@pytest.fixture
def cpu_build(monkeypatch):
    """Simulate a build of ONNX Runtime without CUDA."""
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CPU])
    onnx.cuda_problem.cache_clear()
    yield
    onnx.cuda_problem.cache_clear()


def test_the_error_of_a_cpu_build_names_the_extra_to_install(cpu_build):
    with pytest.raises(BodyPoseNetError, match=r"bodyposenet\[gpu\]"):
        open_engine(InferenceSpec(), device="cuda")


def test_a_cpu_build_that_replaced_the_build_for_gpus_is_reported(cpu_build, monkeypatch):
    monkeypatch.setattr(onnx, "version", lambda package: "1.31.1")  # both are installed
    with pytest.raises(BodyPoseNetError, match="has replaced files of onnxruntime-gpu"):
        open_engine(InferenceSpec(), device="cuda")


@pytest.mark.parametrize("device", ["cuda:7", "mps"])
@pytest.mark.parametrize("engine", ["pytorch", "openvino", "onnx"])
def test_a_missing_device_is_an_error(exported, engine, device):
    file = "model.tlt" if engine == "pytorch" else "model.onnx"
    with pytest.raises(BodyPoseNetError, match=f"device {device}") as caught:
        open_engine(InferenceSpec(), str(exported / file), "key", engine, device=device)
    assert "cpu" in caught.value.remedy


@pytest.mark.parametrize("engine", ["pytorch", "openvino", "onnx"])
def test_the_cpu_is_always_available(exported, engine):
    file = "model.tlt" if engine == "pytorch" else "model.onnx"
    predictor = open_predictor(None, str(exported / file), "key", engine, 1, device="cpu")
    assert predictor.engine.stages == 2


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_a_gpu_is_refused_after_a_fork(machine, monkeypatch, device):
    machine(1)
    monkeypatch.setattr(onnx, "_IMPORT_PID", -1)  # another process
    with pytest.raises(BodyPoseNetError, match="forked") as caught:
        open_engine(InferenceSpec(), device=device)
    assert 'device="cpu"' in caught.value.remedy
    assert open_engine(InferenceSpec(), device="cpu").description.data_type == "int8-cpu"
