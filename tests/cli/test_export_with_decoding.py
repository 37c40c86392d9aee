"""`bpnet export --with_decoding`: outputs, excluded options, and errors of other commands."""

import json

import numpy as np
import onnx
import pytest

import bodyposenet
from bodyposenet.demo import draw_scene
from bodyposenet.exporting.decoding_graph import DecodingGraphOptions
from bodyposenet.exporting.decoding_verification import compare_decoding
from bodyposenet.inference.models import open_engine
from bodyposenet.specs.inference import InferenceSpec
from tests.exporting.decoding_maps import onnx_session


@pytest.fixture
def export(run_bpnet, exported, tmp_path, monkeypatch):
    """Run `bpnet export --with_decoding` on the trained model; its ONNX file is reused."""
    monkeypatch.setattr(
        "bodyposenet.exporting.onnx.export_onnx",
        lambda *_: (exported / "model.onnx").read_bytes(),
    )

    def run(*flags):
        model = ("-m", exported / "model.tlt", "-k", "key", "-o", tmp_path / "m.onnx")
        return run_bpnet("export", *model, "-d", "128,128,3", "--with_decoding", *flags)

    return run


def test_the_file_returns_the_peaks_and_scores_of_the_decoder(export, exported, tmp_path):
    assert export("--max_peaks", "20").code == 0
    content = (tmp_path / "m.onnx").read_bytes()
    (entry,) = onnx.load_model_from_string(content).metadata_props
    assert json.loads(entry.value)["decoding"]["max_peaks"] == 20
    engine = open_engine(InferenceSpec(), str(exported / "model.onnx"))
    pixels = np.stack([draw_scene(np.random.default_rng(5), 128, 128)[0]])
    inputs = pixels / np.float32(256) - np.float32(0.5)
    (peaks,), (paf_scores,) = onnx_session(content).run(None, {"input_1:0": inputs})
    options = DecodingGraphOptions(max_peaks=20)
    total, same = compare_decoding(
        engine.infer(pixels)[0], engine.skeleton, peaks, paf_scores, options, pixels=1e-3
    )
    assert total > 20
    assert same >= 0.98 * total


@pytest.mark.parametrize(
    "flags",
    [
        ("--sdk_compatible_model",),
        ("--engine_file", "m.engine"),
    ],
)
def test_options_for_programs_that_decode_maps_are_rejected(export, tmp_path, monkeypatch, flags):
    monkeypatch.setattr("bodyposenet.exporting.onnx.export_onnx", None)  # cannot be called
    monkeypatch.chdir(tmp_path)
    done = export(*flags)
    assert done.code == 2
    assert flags[0] in done.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("is_static", [False, True])
def test_the_bundle_has_files_for_tensorrt_if_the_sizes_are_static(export, tmp_path, is_static):
    static = ("--static_batch_size", "2", "--static_input_dims") if is_static else ()
    bundle = tmp_path / "bundle"
    assert export("--deployment_bundle", bundle, "--max_people", "3", *static).code == 0
    signature = json.loads((bundle / "signature.json").read_text())
    assert signature["skeleton"]["max_people"] == 3
    assert (bundle / "model.onnx").read_bytes() == (tmp_path / "m.onnx").read_bytes()
    for file in ("trtexec.sh", "deepstream/nvinfer.txt"):
        assert (bundle / file).exists() is is_static
    assert ("--static_input_dims" in (bundle / "README.md").read_text()) is not is_static


@pytest.mark.parametrize("command", ["inference", "evaluate"])
def test_other_commands_name_the_option_that_their_model_was_exported_with(
    export, run_bpnet, drawn_dataset, tmp_path, command
):
    assert export().code == 0
    flags = {
        "inference": ("--input", drawn_dataset.folder / "test"),
        "evaluate": ("-d", drawn_dataset.spec),
    }
    done = run_bpnet(command, "-m", tmp_path / "m.onnx", *flags[command], "-r", tmp_path / "r")
    assert done.code == 2
    for fact in ("m.onnx", "--with_decoding", "peaks", "examples/clients"):
        assert fact in done.err


@pytest.mark.parametrize("engine", ["onnx", "openvino"])
def test_load_names_the_option_that_the_model_was_exported_with(export, tmp_path, engine):
    assert export().code == 0
    with pytest.raises(bodyposenet.BodyPoseNetError, match=r"m\.onnx: .*--with_decoding") as error:
        bodyposenet.load(tmp_path / "m.onnx", engine=engine)
    assert "examples/clients" in error.value.remedy
