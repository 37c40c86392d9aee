"""Progress: what a training says, and that it looks at the device only when something is due."""

import math
import re
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
from bodyposenet.training.progress import Progress
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


def follow(progress, steps, total=2.0, *, waited=0.0, norm=3.0, without_mask=0, skipped=False):
    for step in steps:
        progress.step(
            step, losses(total), 1e-3, samples=8, waited=waited,
            gradient_norm=None if norm is None else torch.tensor(norm), without_mask=without_mask,
            skipped=skipped,
        )  # fmt: skip


@pytest.fixture
def open_progress(tmp_path):
    """Follow a training in a folder: `open_progress(first_step=4, summary_every_n_steps=1)`."""

    def make(first_step=0, **values):
        return Progress(spec(**values), tmp_path, STEPS, first_step, StatusFile(tmp_path))

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


def test_no_step_looks_at_the_device_unless_something_is_due(open_progress):
    """Tensors of the device `meta` hold no values: looking at one is an error."""
    with open_progress(summary_every_n_steps=3) as progress:
        for step in (1, 2):
            progress.step(
                step, losses(1, "meta"), 1e-3, samples=8, waited=0.0,
                gradient_norm=torch.empty((), device="meta"),
            )  # fmt: skip
        with pytest.raises((RuntimeError, NotImplementedError)):
            progress.step(3, losses(1, "meta"), 1e-3, samples=8, waited=0.0, gradient_norm=None)


def test_all_scalars_are_written_when_they_are_due(open_progress, tmp_path):
    with open_progress(summary_every_n_steps=2) as progress:
        follow(progress, range(1, STEPS + 1))
        progress.end_epoch(1)
    events = read_events(tmp_path)
    assert set(events.Tags()["scalars"]) == SCALARS
    assert [event.step for event in events.Scalars("gradient_norm")] == [2, 4]
    assert events.Scalars("total_loss")[0].value == 2.0
    assert events.Scalars("cmap_loss_stage2")[0].value == 2.0
    assert events.Scalars("images_per_s")[1].value > 0


def test_gradients_whose_norm_nobody_took_have_no_scalar(open_progress, tmp_path):
    with open_progress(summary_every_n_steps=1) as progress:
        follow(progress, [1], norm=None)
    assert set(read_events(tmp_path).Tags()["scalars"]) == SCALARS - {"gradient_norm"}


def test_a_resume_within_an_epoch_writes_no_step_twice(open_progress, tmp_path, validation):
    with open_progress(summary_every_n_steps=1) as progress:
        follow(progress, range(1, STEPS + 1))
        progress.end_epoch(1)
        progress.validated(1, validation)
        follow(progress, range(STEPS + 1, STEPS + 4))
    with open_progress(STEPS + 1, summary_every_n_steps=1) as progress:  # two steps are done again
        follow(progress, range(STEPS + 2, 2 * STEPS + 1))
        progress.end_epoch(2)
        progress.validated(2, validation)
    events = read_events(tmp_path)
    for name in SCALARS:
        assert [event.step for event in events.Scalars(name)] == list(range(1, 2 * STEPS + 1))
    for name in ("validation/loss", "validation/AP_drawn"):
        assert [event.step for event in events.Scalars(name)] == [STEPS, 2 * STEPS]
    assert [event.step for event in events.Images("validation/predictions")] == [STEPS, 2 * STEPS]


def test_an_epochs_line_holds_its_means(open_progress, lines):
    with open_progress() as progress:
        for step, total in enumerate((1.0, 2.0, 3.0, 6.0), start=1):
            follow(progress, [step], total)
        progress.end_epoch(1)
        follow(progress, range(5, 9), total=10.0)
        progress.end_epoch(2)
    first, second = [line for line in lines() if "graphical" in line]
    assert first["graphical"]["loss"] == pytest.approx(3.0)
    assert second["graphical"]["loss"] == pytest.approx(10.0)
    assert first["graphical"]["images_per_s"] > 0
    assert first["graphical"]["data_wait_share"] == 0
    assert first["graphical"]["learning_rate"] == 1e-3
    assert (first["epoch"], first["max_epoch"]) == (1, 3)


def test_a_validations_line_holds_the_whole_table(open_progress, lines, validation):
    with open_progress() as progress:
        assert not progress.was_validated(1)
        progress.validated(1, validation)
        assert progress.was_validated(1)
    (line,) = [line for line in lines() if "kpi" in line]
    assert line["kpi"] == {"validation_loss": 0.25, "AP_drawn": validation.ap["drawn"].ap}
    assert line["accuracy"] == {"drawn": validation.ap["drawn"].kpis()}


def test_a_run_begins_with_its_versions(open_progress, lines):
    with open_progress():
        pass
    assert lines()[0]["versions"]["torch"] == torch.__version__


@pytest.mark.parametrize("total", [math.nan, math.inf])
def test_a_loss_that_is_no_number_is_found_when_something_is_due(open_progress, total):
    with open_progress(summary_every_n_steps=3) as progress:
        follow(progress, [1], total)
        follow(progress, [2])
        with pytest.raises(BodyPoseNetError, match=r"the loss is (nan|inf) by step 3"):
            follow(progress, [3])


def test_a_loss_that_is_no_number_does_not_outlive_its_epoch(open_progress):
    with open_progress(summary_every_n_steps=100) as progress:
        follow(progress, [1], math.nan)
        with pytest.raises(BodyPoseNetError, match="the loss is nan"):
            progress.end_epoch(1)


def test_skipped_steps_do_not_count_and_are_told(open_progress, lines, caplog):
    with open_progress(summary_every_n_steps=1) as progress:
        follow(progress, [1, 2], math.inf, skipped=True)
        follow(progress, [3], 2.0)
        follow(progress, [4], 4.0)
        progress.end_epoch(1)
        follow(progress, range(5, 9), math.nan, skipped=True)
        progress.end_epoch(2)
    first, second = [line["graphical"] for line in lines() if "graphical" in line]
    assert first["loss"] == pytest.approx(3.0)
    assert "loss" not in second
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert [int(re.search(r"\d+", line)[0]) for line in told] == [2, 4]


def test_tensorboard_gets_no_infinite_numbers_of_skipped_steps(open_progress, tmp_path):
    with open_progress(summary_every_n_steps=1) as progress:
        follow(progress, [1], math.inf, norm=math.nan, skipped=True)
        follow(progress, [2], 2.0)
    events = read_events(tmp_path)
    for name in ("total_loss", "gradient_norm"):
        assert [event.step for event in events.Scalars(name)] == [2]
    assert [event.step for event in events.Scalars("learning_rate")] == [1, 2]


def test_many_skipped_steps_in_a_row_end_the_training(open_progress):
    with open_progress(summary_every_n_steps=1000) as progress:
        follow(progress, range(1, 50), math.inf, skipped=True)
        follow(progress, [50])
        follow(progress, range(51, 100), math.inf, skipped=True)
        with pytest.raises(BodyPoseNetError, match="50 steps in a row") as caught:
            follow(progress, [100], math.inf, skipped=True)
        assert "--use_amp" in caught.value.remedy


def test_beside_the_first_process_nothing_is_said_but_the_loss_is_checked(caplog, validation):
    caplog.set_level("INFO", "bodyposenet")
    with Progress(
        spec(summary_every_n_steps=2, log_every_n_secs=1e-9), None, 4, 0, None
    ) as progress:
        follow(progress, range(1, 5), without_mask=1)
        progress.end_epoch(1)
        progress.validated(1, validation)
        assert not progress.was_validated(1)
        with pytest.raises(BodyPoseNetError, match="the loss is nan"):
            follow(progress, [5, 6], math.nan)
    assert caplog.text == ""


def test_lines_tell_the_speed_and_waiting_that_is_worth_saying(open_progress, caplog):
    caplog.set_level("INFO", "bodyposenet")
    with open_progress(log_every_n_secs=1e-9) as progress:
        follow(progress, [1])
        assert "step 1/4: loss 2," in caplog.text
        assert "images/s" in caplog.text
        assert "waiting" not in caplog.text
        follow(progress, [2], waited=60.0)
        assert "100% of the time waiting for data" in caplog.text


def test_samples_without_a_mask_file_are_counted_once(open_progress, caplog):
    with open_progress() as progress:
        follow(progress, range(1, 5), without_mask=2)
        progress.end_epoch(1)
        follow(progress, range(5, 9), without_mask=2)
        progress.end_epoch(2)
    assert caplog.text.count("8 samples of the epoch had no mask file") == 1
    assert caplog.text.count("no mask file") == 1
