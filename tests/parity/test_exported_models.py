"""Exported models give the same poses as the trained one, in every format and runtime."""

import numpy as np
import onnxruntime
import pytest

from bodyposenet.decoding import decode
from bodyposenet.exporting.float16 import to_float16
from bodyposenet.exporting.onnx import OnnxExportOptions, export_onnx
from bodyposenet.exporting.verification import TOLERANCES, compare
from bodyposenet.inference.models import open_engine
from bodyposenet.media.images import read_image
from bodyposenet.media.inputs import list_images
from bodyposenet.model.checkpoint import read_model
from bodyposenet.specs.inference import InferenceSpec


@pytest.fixture(scope="module")
def files(exported, tmp_path_factory):
    """Folder with the plain and the deployable ONNX file, each also in float16."""
    header, network = read_model(exported / "model.tlt", "key")
    contents = {
        "plain": (exported / "model.onnx").read_bytes(),
        "deployable": export_onnx(network, header, OnnxExportOptions(upsample_ratio=4)),
    }
    contents |= {f"{name} half": to_float16(content) for name, content in contents.items()}
    folder = tmp_path_factory.mktemp("models")
    for name, content in contents.items():
        (folder / f"{name}.onnx").write_bytes(content)
    return folder


@pytest.fixture(scope="module")
def images(drawn_dataset):
    entries = list_images("dir", drawn_dataset.folder / "test").entries
    return np.stack([read_image(entry.path) for entry in entries])


def poses(engine, images):
    return [decode(maps, engine.skeleton) for maps in engine.infer(images)]


def load(path, engine="auto"):
    return open_engine(InferenceSpec(), str(path), "key", engine, 1)


@pytest.mark.parametrize("engine", ["onnx", "openvino"])
@pytest.mark.parametrize("name", ["plain", "deployable"])
def test_poses_are_the_same(files, exported, images, name, engine):
    expected = poses(load(exported / "model.tlt"), images)
    assert sum(map(len, expected)) >= len(images)
    found = poses(load(files / f"{name}.onnx", engine), images)
    for exported_poses, trained_poses in zip(found, expected, strict=True):
        assert len(exported_poses) == len(trained_poses)
        np.testing.assert_allclose(exported_poses.keypoints, trained_poses.keypoints, atol=0.01)


@pytest.mark.parametrize("engine", ["onnx", "openvino"])
@pytest.mark.parametrize("name", ["plain half", "deployable half"])
def test_float16_moves_keypoints_by_less_than_half_a_pixel(files, exported, images, name, engine):
    network, half = load(exported / "model.tlt"), load(files / f"{name}.onnx", engine)
    found = compare(network, half, images, TOLERANCES["fp16"])
    # The network was trained for sixty steps only; a few keypoints are close to the threshold.
    assert found.matched >= 0.95 * found.keypoints > 50


def test_deployable_pafs_are_upsampled_by_repetition(files):
    random = np.random.default_rng(0)
    inputs = random.uniform(-0.5, 0.5, (2, 64, 96, 3)).astype(np.float32)
    found = {}
    for name in ("plain", "deployable"):
        session = onnxruntime.InferenceSession(
            files / f"{name}.onnx", providers=["CPUExecutionProvider"]
        )
        names = [output.name for output in session.get_outputs()]
        found[name] = dict(zip(names, session.run(None, {"input_1:0": inputs}), strict=True))
    pafs = found["plain"]["paf_out/BiasAdd:0"]
    enlarged = found["deployable"]["conv2d_transpose_1/BiasAdd:0"]
    assert enlarged.shape == (2, 32, 48, 38)
    np.testing.assert_array_equal(enlarged, pafs.repeat(4, axis=1).repeat(4, axis=2))
    np.testing.assert_array_equal(*(each["heatmap_out/BiasAdd:0"] for each in found.values()))
