"""Tests of the TensorRT engine on fakes of TensorRT and CUDA.

The fakes have not been compared with the real packages.
"""

import importlib
import json
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from onnx import TensorProto

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.exporting.engine import (
    DeviceOptions,
    EngineOptions,
    build_engine_file,
    choose_runtime,
)
from bodyposenet.inference import engines
from bodyposenet.inference.engines.engine_file import EngineHeader, read_engine, write_engine
from bodyposenet.inference.models import open_engine
from bodyposenet.specs.inference import InferenceSpec

from ..exported_models import HEADER, check_maps, images, write_model
from . import fake_tensorrt as fake

ENGINE_MODULE = "bodyposenet.inference.engines.tensorrt"
OPTIONS = EngineOptions("tensorrt", DeviceOptions((24, 40), opt_batch_size=2, max_batch_size=4))


@pytest.fixture
def cuda(monkeypatch):
    """Install fakes of TensorRT and CUDA for one test; returns the fake CUDA runtime."""
    modules = fake.make_modules()
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, ENGINE_MODULE, raising=False)
    # Set twice, so that the attribute is removed after the test.
    monkeypatch.setattr(engines, "tensorrt", None, raising=False)
    monkeypatch.setattr(engines, "tensorrt", importlib.import_module(ENGINE_MODULE))
    yield modules["cuda.bindings"].runtime
    sys.modules.pop(ENGINE_MODULE)


def write_onnx(folder, properties=None, **header):
    metadata = {"bodyposenet": json.dumps(HEADER | header)}
    return write_model(folder / "m.onnx", metadata=metadata, **(properties or {})).read_bytes()


def run(path, engine="auto", precision=None):
    return open_engine(InferenceSpec(), str(path), "", engine, None, precision)


@pytest.mark.parametrize(
    "properties",
    [
        {},
        {"channels_last": False},
        {"dtype": TensorProto.UINT8},
        {"size": (3, "height", "width")},
        {"size": ("batch", 24, 40)},
    ],
    ids=["dynamic", "channels first", "uint8", "fixed batch size", "fixed image size"],
)
def test_a_built_plan_gives_the_maps(cuda, properties, tmp_path):
    build_engine_file(write_onnx(tmp_path, properties), tmp_path / "m.engine", OPTIONS)
    engine = run(tmp_path / "m.engine")
    assert engine.fixed_shape == (24, 40)
    for count in (1, 3, 9):  # 9 is more than the maximum batch size
        check_maps(engine, images(count, 24, 40))
    with pytest.raises(BodyPoseNetError, match="24 x 40"):
        engine.infer(images(1, 24, 48))
    assert len(cuda.memory) == 3  # one block per tensor
    del engine
    assert not cuda.memory


def test_a_failed_allocation_is_an_error_that_can_be_retried(cuda, tmp_path):
    build_engine_file(write_onnx(tmp_path), tmp_path / "m.engine", OPTIONS)
    engine = run(tmp_path / "m.engine")
    check_maps(engine, images(1, 24, 40))
    cuda.capacity = sum(map(len, cuda.memory.values()))  # the GPU is full
    for _ in range(2):  # the second one must not use the memory that the first one released
        with pytest.raises(BodyPoseNetError, match="out of memory"):
            engine.infer(images(4, 24, 40))
    check_maps(engine, images(1, 24, 40))
    cuda.capacity = float("inf")
    check_maps(engine, images(4, 24, 40))
    assert len(cuda.memory) == 3
    del engine
    assert not cuda.memory


def test_threads_share_a_plan(cuda, tmp_path):
    build_engine_file(write_onnx(tmp_path), tmp_path / "m.engine", OPTIONS)
    engine = run(tmp_path / "m.engine")
    batches = [np.roll(images(2, 24, 40), number, axis=2) for number in range(4)]
    with ThreadPoolExecutor(4) as pool:
        for _ in pool.map(lambda pixels: check_maps(engine, pixels), batches * 20):
            pass


def test_the_header_names_runtime_device_and_precision(cuda, tmp_path):
    path = tmp_path / "m.engine"
    build_engine_file(write_onnx(tmp_path, data_type="fp16"), path, OPTIONS)
    header, _ = read_engine(path)
    fields = header.runtime, header.version, header.device, header.precision
    assert fields == ("tensorrt", "11.0", fake.GPU, "fp16")
    assert header.model == HEADER | {"data_type": "fp16"}
    assert fake.Builder.last_config.tf32 is False
    assert fake.Builder.last_config.limits == {fake.MemoryPoolType.WORKSPACE: 2 * 2**30}
    with pytest.raises(BodyPoseNetError, match="was built for fp16"):
        run(path, precision="bf16")


def test_a_timing_cache_is_read_and_written(cuda, tmp_path, caplog):
    content, cache = write_onnx(tmp_path), tmp_path / "times"
    options = EngineOptions("tensorrt", DeviceOptions((24, 40)), timing_cache=cache)
    for _ in range(2):
        build_engine_file(content, tmp_path / "m.engine", options)
        assert cache.read_bytes() == b"times of " + fake.GPU.encode()
    assert fake.Builder.last_config.cache.content == cache.read_bytes()
    cache.write_bytes(b"times of another GPU")
    build_engine_file(content, tmp_path / "m.engine", options)
    assert "times is from another GPU" in caplog.text
    assert cache.read_bytes() == b"times of " + fake.GPU.encode()


@pytest.mark.parametrize(
    ("options", "header", "message"),
    [
        ({"workspace": 1}, {}, "cannot build it: no kernel fits into the workspace"),
        ({}, {"data_type": "int8-cpu"}, "quantized for CPUs"),
    ],
)
def test_a_failed_build_leaves_no_file(cuda, options, header, message, tmp_path):
    content = write_onnx(tmp_path, **header)
    device = DeviceOptions(**options)
    with pytest.raises(BodyPoseNetError, match=rf"m\.engine: .*{message}"):
        build_engine_file(content, tmp_path / "m.engine", EngineOptions("tensorrt", device))
    assert not (tmp_path / "m.engine").exists()


def test_invalid_batch_sizes_are_an_error(cuda, tmp_path):
    with pytest.raises(BodyPoseNetError, match=r"m\.engine: .*\(1, 5, 1\)"):
        engines.tensorrt.build(
            tmp_path / "m.engine", write_onnx(tmp_path), HEADER,
            shape=(24, 40), opt_batch_size=5, max_batch_size=1, workspace=2**30, timing_cache=None,
        )  # fmt: skip


def test_the_optimal_batch_size_is_at_most_the_maximum():
    with pytest.raises(BodyPoseNetError, match=r"5.*4"):
        DeviceOptions(opt_batch_size=5, max_batch_size=4)


def test_a_model_that_tensorrt_cannot_read_is_an_error(cuda, tmp_path):
    with pytest.raises(BodyPoseNetError, match=r"m\.engine: TensorRT cannot read it: .*protobuf"):
        engines.tensorrt.build(
            tmp_path / "m.engine", b"no model", HEADER,
            shape=(24, 40), opt_batch_size=1, max_batch_size=1, workspace=2**30, timing_cache=None,
        )  # fmt: skip


def test_an_engine_for_another_gpu_is_refused(cuda, tmp_path):
    path = tmp_path / "m.engine"
    build_engine_file(write_onnx(tmp_path), path, OPTIONS)
    cuda.gpu = "Another"
    message = r"built by tensorrt 11\.0 for Stand-in 9000, .* tensorrt 11\.0 on Another"
    with pytest.raises(BodyPoseNetError, match=message):
        run(path)
    cuda.gpu = None
    with pytest.raises(BodyPoseNetError, match="the GPU cannot be used: no CUDA-capable device"):
        run(path)


def test_an_engine_runs_on_one_of_several_gpus(cuda, tmp_path):
    path = tmp_path / "m.engine"
    build_engine_file(write_onnx(tmp_path), path, OPTIONS)
    for device in ("cuda:1", "cpu"):
        with pytest.raises(BodyPoseNetError, match=f"device {device}: TensorRT") as error:
            open_engine(InferenceSpec(), str(path), device=device)
        assert error.value.remedy == "Available: cuda:0."
    cuda.gpus = 2
    engine = open_engine(InferenceSpec(), str(path), device="cuda:1")
    cuda.device = 0  # other code may select another GPU
    check_maps(engine, images(1, 24, 40))
    assert cuda.device == 1


def test_a_damaged_plan_is_refused(cuda, tmp_path):
    path = tmp_path / "m.engine"
    build_engine_file(write_onnx(tmp_path), path, OPTIONS)
    write_engine(path, read_engine(path)[0], b"no plan")
    with pytest.raises(BodyPoseNetError, match="TensorRT cannot open it: magic tag"):
        run(path)


def test_tensorrt_is_chosen_if_there_is_a_gpu(cuda):
    assert choose_runtime() == "tensorrt"
    assert choose_runtime(data_type="int8-cpu") == "openvino"
    cuda.gpu = None
    assert choose_runtime() == "openvino"


def test_an_engine_file_without_tensorrt_installed(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    header = EngineHeader(
        runtime="tensorrt", version="11.0", device="Orin", precision="fp16", model=HEADER
    )
    write_engine(tmp_path / "m.engine", header, b"a plan")
    message = r"built by tensorrt 11\.0 for Orin, but tensorrt cannot be loaded here: .*tensorrt"
    with pytest.raises(BodyPoseNetError, match=message) as error:
        run(tmp_path / "m.engine")
    assert "Build it on this machine: bpnet export" in error.value.remedy
    assert "bodyposenet[tensorrt]" in error.value.remedy


def test_building_without_tensorrt_installed(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(ModuleNotFoundError, match="tensorrt"):
        build_engine_file(write_onnx(tmp_path), tmp_path / "m.engine", OPTIONS)
