"""The specs under examples/ load."""

from pathlib import Path

import pytest

from bodyposenet.specs.dataset import DatasetSpec
from bodyposenet.specs.training import TrainSpec

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.name)
def test_train_specs_load_and_name_their_datasets(path, monkeypatch):
    monkeypatch.chdir(EXAMPLES.parent)
    assert TrainSpec.load(path).dataset_specs()


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.json")), ids=lambda path: path.name)
def test_dataset_specs_load(path):
    assert DatasetSpec.load(path).dataset == path.stem
