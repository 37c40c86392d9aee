"""Tests of exported models on ONNX Runtime and OpenVINO: layouts, sizes, headers, bad files."""

import json
import time
from dataclasses import replace
from importlib.resources import files

import numpy as np
import onnx as onnx_package
import pytest
from onnx import TensorProto

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.exporting.float16 import to_float16
from bodyposenet.inference.engines import onnx, openvino
from bodyposenet.inference.engines.base import ModelDescription
from bodyposenet.inference.engines.exported import Signature, TensorSpec
from bodyposenet.inference.engines.onnx_file import read_header
from bodyposenet.inference.models import open_engine
from bodyposenet.skeleton import Skeleton
from bodyposenet.specs.inference import InferenceSpec
from bodyposenet.specs.pose import load_skeleton

from ..exported_models import HEADER, check_maps, expected_maps, images, write_model

TRAIN_SPEC = str(files("bodyposenet") / "resources" / "specs" / "bpnet_train_m1_coco.yaml")
KNOWN = ModelDescription(load_skeleton("bpnet_18joints.json"), (256,) * 3, (0.5,) * 3, stages=3)
RUNTIMES = pytest.mark.parametrize("runtime", [onnx, openvino], ids=["onnx", "openvino"])


@RUNTIMES
@pytest.mark.parametrize(
    "properties",
    [
        {},
        {"repeats": 1, "pafs": "paf_out/BiasAdd:0"},
        {"channels_last": False},
        {"size": (2, "height", "width")},
        {"dtype": TensorProto.UINT8},
        {"dtype": TensorProto.UINT8, "channels_last": False, "size": (2, "height", "width")},
        {"repeats": 3},
    ],
    ids=[
        "deployable",
        "no upsampling",
        "channels first",
        "fixed batch size",
        "uint8",
        "uint8 channels first",
        "upsampled by 3",
    ],
)
def test_models_with_nvidias_signatures_give_the_expected_maps(runtime, properties, tmp_path):
    engine = runtime.load(write_model(tmp_path / "m.onnx", **properties), KNOWN, threads=1)
    assert (engine.stages, engine.stride, engine.fixed_shape) == (3, 8, None)
    check_maps(engine, images(3, 24, 40))
    check_maps(engine, images(1, 16, 16))


@RUNTIMES
def test_a_fixed_input_size_is_required(runtime, tmp_path):
    path = write_model(tmp_path / "m.onnx", size=(1, 24, 40))
    engine = runtime.load(path, KNOWN, threads=1)
    assert engine.fixed_shape == (24, 40)
    check_maps(engine, images(2, 24, 40))
    with pytest.raises(BodyPoseNetError, match="24 x 40"):
        engine.infer(images(1, 24, 48))


def test_partial_cells_are_padded_with_gray(tmp_path):
    engine = onnx.load(write_model(tmp_path / "m.onnx"), KNOWN, threads=1)
    small = images(1, 13, 21)
    padded = np.pad(small, ((0, 0), (0, 3), (0, 3), (0, 0)), constant_values=128)
    (maps,), (expected,) = engine.infer(small), engine.infer(padded)
    np.testing.assert_array_equal(maps.heatmaps, expected.heatmaps)
    np.testing.assert_array_equal(maps.pafs, expected.pafs)


def test_mirrored_views_work(tmp_path):
    engine = onnx.load(write_model(tmp_path / "m.onnx"), KNOWN, threads=1)
    check_maps(engine, images(1, 16, 24)[:, :, ::-1])


@pytest.mark.parametrize("engine", ["auto", "openvino"])
def test_a_train_spec_replaces_a_missing_header(engine, tmp_path):
    path = write_model(tmp_path / "m.onnx")
    with pytest.raises(BodyPoseNetError, match=r"m\.onnx: .*joints") as error:
        open_engine(InferenceSpec(), str(path), engine=engine)
    assert "train_spec" in error.value.remedy
    spec = InferenceSpec(train_spec=TRAIN_SPEC)
    check_maps(open_engine(spec, str(path), engine=engine, threads=1), images(1, 16, 24))


def test_a_skeleton_that_does_not_fit_is_an_error(tmp_path):
    toy = Skeleton("toy", ("head", "hand"), ((0, 1),))
    path = write_model(tmp_path / "m.onnx")
    with pytest.raises(BodyPoseNetError, match="skeleton toy needs 3 heatmaps and 2 PAF channels"):
        onnx.load(path, ModelDescription(toy, (256,) * 3, (0.5,) * 3, stages=3))


def test_only_the_last_stage_is_available(tmp_path):
    engine = onnx.load(write_model(tmp_path / "m.onnx"), KNOWN, threads=1)
    assert len(engine.infer(images(1, 16, 16), stage=3)) == 1
    with pytest.raises(BodyPoseNetError, match="last of its 3 stages"):
        engine.infer(images(1, 16, 16), stage=1)


@pytest.mark.parametrize(
    ("header", "message"),
    [("{", "JSON: Invalid JSON"), ("[]", "JSON: .* object"), ("{}", "skeleton: Field required")],
)
def test_a_damaged_header_is_an_error(header, message, tmp_path):
    path = write_model(tmp_path / "m.onnx", metadata={"bodyposenet": header})
    with pytest.raises(BodyPoseNetError, match=f"m.onnx: .*header: {message}"):
        onnx.load(path, KNOWN)


def test_the_header_describes_the_model(tmp_path):
    path = write_model(tmp_path / "m.onnx", metadata={"bodyposenet": json.dumps(HEADER)})
    assert onnx.load(path).description == KNOWN


def test_maps_carry_the_sigma_of_the_header(tmp_path):
    header = json.dumps(HEADER | {"heatmap_sigma": 3.5})
    engine = onnx.load(write_model(tmp_path / "m.onnx", metadata={"bodyposenet": header}))
    (maps,) = engine.infer(images(1, 16, 16))
    assert (maps.stride, maps.heatmap_sigma) == (8, 3.5)
    assert engine.description.differences(KNOWN) == ["heatmap_gaussian_sigma"]


def test_a_header_without_sigma_and_stride_means_7_and_8(tmp_path):
    header = json.dumps({key: value for key, value in HEADER.items() if key != "stride"})
    engine = onnx.load(write_model(tmp_path / "m.onnx", metadata={"bodyposenet": header}))
    (maps,) = engine.infer(images(1, 16, 16))
    assert (maps.stride, maps.heatmap_sigma) == (8, 7.0)


@pytest.mark.parametrize(
    ("spec", "sigma"),
    [
        ("dataloader:\n  label_processor_config: {heatmap_gaussian_sigma: 3.5}\n", 3.5),
        ("label_processor_config: {heatmap_gaussian_sigma: 3.5}\ndataloader: {}\n", 3.5),
        ("dataloader: {}\n", 7.0),
        ("", 14.0),
        ("- no: spec\n", 14.0),
        ("dataloader: [1]\n", 14.0),
    ],
)
def test_sigma_comes_from_the_headers_spec_or_the_given_one(tmp_path, spec, sigma):
    header = json.dumps(HEADER | {"spec": spec})
    expected = replace(KNOWN, heatmap_sigma=14.0)
    path = write_model(tmp_path / "m.onnx", metadata={"bodyposenet": header})
    assert onnx.load(path, expected).description.heatmap_sigma == sigma


def test_keys_of_a_later_version_are_ignored(tmp_path, caplog):
    caplog.set_level("INFO")
    (category,) = HEADER["skeleton"]["categories"]
    skeleton = HEADER["skeleton"] | {"categories": [category | {"hands": 2}], "license": "CC0"}
    header = json.dumps(HEADER | {"skeleton": skeleton, "author": "somebody"})
    path = write_model(tmp_path / "m.onnx", metadata={"bodyposenet": header})
    assert onnx.load(path).description == KNOWN
    assert f"{path}: " in caplog.text
    assert all(key in caplog.text for key in ("skeleton.categories.0.hands", "skeleton.license"))


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("stride", 0),
        ("stride", "8"),
        ("heatmap_sigma", 0),
        ("network.stages", 0),
        ("normalization.image_scale", [256, 0, 256]),
        ("normalization.image_offset", [0.5]),
        ("skeleton.categories", []),
        ("skeleton.categories.0.auxiliary_limbs", [["nose", "left_ankle"]]),
        ("skeleton.categories.0.skeleton_edge_names", [["nose", "tail"]]),
    ],
)
def test_a_header_with_a_wrong_value_is_an_error(place, value, tmp_path):
    header = json.loads(json.dumps(HEADER))
    *parents, key = place.split(".")
    block = header
    for parent in parents:
        block = block[int(parent) if parent.isdecimal() else parent]
    block[key] = value
    path = write_model(tmp_path / "m.onnx", metadata={"bodyposenet": json.dumps(header)})
    with pytest.raises(BodyPoseNetError, match=f"header: {place.split('.')[0]}"):
        onnx.load(path, KNOWN)


@RUNTIMES
def test_other_networks_are_refused(runtime, tmp_path):
    path = write_model(tmp_path / "m.onnx", heatmaps="classes:0")
    message = r"body pose network: .*input_1:0 float32 \[\?"
    with pytest.raises(BodyPoseNetError, match=message):
        runtime.load(path, KNOWN)


@RUNTIMES
@pytest.mark.parametrize(
    ("properties", "missing"),
    [
        ({"size": (1, 24, "width")}, "height and width dynamic or both fixed"),
        (
            {"size": (1, "height", 40), "channels_last": False},
            "height and width dynamic or both fixed",
        ),
        ({"dtype": TensorProto.FLOAT16}, "float32 .*uint8"),
        ({"heatmaps": "h:0"}, "an output heatmap_out/BiasAdd:0, one heatmap for each joint"),
    ],
    ids=["one height", "one width", "float16", "another name"],
)
def test_the_error_names_an_unmet_requirement(runtime, properties, missing, tmp_path):
    path = write_model(tmp_path / "m.onnx", **properties)
    with pytest.raises(BodyPoseNetError, match=rf"m\.onnx: .*missing: .*{missing}"):
        runtime.load(path, KNOWN)


def test_the_error_lists_all_unmet_requirements():
    inputs = {"data": TensorSpec("float16", (None, 224, None, 4)), "mask": TensorSpec("bool", (1,))}
    outputs = {"classes": TensorSpec("float32", (None, 1000))}
    with pytest.raises(BodyPoseNetError) as error:
        Signature.read("m.onnx", inputs, outputs)
    for missing in (
        "one input (input_1:0) instead of 2",
        "an output heatmap_out/BiasAdd:0",
        "two outputs, the other one paf_out/BiasAdd:0 or conv2d_transpose_1/BiasAdd:0",
        "float32 outputs of four dimensions",
    ):
        assert missing in error.value.what


def test_openvino_warns_of_a_file_that_is_quantized_for_tensorrt(tmp_path, caplog):
    header = json.dumps(HEADER | {"data_type": "int8-tensorrt"})
    path = write_model(tmp_path / "m.onnx", metadata={"bodyposenet": header})
    assert onnx.load(path).description.data_type == "int8-tensorrt"
    assert not caplog.text
    openvino.load(path)
    assert "quantized for TensorRT" in caplog.text and "--int8_target cpu" in caplog.text


@RUNTIMES
def test_a_fixed_size_with_partial_cells_is_refused(runtime, tmp_path):
    path = write_model(tmp_path / "m.onnx", size=(1, 100, 96))
    with pytest.raises(BodyPoseNetError, match=r"100, 96, 3\].*stride.* 8") as error:
        runtime.load(path, KNOWN)
    assert "multiples of 8" in error.value.remedy


@RUNTIMES
def test_the_error_names_the_size_at_which_a_model_fails(runtime, tmp_path):
    engine = runtime.load(write_model(tmp_path / "m.onnx", works_at=(16, 24)), KNOWN)
    check_maps(engine, images(2, 16, 24))
    with pytest.raises(BodyPoseNetError, match=r"m\.onnx: .* cannot run it on \(1, 16, 32, 3\): ."):
        engine.infer(images(1, 16, 32))


@pytest.mark.parametrize("earlier", [0, 1])
def test_maps_of_another_size_are_refused(earlier, tmp_path):
    path = write_model(tmp_path / "m.onnx", works_at=(16, 24))
    engine = openvino.load(path, KNOWN, threads=1)
    for _ in range(earlier):
        engine.infer(images(1, 16, 24))
    with pytest.raises(BodyPoseNetError, match="for images of 16 x 32 pixels"):
        engine.infer(images(1, 16, 32))


def test_conversion_to_float16_keeps_integers(tmp_path):
    path = write_model(tmp_path / "m.onnx")
    path.write_bytes(to_float16(path.read_bytes()))
    (maps,) = onnx.load(path, KNOWN, threads=1).infer(images(1, 16, 24))
    np.testing.assert_allclose(maps.heatmaps, expected_maps(images(1, 16, 24)[0])[0], atol=1e-2)


@pytest.mark.parametrize("broken", ["inputs of a node", "version of the operators"])
@RUNTIMES
def test_graphs_on_which_openvinos_reader_crashes_or_hangs_are_refused(runtime, broken, tmp_path):
    path = write_model(tmp_path / "m.onnx")
    model = onnx_package.load(path)
    if broken == "inputs of a node":
        del next(node for node in model.graph.node if node.op_type == "Conv").input[:]
    else:
        model.opset_import[0].version = 2**40
    onnx_package.save(model, path)
    with pytest.raises(BodyPoseNetError, match=r"m\.onnx"):
        runtime.load(path, KNOWN)


@RUNTIMES
@pytest.mark.parametrize("content", [b"", b"no model", b"\x08\x0a" * 99])
def test_files_that_are_not_onnx_are_refused(runtime, content, tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(BodyPoseNetError, match=r"m\.onnx: .* cannot read it: ."):
        runtime.load(path, KNOWN)


@RUNTIMES
@pytest.mark.parametrize(
    "size", [(2**31 - 1, "height", "width"), (4096, 16, 16), ("batch", 2**20, 2**20)]
)
def test_huge_fixed_sizes_are_refused(runtime, size, tmp_path):
    metadata = {"bodyposenet": json.dumps(HEADER)}
    path = write_model(tmp_path / "m.onnx", size=size, metadata=metadata)
    with pytest.raises(BodyPoseNetError, match=r"m\.onnx"):
        runtime.load(path)


@RUNTIMES
@pytest.mark.parametrize("text", [b"bodyposenet", b"input_1:0", b"heatmap_out/BiasAdd:0", b"Conv"])
def test_names_that_are_not_utf8_are_an_error(runtime, text, tmp_path):
    path = write_model(tmp_path / "m.onnx", metadata={"bodyposenet": json.dumps(HEADER)})
    content = path.read_bytes()
    assert text in content
    path.write_bytes(content.replace(text, b"\xaa" + text[1:]))
    with pytest.raises(BodyPoseNetError, match=r"m\.onnx: ."):
        runtime.load(path)


def test_an_endless_varint_is_refused_quickly():
    begin = time.monotonic()
    with pytest.raises(BodyPoseNetError, match=r"m\.onnx: not an ONNX file"):
        read_header("m.onnx", b"\xff" * 2_000_000)
    assert time.monotonic() - begin < 5
