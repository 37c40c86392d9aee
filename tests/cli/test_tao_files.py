"""Model files and file names of TAO 5 in every command, as in its notebook."""

import json

import pytest

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.inference.engines import onnx
from bodyposenet.inference.models import open_engine
from bodyposenet.model.checkpoint import load_model, save_model
from bodyposenet.specs.inference import InferenceSpec

from ..model.tao_keras_models import make_model, write_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a model as `tao.hdf5` (TAO 5) and `model.tlt` (the key is "key")."""
    folder = tmp_path_factory.mktemp("tao")
    network = load_model(write_model(folder / "tao.hdf5", make_model()))
    save_model(folder / "model.tlt", network, key="key")
    (folder / "infer.yaml").write_text("input_shape: [64, 64]\nheatmap_threshold: 0.5\n")
    return folder


@pytest.fixture
def infer(run_bpnet, folder, drawn_dataset, tmp_path):
    """Run inference on the synthetic test images: `infer("x.hdf5")` -> (result, entries)."""

    def run(model, *flags):
        result = run_bpnet(
            "inference", "-i", folder / "infer.yaml", "-m", folder / model, *flags,
            "--input", drawn_dataset.folder / "test", "-r", tmp_path,
        )  # fmt: skip
        written = tmp_path / "detections.json"
        return result, json.loads(written.read_text())["images"] if result.code == 0 else None

    return run


def test_hdf5_and_tlt_model_give_the_same_poses(infer):
    result, hdf5_entries = infer("tao.hdf5")
    assert result.code == 0, result.err
    result, tlt_entries = infer("model.tlt", "-k", "key")
    assert result.code == 0, result.err
    assert hdf5_entries == tlt_entries


def test_train_spec_sets_the_normalization_of_a_tao_model(folder, write_train_spec):
    """A file of TAO does not contain the normalization and the sigma of the heatmaps."""
    spec = write_train_spec(
        **{
            "dataloader.normalization_params": {"image_scale": [128.0] * 3},
            "dataloader.label_processor_config": {"heatmap_gaussian_sigma": 5.0},
        }
    )
    spec = InferenceSpec(train_spec=str(spec))
    engine = open_engine(spec, str(folder / "tao.hdf5"))
    assert engine.description.image_scale == (128.0, 128.0, 128.0)
    assert engine.description.heatmap_sigma == 5.0
    usual = open_engine(InferenceSpec(), str(folder / "tao.hdf5")).description
    assert (usual.image_scale, usual.heatmap_sigma) == ((256.0, 256.0, 256.0), 7.0)
    with pytest.raises(BodyPoseNetError, match="differ in image_scale"):
        open_engine(spec, str(folder / "model.tlt"), "key")  # which contains them


def test_hdf5_name_opens_the_tlt_file(infer, folder):
    """TAO's train writes bpnet_model.hdf5, the name in the notebook; this package writes .tlt."""
    result, images = infer("model.hdf5", "-k", "key")
    assert result.code == 0, result.err
    assert f"using {folder / 'model.tlt'}" in result.err
    assert images


def test_evaluate_without_the_key_is_an_error(run_bpnet, folder, drawn_dataset, tmp_path):
    model = folder / "model.hdf5"
    result = run_bpnet("evaluate", "-m", model, "-d", drawn_dataset.spec, "-r", tmp_path)
    assert result.code == 2
    assert [line for line in result.err.splitlines() if "-k" in line]
    assert "model.tlt: " in result.err


def test_evaluate_reads_tao_models(run_bpnet, folder, drawn_dataset, tmp_path):
    command = ("evaluate", "-i", folder / "infer.yaml", "-m", folder / "tao.hdf5")
    result = run_bpnet(*command, "-d", drawn_dataset.spec, "-r", tmp_path)
    assert result.code == 0, result.err
    assert (tmp_path / "results.csv").exists()


def test_pruned_tao_model_can_be_retrained(run_bpnet, folder, write_train_spec, tmp_path):
    """`prune -o x.hdf5`, then a train spec that names it with load_graph, as in the notebook."""
    pruned = tmp_path / "bpnet_model.pruned-0.9.hdf5"
    result = run_bpnet(
        "prune", "-m", folder / "tao.hdf5", "-o", pruned, "-eq", "union", "-pth", 0.9, "-nf", 8
    )
    assert result.code == 0, result.err
    assert str(pruned) in result.out
    assert ".tlt" in result.err  # the log names the format of the file
    out_channels = load_model(pruned).out_channels()
    assert sum(out_channels.values()) < sum(load_model(folder / "tao.hdf5").out_channels().values())
    spec = write_train_spec(
        num_epoch=1, validation_every_n_epoch=5, pretrained_weights=str(pruned), load_graph=True,
        model={"stages": 3}, inference_spec=str(folder / "infer.yaml"),
    )  # fmt: skip
    result = run_bpnet("train", "-e", spec, "-r", tmp_path / "retrain")
    assert result.code == 0, result.err
    assert load_model(tmp_path / "retrain" / "bpnet_model.tlt").out_channels() == out_channels


def test_tao_model_as_pretrained_weights(run_bpnet, folder, write_train_spec, tmp_path):
    spec = write_train_spec(
        num_epoch=1, validation_every_n_epoch=5, load_graph=True,
        pretrained_weights=str(folder / "tao.hdf5"),
    )  # fmt: skip
    result = run_bpnet("train", "-e", spec, "-r", tmp_path)
    assert result.code == 0, result.err
    expected = load_model(folder / "tao.hdf5").out_channels()
    assert load_model(tmp_path / "bpnet_model.tlt").out_channels() == expected


def test_export_reads_tao_models(run_bpnet, folder, tmp_path):
    output = tmp_path / "m.onnx"
    result = run_bpnet("export", "-m", folder / "tao.hdf5", "-o", output, "-d", "64,64,3")
    assert result.code == 0, result.err  # the maps were compared
    assert onnx.load(output).description.skeleton.name == "bpnet_18_joints"
