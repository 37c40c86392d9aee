"""ProgressLogger: log lines, status.json, TensorBoard; it reads the device only when due."""

import math
import re
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.evaluation import evaluate_poses
from bodyposenet.model.loss import Losses
from bodyposenet.results_folder import StatusFile
from bodyposenet.skeleton import COCO_JOINTS
from bodyposenet.specs.spec_file import SpecFile
from bodyposenet.specs.training import TrainSpec
from bodyposenet.training.progress import ProgressLogger
from bodyposenet.training.validation import ValidationResult

from ..evaluation.scenes import COCO, random_scene, read

STEPS = 4
SCALARS = {
    "cmap_loss_stage1", "cmap_loss_stage2", "paf_loss_stage1", "paf_loss_stage2", "total_loss",
    "learning_rate", "images_per_s", "data_wait_share", "gradient_norm",
}  # fmt: skip


def spec(**values):
    built = TrainSpec.model_construct(num_epoch=3, **values)
    built._file = SpecFile(Path("train.yaml"), "num_epoch: 3\n")
    return built


def losses(total, device="cpu"):
    parts = [torch.full((), 1.0, device=device), torch.full((), 2.0, device=device)]
    return Losses(torch.full((), float(total), device=device), parts, parts)


def log_steps(
    progress, steps, total=2.0, *, data_time=0.0, norm=3.0, without_mask=0, skipped=False
):
    for step in steps:
        progress.log_step(
            step, losses(total), 1e-3, samples=8, data_time=data_time,
            gradient_norm=None if norm is None else torch.tensor(norm), without_mask=without_mask,
            skipped=skipped,
        )  # fmt: skip


@pytest.fixture
def open_progress(tmp_path):
    """Open a logger: `open_progress(first_step=4, summary_every_n_steps=1)`."""

    def make(first_step=0, **values):
        return ProgressLogger(spec(**values), tmp_path, STEPS, first_step, StatusFile(tmp_path))

    return make


@pytest.fixture
def lines(tmp_path):
    return StatusFile(tmp_path).lines


@pytest.fixture(scope="module")
def validation():
    annotations, results = random_scene(np.random.default_rng(0), 10)
    ap = evaluate_poses(results, read(annotations), COCO_JOINTS, COCO)
    return ValidationResult(0.25, {"drawn": ap}, np.zeros((16, 32, 3), np.uint8))


def read_events(folder):
    events = EventAccumulator(str(folder / "events"))
    events.Reload()
    return events


def test_losses_are_read_from_the_device_only_when_due(open_progress):
    """Tensors on the device `meta` have no values: reading one is an error."""
    with open_progress(summary_every_n_steps=3) as progress:
        for step in (1, 2):
            progress.log_step(
                step, losses(1, "meta"), 1e-3, samples=8, data_time=0.0,
                gradient_norm=torch.empty((), device="meta"),
            )  # fmt: skip
        with pytest.raises((RuntimeError, NotImplementedError)):
            progress.log_step(
                3, losses(1, "meta"), 1e-3, samples=8, data_time=0.0, gradient_norm=None
            )


def test_all_scalars_are_written_when_they_are_due(open_progress, tmp_path):
    with open_progress(summary_every_n_steps=2) as progress:
        log_steps(progress, range(1, STEPS + 1))
        progress.log_epoch(1)
    events = read_events(tmp_path)
    assert set(events.Tags()["scalars"]) == SCALARS
    assert [event.step for event in events.Scalars("gradient_norm")] == [2, 4]
    assert events.Scalars("total_loss")[0].value == 2.0
    assert events.Scalars("cmap_loss_stage2")[0].value == 2.0
    assert events.Scalars("images_per_s")[1].value > 0


def test_without_a_gradient_norm_it_has_no_scalar(open_progress, tmp_path):
    with open_progress(summary_every_n_steps=1) as progress:
        log_steps(progress, [1], norm=None)
    assert set(read_events(tmp_path).Tags()["scalars"]) == SCALARS - {"gradient_norm"}


def test_a_resume_within_an_epoch_writes_no_step_twice(open_progress, tmp_path, validation):
    with open_progress(summary_every_n_steps=1) as progress:
        log_steps(progress, range(1, STEPS + 1))
        progress.log_epoch(1)
        progress.log_validation(1, validation)
        log_steps(progress, range(STEPS + 1, STEPS + 4))
    time.sleep(1)  # event files are read in the order of their names, which begin with the second
    with open_progress(STEPS + 1, summary_every_n_steps=1) as progress:  # two steps are repeated
        log_steps(progress, range(STEPS + 2, 2 * STEPS + 1))
        progress.log_epoch(2)
        progress.log_validation(2, validation)
    events = read_events(tmp_path)
    for name in SCALARS:
        assert [event.step for event in events.Scalars(name)] == list(range(1, 2 * STEPS + 1))
    for name in ("validation/loss", "validation/AP_drawn"):
        assert [event.step for event in events.Scalars(name)] == [STEPS, 2 * STEPS]
    assert [event.step for event in events.Images("validation/predictions")] == [STEPS, 2 * STEPS]


def test_the_status_line_of_an_epoch_has_its_means(open_progress, lines):
    with open_progress() as progress:
        for step, total in enumerate((1.0, 2.0, 3.0, 6.0), start=1):
            log_steps(progress, [step], total)
        progress.log_epoch(1)
        log_steps(progress, range(5, 9), total=10.0)
        progress.log_epoch(2)
    first, second = [line for line in lines() if "graphical" in line]
    assert first["graphical"]["loss"] == pytest.approx(3.0)
    assert second["graphical"]["loss"] == pytest.approx(10.0)
    assert first["graphical"]["images_per_s"] > 0
    assert first["graphical"]["data_wait_share"] == 0
    assert first["graphical"]["learning_rate"] == 1e-3
    assert (first["epoch"], first["max_epoch"]) == (1, 3)


def test_the_status_line_of_a_validation_has_all_metrics(open_progress, lines, validation):
    with open_progress() as progress:
        assert not progress.was_validated(1)
        progress.log_validation(1, validation)
        assert progress.was_validated(1)
    (line,) = [line for line in lines() if "kpi" in line]
    assert line["kpi"] == {"validation_loss": 0.25, "AP_drawn": validation.ap["drawn"].ap}
    assert line["accuracy"] == {"drawn": validation.ap["drawn"].kpis()}


def test_a_run_begins_with_its_versions(open_progress, lines):
    with open_progress():
        pass
    assert lines()[0]["versions"]["torch"] == torch.__version__


@pytest.mark.parametrize("total", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_is_an_error_when_it_is_read(open_progress, total):
    with open_progress(summary_every_n_steps=3) as progress:
        log_steps(progress, [1], total)
        log_steps(progress, [2])
        with pytest.raises(BodyPoseNetError, match=r"the loss is (nan|inf) .*step 3"):
            log_steps(progress, [3])


def test_a_loss_that_is_not_finite_is_an_error_at_the_end_of_the_epoch(open_progress):
    with open_progress(summary_every_n_steps=100) as progress:
        log_steps(progress, [1], math.nan)
        with pytest.raises(BodyPoseNetError, match="the loss is nan"):
            progress.log_epoch(1)


def test_skipped_steps_do_not_count_and_are_logged(open_progress, lines, caplog):
    with open_progress(summary_every_n_steps=1) as progress:
        log_steps(progress, [1, 2], math.inf, skipped=True)
        log_steps(progress, [3], 2.0)
        log_steps(progress, [4], 4.0)
        progress.log_epoch(1)
        log_steps(progress, range(5, 9), math.nan, skipped=True)
        progress.log_epoch(2)
    first, second = [line["graphical"] for line in lines() if "graphical" in line]
    assert first["loss"] == pytest.approx(3.0)
    assert "loss" not in second
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert [int(re.search(r"\d+", line)[0]) for line in warnings] == [2, 4]


def test_tensorboard_gets_finite_values_only(open_progress, tmp_path):
    with open_progress(summary_every_n_steps=1) as progress:
        log_steps(progress, [1], math.inf, norm=math.nan, skipped=True)
        log_steps(progress, [2], 2.0)
    events = read_events(tmp_path)
    for name in ("total_loss", "gradient_norm"):
        assert [event.step for event in events.Scalars(name)] == [2]
    assert [event.step for event in events.Scalars("learning_rate")] == [1, 2]


def test_many_skipped_steps_in_a_row_end_the_training(open_progress):
    with open_progress(summary_every_n_steps=1000) as progress:
        log_steps(progress, range(1, 50), math.inf, skipped=True)
        log_steps(progress, [50])
        log_steps(progress, range(51, 100), math.inf, skipped=True)
        with pytest.raises(BodyPoseNetError, match="50 steps in a row") as caught:
            log_steps(progress, [100], math.inf, skipped=True)
        assert "--use_amp" in caught.value.remedy


def test_other_ranks_log_nothing_but_check_the_loss(caplog, validation):
    caplog.set_level("INFO", "bodyposenet")
    with ProgressLogger(
        spec(summary_every_n_steps=2, log_every_n_secs=1e-9), None, 4, 0, None
    ) as progress:
        log_steps(progress, range(1, 5), without_mask=1)
        progress.log_epoch(1)
        progress.log_validation(1, validation)
        assert not progress.was_validated(1)
        with pytest.raises(BodyPoseNetError, match="the loss is nan"):
            log_steps(progress, [5, 6], math.nan)
    assert caplog.text == ""


def test_step_lines_have_the_speed_and_a_considerable_wait_for_data(open_progress, caplog):
    caplog.set_level("INFO", "bodyposenet")
    with open_progress(log_every_n_secs=1e-9) as progress:
        log_steps(progress, [1])
        assert "Epoch: [1/3]  [1/4]  loss: 2  lr: 0.001" in caplog.text
        assert "img/s: " in caplog.text
        assert "waiting" not in caplog.text
        log_steps(progress, [2], data_time=60.0)
        assert "waiting for data: 100%" in caplog.text


def test_samples_without_a_mask_file_are_counted_once(open_progress, caplog):
    with open_progress() as progress:
        log_steps(progress, range(1, 5), without_mask=2)
        progress.log_epoch(1)
        log_steps(progress, range(5, 9), without_mask=2)
        progress.log_epoch(2)
    assert caplog.text.count("8 samples of this epoch: no mask file") == 1
    assert caplog.text.count("no mask file") == 1
