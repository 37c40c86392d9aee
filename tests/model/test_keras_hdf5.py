"""Tests of models of TAO 5: networks read from Keras files predict the same maps as in Keras."""

import contextlib
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.model.checkpoint import load_model, read_model, save_model
from bodyposenet.model.network import BodyPoseNetwork, Normalization
from bodyposenet.model.pretrained import build_pretrained, load_pretrained
from bodyposenet.skeleton import Skeleton
from bodyposenet.specs.network import ModelConfig
from bodyposenet.specs.pose import load_skeleton

from .tao_keras_models import make_model, run_model, write_model

TOY = Skeleton("toy", ("nose", "left_eye", "tail"), ((0, 1), (0, 2)))


def pixels() -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (2, 48, 64, 3), dtype=np.uint8)


def check_maps(network: BodyPoseNetwork, variables: dict[str, np.ndarray]) -> None:
    with torch.inference_mode():
        maps = network.eval()(network.normalize(torch.from_numpy(pixels())))
    expected = run_model(variables, pixels())
    assert network.stages == len(expected)
    for ours, theirs in zip(zip(maps.heatmaps, maps.pafs, strict=True), expected, strict=True):
        for one, other in zip(ours, theirs, strict=True):
            largest = other.abs().max().item()
            torch.testing.assert_close(one.permute(0, 2, 3, 1), other, rtol=0, atol=1e-5 * largest)


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize(
    "options", [{}, {"stages": 1}, {"stages": 3, "use_bias": True}, {"separate": True}]
)
def test_model_predicts_the_maps_that_keras_predicts(tmp_path: Path, options: dict, nested: bool):
    variables = make_model(**options)
    header, network = read_model(write_model(tmp_path / "m.hdf5", variables, nested=nested))
    check_maps(network, variables)
    assert network.skeleton == load_skeleton("bpnet_18joints.json")
    assert network.out_channels()["block_2a_conv_1"] == 24
    assert header["widths"] == network.out_channels()
    save_model(tmp_path / "ours.tlt", network)
    check_maps(load_model(tmp_path / "ours.tlt"), variables)


def test_architecture_comes_from_the_file_and_normalization_from_the_spec(tmp_path: Path):
    """TAO's file does not contain the normalization; it is in the train spec."""
    path = write_model(tmp_path / "m.hdf5", make_model())
    pixels = Normalization((128.0, 128.0, 128.0), (1.0, 1.0, 1.0))
    network, report = build_pretrained(path, normalization=pixels)
    assert network.normalization == pixels
    assert not report.missing and not report.mismatched and not report.unused
    before, after = (net.layers()["block_1a_conv_1"].weight for net in (load_model(path), network))
    assert torch.equal(before, after)


@pytest.mark.parametrize("separate", [False, True])
def test_joints_and_limbs_match_by_name(tmp_path: Path, separate: bool):
    path = write_model(tmp_path / "m.hdf5", make_model(separate=separate))
    theirs = load_model(path)
    network = BodyPoseNetwork(TOY, theirs.spec, out_channels={
        name: count for name, count in theirs.out_channels().items() if not name.endswith("out")
    })  # fmt: skip
    report = load_pretrained(network, path)
    assert report.new_maps == ("tail", "nose - tail")
    before, after = (net.layers()["heatmap_out"].weight for net in (theirs, network))
    assert torch.equal(after[0], before[theirs.skeleton.joints.index("nose")])
    rows = ("paf_branch", "heat_branch") if separate else ("",)
    for row in rows:  # inputs of the second stage, which are the maps of the first stage
        name = f"stage2/{row}/conv1".replace("//", "/")
        before, after = (net.layers()[name].weight for net in (theirs, network))
        assert torch.equal(after[:, 16], before[:, 16 + theirs.skeleton.joints.index("nose")])
        assert torch.equal(after[:, 16 + 2], torch.zeros_like(after[:, 0]))  # the tail


def test_format_is_detected_by_content(tmp_path: Path):
    variables = make_model(stages=1)
    check_maps(load_model(write_model(tmp_path / "m.tlt", variables)), variables)
    save_model(tmp_path / "ours.hdf5", load_model(tmp_path / "m.tlt"))
    check_maps(load_model(tmp_path / "ours.hdf5"), variables)


def test_a_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The weights of TAO's largest network take 200 MB."""
    path, original, opened = write_model(tmp_path / "m.hdf5", make_model(stages=1)), h5py.File, []
    monkeypatch.setattr(h5py, "File", lambda *args: opened.append(args) or original(*args))
    build_pretrained(path)
    load_model(path)
    assert len(opened) == 2


def test_other_keras_files_are_weights_only(tmp_path: Path):
    variables = make_model(stages=1)
    del variables["channel_reduction_conv/kernel:0"]
    path = write_model(tmp_path / "m.hdf5", variables)
    with pytest.raises(BodyPoseNetError, match=r"m\.hdf5") as caught:
        load_model(path)
    assert "pretrained_weights" in caught.value.remedy
    report = load_pretrained(BodyPoseNetwork(TOY, ModelConfig(stages=1)), write_other(tmp_path))
    assert report.loaded == ("block_1a_conv_1.weight",)


def write_other(folder: Path) -> Path:
    """Write the first layer of a classifier, as in TAO's pretrained VGG19."""
    kernel = np.ones((3, 3, 3, 64), np.float32)
    return write_model(folder / "vgg_19.hdf5", {"block_1a_conv_1/kernel:0": kernel})


@pytest.mark.parametrize(
    "damage",
    [
        {"stage2/conv3/kernel:0": None},
        {"block_2a_bn_1/gamma:0": np.zeros(5, np.float32)},
        {"stage1/conv1/kernel:0": np.zeros((2, 2, 16, 16), np.float32)},
        {"block_9z_conv_1/kernel:0": np.zeros((3, 3, 4, 4), np.float32)},
        {"stage9/conv1/kernel:0": np.zeros((3, 3, 4, 4), np.float32)},
    ],
)
def test_model_with_other_layers_is_an_error(tmp_path: Path, damage: dict):
    variables = make_model() | damage
    path = write_model(
        tmp_path / "m.hdf5", {name: value for name, value in variables.items() if value is not None}
    )
    with pytest.raises(BodyPoseNetError, match=r"m\.hdf5"):
        load_model(path)


def test_truncated_file_is_an_error(tmp_path: Path):
    path = write_model(tmp_path / "m.hdf5", make_model(stages=1))
    content = path.read_bytes()
    for part in (b"", content[:100], content[: len(content) // 2]):
        path.write_bytes(part)
        with pytest.raises(BodyPoseNetError, match="HDF5"):
            load_model(path)


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("keras")
    return write_model(folder / "m.hdf5", make_model(stages=1)).read_bytes()


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 20_000), change=st.integers(1, 255))
def test_changed_byte_raises_no_other_exception(
    tmp_path: Path, content: bytes, place: int, change: int
):
    """The file has no checksum: a wrong weight is not detected, a wrong structure is an error."""
    damaged = bytearray(content)
    damaged[place] ^= change
    (tmp_path / "m.hdf5").write_bytes(damaged)
    with contextlib.suppress(BodyPoseNetError):
        load_model(tmp_path / "m.hdf5")


def test_huge_weights_are_not_read(tmp_path: Path):
    """A few hundred bytes of HDF5 can declare terabytes."""
    with h5py.File(tmp_path / "m.hdf5", "w") as file:
        file.create_dataset(
            "model_weights/block_1a_conv_1/kernel:0", (2**20, 2**20), "f4", chunks=True
        )
    with pytest.raises(BodyPoseNetError, match="MiB of weights"):
        load_model(tmp_path / "m.hdf5")


def test_half_precision_is_read(tmp_path: Path):
    path = write_model(tmp_path / "m.hdf5", make_model(stages=1))
    with h5py.File(path, "r+") as file:
        place = "model_weights/stage1/conv1/stage1/conv1/kernel:0"
        value = np.asarray(file[place], np.float16)
        del file[place]
        file[place] = value
    assert load_model(path).layers()["stage1/conv1"].weight.dtype == torch.float32
