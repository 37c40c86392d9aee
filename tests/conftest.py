"""Fixtures of all tests: synthetic data, trained models, and the command line."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import settings

# Tests run on every core at once, each on one thread. Trainings in processes that a test starts are
# bit-identical to those in its own process only with the same number of threads.
os.environ["OMP_NUM_THREADS"] = "1"

# No time limit per example: it would fail on a busy machine.
settings.register_profile("bodyposenet", deadline=None)
settings.load_profile("bodyposenet")

# Turns off the telemetry of OpenVINO in tests that import it directly.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

SHARED = Path(__file__).parents[2] / "shared"


@dataclass(frozen=True)
class DrawnFiles:
    """A synthetic dataset on disk.

    Args:
        spec: Its dataset spec.
        folder: Folder of all its files.
    """

    spec: Path
    folder: Path


@dataclass(frozen=True)
class CommandResult:
    """Exit code and output of a `bpnet` command."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real photos and weights beside the repository."""
    if not SHARED.is_dir():
        pytest.skip(f"no folder {SHARED} with real photos and weights")
    return SHARED


@pytest.fixture(scope="session")
def drawn_dataset(tmp_path_factory: pytest.TempPathFactory) -> DrawnFiles:
    """12 training and 6 test images of synthetic people, 128 x 128; shared, so only for reading."""
    from bodyposenet.demo import write_drawn_dataset

    folder = tmp_path_factory.mktemp("drawn")
    spec = write_drawn_dataset(folder, train_images=12, test_images=6, size=128, seed=1)
    return DrawnFiles(spec, folder)


@pytest.fixture
def run_bpnet(capsys: pytest.CaptureFixture[str]) -> Callable[..., CommandResult]:
    """Run `bpnet` in this process: `run_bpnet("train", "-e", spec, ...)`."""
    from bodyposenet.cli import main

    def run(*argv: object) -> CommandResult:
        try:
            code = main([str(argument) for argument in argv])
        except SystemExit as end:  # --help
            code = int(end.code or 0)
        captured = capsys.readouterr()
        return CommandResult(code, captured.out, captured.err)

    return run


@pytest.fixture(autouse=True)
def quiet_process() -> Iterator[None]:
    """Use one thread of torch, and restore the logger before and after each test.

    Log handlers of a command keep the standard error of its test. Commands in fixtures of a session
    change the logger, too.
    """
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    _restore_logger()
    yield
    _restore_logger()


def _restore_logger() -> None:
    logger = logging.getLogger("bodyposenet")
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    logger.setLevel(logging.NOTSET)
    logger.propagate = True


@pytest.fixture(scope="session")
def converted(drawn_dataset: DrawnFiles) -> Path:
    """The folder of the synthetic dataset, with training and test records and masks."""
    from bodyposenet.cli import main

    for mode in ("train", "test"):
        prefix = drawn_dataset.folder / "records" / mode
        convert = ["dataset_convert", "-d", str(drawn_dataset.spec), "-o", str(prefix), "-m", mode]
        assert main([*convert, "--generate_masks", "--num_processes", "1"]) == 0
    return drawn_dataset.folder


@pytest.fixture(scope="session")
def exported(drawn_dataset: DrawnFiles, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a trained `model.tlt` (the key is "key"), its `model.onnx` and `infer.yaml`."""
    from bodyposenet.cli import main
    from bodyposenet.model.checkpoint import save_model

    from .overfitting import overfit

    folder = tmp_path_factory.mktemp("exported")
    save_model(folder / "model.tlt", overfit(drawn_dataset.spec), key="key")
    (folder / "infer.yaml").write_text("input_shape: [128, 128]\n")
    assert main(["export", "-m", str(folder / "model.tlt"), "-k", "key", "-d", "96,128,3"]) == 0
    return folder


@pytest.fixture
def write_train_spec(converted: Path, tmp_path: Path) -> Callable[..., Path]:
    """Write the train spec of a tiny network.

    Keyword arguments change its values: `write_train_spec(num_epoch=3, **{"model.stages": 1})`.
    """

    def write(**changes: Any) -> Path:
        spec = deepcopy(_tiny_spec(converted))
        for place, value in changes.items():
            *parents, key = place.split(".")
            block = spec
            for parent in parents:
                block = block[parent]
            block[key] = value
        path = tmp_path / "train.yaml"
        path.write_text(yaml.safe_dump(spec))
        return path

    return write


def _tiny_spec(folder: Path) -> dict[str, Any]:
    schedule = {
        "__class_name__": "SoftstartAnnealingLearningRateSchedule",
        "base_learning_rate": 1e-3,
        "min_learning_rate": 1e-5,
    }
    return {
        "__class_name__": "BpNetTrainer",
        "num_epoch": 2,
        "checkpoint_n_epoch": 1,
        "validation_every_n_epoch": 2,
        "summary_every_n_steps": 1,
        "dataloader": {
            "batch_size": 4,
            "workers": 0,
            "image_config": {"image_dims": {"height": 64, "width": 64}},
            "dataset_config": {
                "root_data_path": str(folder),
                "train_records_folder_path": str(folder / "records"),
                "train_records_path": ["train-fold-000-of-001"],
                "val_records_folder_path": str(folder / "records"),
                "val_records_path": ["test-fold-000-of-001"],
                "dataset_specs": {"drawn": str(folder / "dataset.json")},
            },
            "augmentation_config": {
                "spatial_aug_params": {"flip_lr_prob": 0.5, "rotate_deg_max": 20.0}
            },
        },
        "model": {
            "backbone_attributes": {"architecture": "lightweight_openpose", "width": 0.125},
            "stages": 2,
            "kernel_regularization_factor": 1e-4,
        },
        "optimizer": {"__class_name__": "AdamW", "learning_rate_schedule": schedule},
    }
