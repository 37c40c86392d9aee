"""Tests of examples/quickstart.ipynb: it has no outputs, its links exist, and it runs."""

import json
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "examples" / "quickstart.ipynb"
CELLS = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
FEW = "PHOTOS, VALIDATION_PHOTOS = 12, 4\nEPOCHS = 1\n"


def test_the_notebook_has_no_outputs():
    code = [cell for cell in CELLS if cell["cell_type"] == "code"]
    assert not [cell["outputs"] for cell in code if cell["outputs"]]
    assert {cell["execution_count"] for cell in code} == {None}


def test_links_are_those_of_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    repository = project["urls"]["Repository"]
    owner = repository.split("/")[-2]
    text = "".join("".join(cell["source"]) for cell in CELLS)
    links = re.findall(
        r"https://(?:github\.com|colab\.research\.google\.com/github)/[^\s)\"]+", text
    )
    assert {re.search(r"[^/]+/bodyposenet", link)[0] for link in links} == {f"{owner}/bodyposenet"}
    for page in re.findall(rf"{repository}/blob/main/([^\s)#]+)", text):
        assert (ROOT / page).exists(), page


def test_the_notebook_runs(tmp_path):
    """With few photos and one epoch; the accuracy does not matter."""
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    (parameters,) = [
        cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])
    ]
    parameters.source = FEW
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=600, resources=resources).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == 2
    assert (tmp_path / "project" / "evaluation" / "report.html").exists()
    assert (tmp_path / "project" / "model.onnx").exists()
