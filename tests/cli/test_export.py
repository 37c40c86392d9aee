"""`bpnet export`, from the command line: the file, what is in it, and inference without torch."""

import json
import subprocess
import sys

import numpy as np
import onnx
import pytest

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.exporting import verification
from bodyposenet.model.checkpoint import read_model
from bodyposenet.types import Maps

WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
from bodyposenet.cli import main
raise SystemExit(main(sys.argv[1:]) or "bodyposenet.model" in sys.modules)
"""


def sides(tensor):
    return tensor.type.tensor_type.shape.dim


def test_the_tensors_have_taos_names_and_free_sizes(exported):
    model = onnx.load(str(exported / "model.onnx"))
    onnx.checker.check_model(model, full_check=True)
    shapes = {
        tensor.name: [side.dim_param or side.dim_value for side in sides(tensor)]
        for tensor in (*model.graph.input, *model.graph.output)
    }
    assert shapes == {
        "input_1:0": ["batch", "8*rows", "8*columns", 3],
        "paf_out/BiasAdd:0": ["batch", "rows", "columns", 38],
        "heatmap_out/BiasAdd:0": ["batch", "rows", "columns", 19],
    }
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}


def test_the_header_is_the_models_and_nothing_of_the_machine_is_told(exported):
    content = (exported / "model.onnx").read_bytes()
    (prop,) = onnx.load_model_from_string(content).metadata_props
    assert prop.key == "bodyposenet"
    assert json.loads(prop.value) == read_model(exported / "model.tlt", "key")[0]
    assert b"File " not in content
    assert b".py" not in content


def test_inference_and_evaluation_need_no_torch(exported, drawn_dataset, tmp_path):
    folder = drawn_dataset.folder / "test"
    run = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, "inference", "-i", str(exported / "infer.yaml"),
         "-m", str(exported / "model.onnx"), "--input_type", "dir", "--input", str(folder),
         "-r", str(tmp_path), "--dump_visualizations"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    document = json.loads((tmp_path / "detections.json").read_text())
    assert sum(len(image["keypoints"]) for image in document["images"]) >= len(document["images"])


def test_evaluate_takes_the_file(run_bpnet, exported, drawn_dataset, tmp_path):
    done = run_bpnet(
        "evaluate", "-i", exported / "infer.yaml", "-m", exported / "model.onnx",
        "-d", drawn_dataset.spec, "-r", tmp_path, "--engine", "onnx", "--threads", 1,
    )  # fmt: skip
    assert done.code == 0
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["kpi"]["AP_0.50:0.95_all"] > 0.3


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("-t", "uff"), "--backend uff"),
        (("-d", "96,128,1"), "--input_dims 96,128,1: 1 channels"),
        (("-d", "96,128,3", "-i", "channels_first"), "96 channels"),
        (("-o", "model.etlt"), "only .onnx files are written"),
        (("-k", "wrong"), "wrong key"),
    ],
)
def test_mistakes_are_told_before_any_work(run_bpnet, exported, tmp_path, flags, message):
    done = run_bpnet(
        "export", "-m", exported / "model.tlt", "-k", "key", "-o", tmp_path / "m.onnx",
        "-r", tmp_path, *flags,
    )  # fmt: skip
    assert done.code == 2
    assert message in done.err
    assert not (tmp_path / "m.onnx").exists()


def test_a_train_spec_must_agree(run_bpnet, exported, write_train_spec, tmp_path):
    spec = write_train_spec(**{"dataloader.normalization_params": {"image_scale": [255.0] * 3}})
    done = run_bpnet(
        "export", "-m", exported / "model.tlt", "-k", "key", "-e", spec, "-r", tmp_path,
        "-o", tmp_path / "m.onnx",
    )  # fmt: skip
    assert done.code == 2
    assert "differ in image_scale" in done.err


@pytest.mark.parametrize("dims", ["96,128", "a,b,c", "0,8,3", "8,8,3,"])
def test_dimensions_are_three_sizes(run_bpnet, dims):
    done = run_bpnet("export", "-m", "m.tlt", "-d", dims)
    assert done.code == 2
    assert f"argument -d/--input_dims: {dims}: not three sizes" in done.err


class ShiftedEngine:
    """Stands for an export gone wrong: adds something to every map."""

    def __init__(self, engine, shift):
        self.engine, self.shift = engine, np.float32(shift)

    def infer(self, images, stage=None):
        found = self.engine.infer(images, stage)
        return [Maps(maps.heatmaps + self.shift, maps.pafs + self.shift) for maps in found]


@pytest.mark.parametrize(
    ("shift", "data_type", "right"),
    [(0, "fp32", True), (1e-2, "fp32", False), (1e-2, "fp16", True), (np.nan, "fp16", False)],
)
def test_a_file_that_differs_from_the_network_is_not_written(exported, shift, data_type, right):
    from bodyposenet.runtime.pytorch import CPU, load

    network = load(exported / "model.tlt", "key", CPU)
    comparisons = verification.compare(network, ShiftedEngine(network, shift), [(64, 96)])
    if right:
        verification.check(comparisons, data_type)
        return
    with pytest.raises(BodyPoseNetError, match="maps are not the network's"):
        verification.check(comparisons, data_type)


def test_a_wrong_export_leaves_no_file(run_bpnet, exported, tmp_path, monkeypatch):
    monkeypatch.setattr(verification, "LARGEST_ERRORS", {"fp32": 0.0})
    monkeypatch.setattr(
        "bodyposenet.exporting.onnx.export_onnx",
        lambda *_, **__: (exported / "model.onnx").read_bytes(),
    )
    done = run_bpnet("export", "-m", exported / "model.tlt", "-k", "key", "-o", tmp_path / "m.onnx")
    assert done.code == 2
    assert "no file is written" in done.err
    assert list(tmp_path.iterdir()) == [tmp_path / "status.json"]
