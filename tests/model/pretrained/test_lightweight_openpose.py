"""Tests of published weights of lightweight OpenPose: conversion, inactive channels, errors."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.model.network import BodyPoseNetwork, Normalization
from bodyposenet.model.pretrained import build_pretrained, load_pretrained
from bodyposenet.model.pretrained.open_model_zoo import read_ir
from bodyposenet.skeleton import Skeleton
from bodyposenet.specs.network import BackboneAttributes, ModelConfig
from bodyposenet.specs.pose import load_skeleton

from .published import random_tensors, torch_maps

BODY = load_skeleton("bpnet_18joints.json")
PIXELS = torch.randint(0, 256, (2, 3, 40, 56), generator=torch.Generator().manual_seed(0)).float()


def network_of(**attributes: object) -> BodyPoseNetwork:
    backbone = BackboneAttributes(architecture="lightweight_openpose", width=0.125, **attributes)
    return BodyPoseNetwork(BODY, ModelConfig(stages=2, backbone_attributes=backbone))


def maps_of(network: BodyPoseNetwork, pixels: Tensor = PIXELS) -> list[Tensor]:
    """Compute the heatmaps and PAFs of the last stage."""
    scale, offset = network.image_scale, network.image_offset
    with torch.inference_mode():
        maps = network.eval()(pixels / scale - offset)
    return [maps.heatmaps[-1], maps.pafs[-1]]


def check_equal(ours: list[Tensor], theirs: list[Tensor]) -> None:
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5 * float(other.abs().max()))


def save_checkpoint(path: Path, tensors: dict[str, Tensor]) -> Path:
    """Write a checkpoint as the published training code does: for BGR, of a DataParallel."""
    first = {"model.0.0.weight": tensors["model.0.0.weight"].flip(1)}
    state = {f"module.{name}": value for name, value in {**tensors, **first}.items()}
    optimizer = torch.optim.Adam([torch.zeros(1)]).state_dict()
    torch.save({"state_dict": state, "optimizer": optimizer, "iter": 370000}, path)
    return path


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return save_checkpoint(tmp_path / "checkpoint_iter_370000.pth", random_tensors(False, True))


class TestCheckpoint:
    def test_architecture_is_that_of_the_file(self, checkpoint: Path):
        network, report = build_pretrained(checkpoint, "", BODY, Normalization())
        check_equal(maps_of(network), torch_maps(random_tensors(False, True), PIXELS))
        assert not (report.missing or report.mismatched or report.unused or report.new_maps)
        attributes = network.spec.backbone_attributes
        assert attributes.mtype == "default" and not attributes.batch_norm

    @pytest.mark.parametrize("batch_norm", [True, False])
    def test_weights_fit_a_network_of_the_spec(self, checkpoint: Path, batch_norm: bool):
        network = network_of(batch_norm=batch_norm)
        report = load_pretrained(network, checkpoint)
        check_equal(maps_of(network), torch_maps(random_tensors(False, True), PIXELS))
        assert not (report.missing or report.mismatched or report.unused)

    def test_files_with_code_are_refused(self, tmp_path: Path):
        class Harmful:
            def __reduce__(self):
                return Path.touch, (tmp_path / "harm",)

        torch.save({"state_dict": {}, "extra": Harmful()}, tmp_path / "harmful.pth")
        with pytest.raises(BodyPoseNetError, match=r"harmful\.pth"):
            load_pretrained(network_of(), tmp_path / "harmful.pth")
        assert not (tmp_path / "harm").exists()

    @pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04", "cut"])
    def test_damage_is_an_error(self, checkpoint: Path, content: bytes | str):
        whole = checkpoint.read_bytes()
        checkpoint.write_bytes(whole[: len(whole) // 2] if isinstance(content, str) else content)
        with pytest.raises(BodyPoseNetError, match=checkpoint.name):
            load_pretrained(network_of(), checkpoint)

    @pytest.mark.parametrize(
        "change",
        [
            {"model.4.3.weight": None},
            {"model.5.1.running_var": None},
            {"model.0.0.weight": torch.zeros(8)},
            {"model.6.0.weight": torch.zeros(3, 3)},
            {"refinement_stages.11.trunk.0.initial.0.weight": torch.zeros(1, 1, 1, 1)},
        ],
    )
    def test_incomplete_network_is_an_error(self, tmp_path: Path, change: dict):
        tensors = {**random_tensors(False, True), **change}
        whole = {name: tensor for name, tensor in tensors.items() if tensor is not None}
        torch.save({"state_dict": whole}, tmp_path / "part.pth")
        with pytest.raises(BodyPoseNetError, match=r"part\.pth"):
            build_pretrained(tmp_path / "part.pth")

    @pytest.mark.parametrize(
        "content", [{"state_dict": {"fc.weight": torch.zeros(2)}}, {"state_dict": [1]}, [1]]
    )
    def test_another_network_is_an_error(self, tmp_path: Path, content: object):
        torch.save(content, tmp_path / "resnet.pth")
        with pytest.raises(BodyPoseNetError, match=r"resnet\.pth"):
            load_pretrained(network_of(), tmp_path / "resnet.pth")


class TestIntel:
    @pytest.fixture
    def weights(self, tmp_path: Path) -> Path:
        save_file(random_tensors(True, False), tmp_path / "w.safetensors")
        return tmp_path / "w.safetensors"

    def test_architecture_is_that_of_the_file(self, weights: Path):
        network, _ = build_pretrained(weights, "", BODY, Normalization())
        check_equal(maps_of(network), torch_maps(random_tensors(True, False), PIXELS))
        assert network.spec.backbone_attributes.mtype == "open_model_zoo"

    def test_first_layer_is_adapted_to_the_normalization(self, weights: Path):
        """The padding of 0 is the pixel value 128 in both, so the border is equal, too."""
        ours = Normalization((255.0, 128.0, 64.0), (128 / 255, 1.0, 2.0))
        network, _ = build_pretrained(weights, "", BODY, ours)
        assert network.normalization == ours
        check_equal(maps_of(network), torch_maps(random_tensors(True, False), PIXELS))

    @pytest.mark.parametrize(
        "attributes, key",
        [({"batch_norm": False}, "mtype"), ({"mtype": "open_model_zoo"}, "batch_norm")],
    )
    def test_another_variant_is_refused(self, weights: Path, attributes: dict, key: str):
        with pytest.raises(BodyPoseNetError, match=key):
            load_pretrained(network_of(**attributes), weights)


def test_channels_that_are_always_0_are_removed(tmp_path: Path):
    tensors = random_tensors(True, False)
    for block, channels in ((11, range(0, 40, 2)), (8, range(10)), (7, range(3))):
        weight, bias = f"model.{block}.3.weight", f"model.{block}.3.bias"
        tensors[weight][list(channels)] = 0
        tensors[bias][list(channels)] = torch.tensor([-0.1, 0.0] * 20)[: len(channels)]
        if block < 11:
            tensors[f"model.{block + 1}.0.weight"][list(channels)] = 120.0
            tensors[f"model.{block + 1}.0.bias"][list(channels)] += 0.3
    save_file(tensors, tmp_path / "w.safetensors")
    network, report = build_pretrained(tmp_path / "w.safetensors", "", BODY, Normalization())
    check_equal(maps_of(network), torch_maps(tensors, PIXELS))
    out_channels = network.out_channels()
    assert out_channels["block_4f_conv_1"] == 64 - 16  # of 20, a multiple of 8
    assert out_channels["block_4c_conv_1"] == out_channels["block_4d_dwconv_1"] == 64 - 8
    assert out_channels["block_4b_conv_1"] == 64
    assert len(report.notes) == 2
    assert all(
        float(layer.weight.detach().abs().max()) < 100 for layer in network.layers().values()
    )
    unpruned = network_of(mtype="open_model_zoo", batch_norm=False)
    load_pretrained(unpruned, tmp_path / "w.safetensors")
    check_equal(maps_of(unpruned), torch_maps(tensors, PIXELS))


def test_maps_match_by_the_names_of_joints_and_limbs(tmp_path: Path):
    """Stage 1 has no maps as input, so channels of the same joints must be equal."""
    save_file(random_tensors(True, False), tmp_path / "w.safetensors")
    body, _ = build_pretrained(tmp_path / "w.safetensors", "", BODY, Normalization())
    joints = ("left_wrist", "neck", "tail", "left_elbow")
    skeleton = Skeleton("other", joints, ((0, 3), (1, 2)))  # the first limb is reversed
    other, report = build_pretrained(tmp_path / "w.safetensors", "", skeleton, Normalization())
    assert report.new_maps == ("tail", "neck - tail")
    with torch.inference_mode():
        theirs, ours = (net.eval()(PIXELS / 256 - 0.5) for net in (body, other))
    kept = [BODY.joints.index(joint) for joint in ("left_wrist", "neck", "left_elbow")]
    heatmaps = torch.cat([theirs.heatmaps[0][:, kept], theirs.heatmaps[0][:, -1:]], dim=1)
    torch.testing.assert_close(ours.heatmaps[0][:, [0, 1, 3, 4]], heatmaps)
    limb = BODY.limbs.index((BODY.joints.index("left_elbow"), BODY.joints.index("left_wrist")))
    torch.testing.assert_close(ours.pafs[0][:, :2], -theirs.pafs[0][:, 2 * limb : 2 * limb + 2])
    assert ours.heatmaps[0][:, 2].abs().max() < 0.2  # the tail
    assert ours.pafs[0][:, 2:].abs().max() < 0.2


def test_the_same_joints_in_another_order_give_the_same_maps(tmp_path: Path):
    save_file(random_tensors(True, False), tmp_path / "w.safetensors")
    order = torch.randperm(18, generator=torch.Generator().manual_seed(0)).tolist()
    place = {joint: index for index, joint in enumerate(order)}
    limbs = tuple((place[end], place[start]) for start, end in reversed(BODY.limbs))
    shuffled = Skeleton("shuffled", tuple(BODY.joints[joint] for joint in order), limbs)
    networks = [
        build_pretrained(tmp_path / "w.safetensors", "", skeleton, Normalization())[0]
        for skeleton in (BODY, shuffled)
    ]
    (heatmaps, pafs), (other_heatmaps, other_pafs) = (maps_of(network) for network in networks)
    check_equal([other_heatmaps], [heatmaps[:, [*order, 18]]])
    backwards = pafs.unflatten(1, (-1, 2)).flip(1).flatten(1, 2)
    check_equal([other_pafs], [-backwards])


@pytest.mark.shared_data
def test_real_network_equals_the_published_one(shared: Path):
    """The reference is a plain module that is equal to the float graph of the IR."""
    from importlib.util import module_from_spec, spec_from_file_location

    folder = shared / "weights" / "lightweight_openpose"
    spec = spec_from_file_location("published", folder / "lightweight_openpose.py")
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    reference = module.LightweightOpenPose().eval()
    image = torch.randint(0, 256, (1, 3, 128, 160)).float()
    ir = shared / "peers" / "hpe0001" / "hpe0001_int8.xml"
    weights = folder / "hpe0001.safetensors"
    floats = {name: tensor.float() for name, tensor in load_file(weights).items()}
    for path, tensors in ((weights, floats), (ir, read_ir(ir))):
        reference.load_state_dict(tensors)
        with torch.inference_mode():
            expected = list(reference(image / 256 - 0.5)[-1])
        network, report = build_pretrained(path, "", BODY, Normalization())
        for one, other in zip(maps_of(network, image), expected, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-5)
        assert len(report.notes) == 1 and network.out_channels()["block_4f_conv_1"] == 416
