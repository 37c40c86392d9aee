"""Tests of this package's files as pretrained weights, for the same and other skeletons."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from bodyposenet.encryption import METADATA_KEY
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.exporting.onnx import PLAIN, OnnxExportOptions, export_onnx
from bodyposenet.inference.models import DEFAULT_MODEL_FOLDER, FLOAT16_FILE, INT8_FILE
from bodyposenet.model.checkpoint import (
    load_model,
    model_header,
    read_tensors,
    save_model,
    write_tensors,
)
from bodyposenet.model.network import BodyPoseNetwork, Normalization
from bodyposenet.model.pretrained import build_pretrained, load_pretrained
from bodyposenet.skeleton import Skeleton
from bodyposenet.specs.network import BackboneAttributes, ModelConfig
from bodyposenet.specs.pose import load_skeleton

ARM = Skeleton("arm", ("shoulder", "elbow", "hand"), ((0, 1), (1, 2)))
HAND = Skeleton("hand", ("finger", "hand", "elbow"), ((2, 1), (1, 0)))


def random_network(skeleton: Skeleton = ARM, out_channels: dict | None = None) -> BodyPoseNetwork:
    torch.manual_seed(0)
    attributes = BackboneAttributes(architecture="lightweight_openpose", width=0.125)
    network = BodyPoseNetwork(
        skeleton, ModelConfig(stages=2, backbone_attributes=attributes), out_channels=out_channels
    )
    for name, tensor in network.state_dict().items():
        if name.endswith(("running_mean", ".bias")) and "context" not in name:
            tensor.normal_(std=0.1)
    return network.eval()


def maps_of(network: BodyPoseNetwork) -> list[torch.Tensor]:
    torch.manual_seed(1)
    with torch.inference_mode():
        maps = network.eval()(torch.rand(1, 3, 32, 40) - 0.5)
    return [maps.heatmaps[-1], maps.pafs[-1]]


@pytest.fixture
def pruned(tmp_path: Path) -> Path:
    network = random_network(out_channels={"block_4f_conv_1": 24, "stage1/conv2": 8})
    save_model(tmp_path / "m.tlt", network, key="key")
    return tmp_path / "m.tlt"


def test_out_channels_are_those_of_the_file(pruned: Path):
    network, report = build_pretrained(pruned, "key", ARM, Normalization())
    assert network.out_channels() == load_model(pruned, "key").out_channels()
    assert not report.new_maps
    for ours, theirs in zip(maps_of(network), maps_of(load_model(pruned, "key")), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_shared_joints_of_another_skeleton_are_kept(pruned: Path):
    network, report = build_pretrained(pruned, "key", HAND, Normalization())
    assert report.new_maps == ("finger", "hand - finger")
    assert network.out_channels()["block_4f_conv_1"] == 24
    theirs, ours = load_model(pruned, "key").layers(), network.layers()
    heat = "stage1/heat_branch/out"
    torch.testing.assert_close(ours[heat].weight[1:3], theirs[heat].weight[[2, 1]])
    paf = "stage1/paf_branch/out"
    torch.testing.assert_close(ours[paf].weight[:2], theirs[paf].weight[2:4])


def export(network: BodyPoseNetwork, path: Path, options: OnnxExportOptions = PLAIN) -> Path:
    path.write_bytes(export_onnx(network, model_header(network), options))
    return path


def test_exported_model_is_restored(tmp_path: Path):
    """Batch normalization is folded in the file, and biases that are 0 are omitted."""
    network = random_network()
    path = export(network, tmp_path / "m.onnx", OnnxExportOptions(normalizes_input=True))
    again, report = build_pretrained(path, "", ARM, Normalization())
    assert not again.spec.backbone_attributes.batch_norm
    assert not (report.missing or report.mismatched or report.unused)
    for ours, theirs in zip(maps_of(again), maps_of(network), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_other_onnx_files_are_errors(tmp_path: Path):
    path = tmp_path / "m.onnx"
    for content in (b"", b"no model"):
        path.write_bytes(content)
        with pytest.raises(BodyPoseNetError, match=r"m\.onnx"):
            build_pretrained(path, "", ARM, Normalization())
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    out = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    graph = onnx.helper.make_graph([node], "g", [value], [out])
    onnx.save(onnx.helper.make_model(graph), path)
    with pytest.raises(BodyPoseNetError, match=r"m\.onnx"):
        build_pretrained(path, "", ARM, Normalization())


def test_default_model_can_be_trained():
    body = load_skeleton("bpnet_18joints.json")
    network, report = build_pretrained(
        DEFAULT_MODEL_FOLDER / FLOAT16_FILE, "", body, Normalization()
    )
    assert not (report.new_maps or report.missing or report.mismatched)
    assert all(np.isfinite(tensor.detach().numpy()).all() for tensor in network.parameters())
    with pytest.raises(BodyPoseNetError, match="INT8"):
        build_pretrained(DEFAULT_MODEL_FOLDER / INT8_FILE, "", body, Normalization())


@pytest.mark.parametrize("attributes", [{}, {"batch_norm": False}, {"mtype": "open_model_zoo"}])
def test_default_model_is_refused_for_another_variant(attributes: dict):
    """Otherwise new batch normalization would follow its convolutions, without their biases."""
    backbone = BackboneAttributes(architecture="lightweight_openpose", **attributes)
    network = BodyPoseNetwork(
        load_skeleton("bpnet_18joints.json"), ModelConfig(stages=2, backbone_attributes=backbone)
    )
    with pytest.raises(BodyPoseNetError, match=FLOAT16_FILE):
        load_pretrained(network, DEFAULT_MODEL_FOLDER / FLOAT16_FILE)


def test_exported_vgg_is_refused(tmp_path: Path):
    narrow = {"block_1a_conv_1": 8, "block_1b_conv_1": 8}
    path = export(
        BodyPoseNetwork(ARM, ModelConfig(stages=1), out_channels=narrow), tmp_path / "m.onnx"
    )
    with pytest.raises(BodyPoseNetError, match=r"m\.onnx"):
        build_pretrained(path)


def test_skeleton_defaults_to_that_of_the_file(pruned: Path):
    network, report = build_pretrained(pruned, "key")
    assert network.skeleton == load_model(pruned, "key").skeleton and not report.new_maps


def test_network_without_first_bias_cannot_change_its_normalization(pruned: Path):
    with pytest.raises(BodyPoseNetError, match="normalization_params") as error:
        build_pretrained(pruned, "key", ARM, Normalization((255.0,) * 3))
    assert "m.tlt" in str(error.value)


@pytest.mark.parametrize(
    "change",
    [
        {"widths": [8]}, {"widths": {"block_4f_conv_1": -8}}, {"widths": {"block_4f_conv_1": "x"}},
        {"network": {"stages": 2, "backbone_attributes": {"architecture": "mobilenet"}}},
        {"skeleton": {}}, {"normalization": None},
    ],
)  # fmt: skip
def test_damaged_headers_are_errors(pruned: Path, change: dict):
    header, tensors = read_tensors(pruned, "key")
    write_tensors(pruned, header | change, tensors)
    with pytest.raises(BodyPoseNetError, match=r"m\.tlt"):
        build_pretrained(pruned)


def test_tensors_that_do_not_fit_the_header_are_an_error(pruned: Path):
    header, tensors = read_tensors(pruned, "key")
    for name in ("heatmap_out.weight", "stage2/block1/conv1.weight"):
        write_tensors(pruned, header, tensors | {name: tensors[name][:1, :1]})
        with pytest.raises(BodyPoseNetError, match=r"m\.tlt"):
            build_pretrained(pruned, skeleton=HAND)


def test_an_edited_header_is_an_error(tmp_path: Path):
    path = export(random_network(), tmp_path / "m.onnx")
    model = onnx.load(path)
    for entry in model.metadata_props:
        if entry.key == METADATA_KEY:
            header = entry
    for content in ('{"network": {"stages": "many"}}', "[]", "{"):
        header.value = content
        onnx.save(model, path)
        with pytest.raises(BodyPoseNetError, match=r"m\.onnx"):
            build_pretrained(path, "", ARM, Normalization())
