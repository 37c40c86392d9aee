"""write_training_report: a training on one page, from what status.json tells of it."""

import numpy as np
import pytest

from bodyposenet.evaluation import METRICS
from bodyposenet.reporting.training_history import TrainingHistory
from bodyposenet.reporting.training_report import write_training_report
from bodyposenet.results_folder import StatusFile

from .pages import Page

CURVES = ["Loss", "Accuracy", "Learning rate", "Speed", "Waiting for data"]


class Trainer:
    """Writes the lines of a training."""

    def __init__(self, folder):
        self.folder = folder
        self.status = StatusFile(folder)

    def start(self):
        self.status.write("STARTED")
        self.status.write("RUNNING", "training", versions={"torch": "2.13"})

    def train(self, *epochs, loss=1.0):
        for epoch in epochs:
            figures = {"loss": loss, "learning_rate": 0.1, "images_per_s": 50.0}
            self.status.write(
                "RUNNING", epoch=epoch, max_epoch=9, graphical=figures | {"data_wait_share": 0.01}
            )

    def validate(self, epoch, ap=0.5, dataset="drawn"):
        self.status.write(
            "RUNNING", "validation", validated_epoch=epoch,
            kpi={"validation_loss": 2.0, f"AP_{dataset}": ap},
            accuracy={dataset: {metric.name: ap for metric in METRICS}},
        )  # fmt: skip

    def history(self):
        return TrainingHistory.read(self.status.lines())

    def page(self, spec="num_epoch: 9\n", picture=None):
        return Page(write_training_report(self.folder, spec, self.status, picture))


@pytest.fixture
def trainer(tmp_path):
    trainer = Trainer(tmp_path / "a<b>")
    trainer.start()
    return trainer


def test_a_training_on_one_page(trainer):
    trainer.train(1, 2)
    trainer.validate(2, 0.75)
    page = trainer.page(picture=np.full((64, 160, 3), 77, np.uint8))
    assert page.plots == CURVES
    assert "2 of 9" in page.text
    assert page.text.count("0.750") == 1 + len(METRICS)
    assert "torch 2.13" in page.text
    assert "num_epoch: 9" in page.text
    assert "a<b>" in page.text
    assert page.pictures[0].shape == (64, 160, 3)


def test_without_validation(trainer):
    trainer.train(1)
    page = trainer.page()
    assert page.plots == [name for name in CURVES if name != "Accuracy"]
    assert "There was no validation." in page.text
    assert page.pictures == []


def test_before_the_first_epoch(trainer):
    page = trainer.page()
    assert page.plots == []
    assert "No epoch is finished yet." in page.text


def test_without_an_ap(trainer):
    trainer.train(1)
    trainer.status.write("RUNNING", validated_epoch=1, kpi={"validation_loss": 2.0})
    assert "The AP was not measured" in trainer.page().text


def test_where_nothing_could_be_measured(trainer):
    trainer.train(1)
    trainer.validate(1, -1.0)
    page = trainer.page()
    assert "Accuracy" not in page.plots
    assert "AP on drawn–" in page.text


def test_names_and_specs_of_others_are_text_and_a_better_ap_is_named(trainer):
    name = r"<script>$\x$"
    trainer.train(1)
    trainer.validate(1, 0.8, dataset=name)
    trainer.train(2)
    trainer.validate(2, 0.5, dataset=name)
    page = trainer.page(spec="# </pre><script>alert(1)</script>\n")
    assert f"AP on {name}0.500 (epoch 1: 0.800)" in page.text
    assert "# </pre><script>alert(1)</script>" in page.text


def test_epochs_that_are_done_again_count_once(trainer):
    trainer.train(1, 2, 3, 4, loss=1.0)
    trainer.validate(4)
    trainer.start()
    trainer.train(3, loss=5.0)
    history = trainer.history()
    assert history.reported("loss") == {1: 1.0, 2: 1.0, 3: 5.0}
    assert history.validations == {}
    assert [run.epochs for run in history.runs] == [[1, 2, 3, 4], [3]]
    assert [run.status for run in history.runs] == ["RUNNING", "RUNNING"]
    page = trainer.page()
    assert "cut off" in page.text
    assert "wrote this page" in page.text


def test_an_earlier_training_in_the_same_folder_is_forgotten(trainer):
    trainer.train(*range(1, 8), loss=1.0)
    trainer.validate(5, dataset="old")
    trainer.start()
    trainer.train(1, loss=2.0)
    assert trainer.history().reported("loss") == {1: 2.0}
    assert trainer.history().datasets() == []


def test_a_validation_that_was_made_up_for_counts(trainer):
    trainer.train(1, 2)
    trainer.start()
    trainer.validate(2, 0.5)
    trainer.train(3)
    assert trainer.history().validated("AP_drawn") == {2: 0.5}


def test_lines_that_are_broken_or_of_other_tasks_say_nothing(trainer):
    path = trainer.folder / "status.json"
    broken = ['{"epoch": 3, "max_', "[1, 2]", "7", '{"epoch": "x", "graphical": {"loss": 1}}']
    dated = '{"date": "13/45/2026", "time": "x", "status": "RUNNING"}'
    path.write_text("\n".join([*broken, dated, path.read_text()]))
    trainer.train(1)
    with StatusFile(trainer.folder) as status:
        status.write("RUNNING", "evaluation", kpi={"AP_0.5": 0.1})
    history = trainer.history()
    assert list(history.epochs) == [1]
    assert history.validations == {}
    assert len(history.runs) == 1


def test_a_long_training_in_many_runs(trainer):
    for epoch in range(1, 40):
        trainer.train(epoch, loss=10.0 ** (5 - epoch % 9))
        trainer.start()
    page = trainer.page()
    assert page.plots[0] == "Loss"
    assert "20 earlier runs are not listed." in page.text


def test_files_of_older_versions_have_a_page(trainer):
    trainer.status.write(
        "RUNNING", epoch=1, max_epoch=2, graphical={"loss": 1.0, "learning_rate": 0.1}
    )
    trainer.status.write("RUNNING", validated_epoch=1, kpi={"AP_drawn": 0.5})
    assert trainer.page().plots == ["Loss", "Accuracy", "Learning rate"]
