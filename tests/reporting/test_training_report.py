"""write_training_report: the HTML report of a training, from its status.json."""

import numpy as np
import pytest

from bodyposenet.evaluation import METRICS
from bodyposenet.reporting.training_history import TrainingHistory
from bodyposenet.reporting.training_report import write_training_report
from bodyposenet.results_folder import StatusFile

from .html_page import HtmlPage

CURVES = ["Loss", "Accuracy", "Learning rate", "Speed", "Waiting for data"]


class FakeTraining:
    """Writes the status lines of a training, and its report."""

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
        return HtmlPage(write_training_report(self.folder, spec, self.status, picture))


@pytest.fixture
def training(tmp_path):
    training = FakeTraining(tmp_path / "a<b>")
    training.start()
    return training


def test_the_page_has_curves_metrics_predictions_and_settings(training):
    training.train(1, 2)
    training.validate(2, 0.75)
    page = training.page(picture=np.full((64, 160, 3), 77, np.uint8))
    assert page.plots == CURVES
    assert "2 of 9" in page.text
    assert page.text.count("0.750") == 1 + len(METRICS)
    assert "torch 2.13" in page.text
    assert "num_epoch: 9" in page.text
    assert "a<b>" in page.text
    assert page.pictures[0].shape == (64, 160, 3)


def test_a_training_without_validation_has_a_page(training):
    training.train(1)
    page = training.page()
    assert page.plots == [name for name in CURVES if name != "Accuracy"]
    assert "There was no validation." in page.text
    assert page.pictures == []


def test_there_is_a_page_before_the_first_epoch(training):
    page = training.page()
    assert page.plots == []
    assert "No epoch is finished yet." in page.text


def test_a_validation_without_ap_has_a_page(training):
    training.train(1)
    training.status.write("RUNNING", validated_epoch=1, kpi={"validation_loss": 2.0})
    assert "The AP was not measured" in training.page().text


def test_a_validation_without_ground_truth_has_a_page(training):
    training.train(1)
    training.validate(1, -1.0)
    page = training.page()
    assert "Accuracy" not in page.plots
    assert "AP on drawn–" in page.text


def test_names_and_specs_are_escaped_and_a_better_ap_is_shown(training):
    name = r"<script>$\x$"
    training.train(1)
    training.validate(1, 0.8, dataset=name)
    training.train(2)
    training.validate(2, 0.5, dataset=name)
    page = training.page(spec="# </pre><script>alert(1)</script>\n")
    assert f"AP on {name}0.500 (epoch 1: 0.800)" in page.text
    assert "# </pre><script>alert(1)</script>" in page.text


def test_repeated_epochs_count_once(training):
    training.train(1, 2, 3, 4, loss=1.0)
    training.validate(4)
    training.start()
    training.train(3, loss=5.0)
    history = training.history()
    assert history.epoch_values("loss") == {1: 1.0, 2: 1.0, 3: 5.0}
    assert history.validations == {}
    assert [run.epochs for run in history.runs] == [[1, 2, 3, 4], [3]]
    assert [run.status for run in history.runs] == ["RUNNING", "RUNNING"]
    page = training.page()
    assert "interrupted" in page.text
    assert "running" in page.text


def test_an_earlier_training_in_the_same_folder_is_ignored(training):
    training.train(*range(1, 8), loss=1.0)
    training.validate(5, dataset="old")
    training.start()
    training.train(1, loss=2.0)
    assert training.history().epoch_values("loss") == {1: 2.0}
    assert training.history().datasets() == []


def test_a_validation_made_after_resuming_counts(training):
    training.train(1, 2)
    training.start()
    training.validate(2, 0.5)
    training.train(3)
    assert training.history().validation_values("AP_drawn") == {2: 0.5}


def test_broken_lines_and_those_of_other_commands_are_ignored(training):
    path = training.folder / "status.json"
    broken = ['{"epoch": 3, "max_', "[1, 2]", "7", '{"epoch": "x", "graphical": {"loss": 1}}']
    dated = '{"date": "13/45/2026", "time": "x", "status": "RUNNING"}'
    path.write_text("\n".join([*broken, dated, path.read_text()]))
    training.train(1)
    with StatusFile(training.folder) as status:
        status.write("RUNNING", "evaluation", kpi={"AP_0.5": 0.1})
    history = training.history()
    assert list(history.epochs) == [1]
    assert history.validations == {}
    assert len(history.runs) == 1


def test_only_the_last_20_runs_are_listed(training):
    for epoch in range(1, 40):
        training.train(epoch, loss=10.0 ** (5 - epoch % 9))
        training.start()
    page = training.page()
    assert page.plots[0] == "Loss"
    assert "20 earlier runs are not listed." in page.text


def test_status_files_of_older_versions_have_a_page(training):
    training.status.write(
        "RUNNING", epoch=1, max_epoch=2, graphical={"loss": 1.0, "learning_rate": 0.1}
    )
    training.status.write("RUNNING", validated_epoch=1, kpi={"AP_drawn": 0.5})
    assert training.page().plots == ["Loss", "Accuracy", "Learning rate"]
