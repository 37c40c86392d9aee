"""All commands as Python functions, as in a notebook: nothing is printed."""

import logging

import numpy as np
import pytest

import bodyposenet
from bodyposenet.console import logger
from bodyposenet.demo import write_drawn_dataset


@pytest.fixture
def notebook(tmp_path, monkeypatch, write_train_spec):
    """A working folder with a synthetic dataset; no key in the environment, no log handlers."""
    for handler in list(logger.handlers):  # of the command that created the data of the train spec
        logger.removeHandler(handler)
    monkeypatch.setattr(logger, "propagate", True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BPNET_KEY", raising=False)
    write_drawn_dataset(tmp_path, train_images=8, test_images=4, size=64, seed=0)
    return tmp_path


def test_all_commands_run_in_a_notebook(notebook, write_train_spec, capfd, caplog):
    caplog.set_level(logging.INFO, "bodyposenet")
    for mode in ("train", "test"):
        converted = bodyposenet.convert_dataset(
            dataset_spec=notebook / "dataset.json", output_filename=f"records/{mode}", mode=mode,
            generate_masks=True, num_processes=1,
        )  # fmt: skip
        assert converted.done["records"] > 0 and not converted.repaired
    spec = write_train_spec(num_epoch=1, validation_every_n_epoch=1)
    trained = bodyposenet.train(experiment_spec_file=spec, results_dir="trained")
    assert trained.model.is_file() and trained.metrics
    assert "Epoch: [1/1]" in caplog.text

    model = {"model_filename": trained.model, "dataset_spec": notebook / "dataset.json"}
    evaluated = bodyposenet.evaluate(**model, results_dir="evaluated")
    assert 0 <= evaluated.ap <= 1 and all(file.is_file() for file in evaluated.files)

    pruned = bodyposenet.prune(
        model=trained.model, output_file="pruned.tlt", target_macs=0.7, min_num_filters=8
    )
    with pytest.raises(bodyposenet.BodyPoseNetError, match=r"pruned\.tlt"):
        bodyposenet.prune(model=trained.model, output_file=pruned.model, target_macs=0.7)
    exported = bodyposenet.export(
        model=pruned.model, output_file="model.onnx", input_dims=(64, 64, 3)
    )
    assert exported.model.is_file() and exported.data_type == "fp32"

    photo = next((notebook / "test").glob("*.jpg"))
    found = bodyposenet.predict(
        input=photo.parent, model_filename=exported.model, results_dir="found"
    )
    assert found.processed == 4 and (notebook / "found" / "detections.json").is_file()
    with bodyposenet.load(exported.model) as estimator:
        poses = estimator(photo)
    entry = next(entry for entry in found.entries if entry["full_image_path"].endswith(photo.name))
    assert len(poses) == len(entry["scores"])
    np.testing.assert_allclose(poses.scores, entry["scores"], atol=1e-4)
    assert capfd.readouterr() == ("", "")
