"""`bpnet demo`, with few images."""

import json
from importlib.metadata import PackageNotFoundError

import pytest

from bodyposenet.commands import diagnostics


@pytest.fixture
def tiny_demo(run_bpnet, tmp_path):
    def run(*more):
        small = ("--images", 6, "--test_images", 3, "--epochs", 1)
        return run_bpnet("demo", "-r", tmp_path / "demo", *small, *more)

    return run


def test_demo_runs_all_steps(tiny_demo, tmp_path):
    result = tiny_demo()
    assert result.code == 0, result.err
    commands = [line.split()[2] for line in result.out.splitlines() if line.startswith("$ bpnet")]
    steps = ["dataset_convert", "dataset_convert", "train", "evaluate", "inference"]
    assert commands == ["inference", *steps]
    assert (tmp_path / "demo" / "photo" / "images_annotated" / "grace_hopper.png").is_file()
    assert "keypoint AP on these 3 images" in result.out
    pictures = tmp_path / "demo" / "inference" / "images_annotated"
    assert str(pictures) in result.out and len(list(pictures.iterdir())) == 3
    lines = (tmp_path / "demo" / "status.json").read_text().splitlines()
    kpi = next(json.loads(line)["kpi"] for line in lines if "kpi" in line)
    assert kpi["AP_of_perfect_maps"] > 0.6 > kpi["AP"] >= 0

    other = tiny_demo("--seed", 5)
    assert other.code == 2 and "-r" in other.err


def test_missing_packages_are_reported_before_any_work(tiny_demo, tmp_path, monkeypatch):
    def version(package):
        if package in ("torch", "matplotlib"):
            raise PackageNotFoundError
        return "1.0"

    monkeypatch.setattr(diagnostics, "version", version)
    result = tiny_demo()
    assert result.code == 2
    assert "matplotlib, torch" in result.err
    assert "pip install 'bodyposenet[demo]'" in result.err
    assert not (tmp_path / "demo").exists()


def test_numbers_below_one_are_an_error(tiny_demo):
    result = tiny_demo("--epochs", 0)
    assert result.code == 2 and "--epochs 0" in result.err
