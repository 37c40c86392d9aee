"""Tests of the Ray cluster: resources, worker processes, and resuming."""

import json
import logging
import os
import pickle
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.inference.parallel import ray_cluster as cluster
from bodyposenet.inference.parallel.ray_cluster import (
    NO_ITEM,
    ClusterExecutor,
    ClusterOptions,
    ClusterWorker,
    Resources,
    allocate_resources,
)

from .color_job import DOT, SPEC, UNREADABLE, ColorJob, fail_to_open, open_stub


@pytest.mark.parametrize(
    "available, options, expected",
    [
        ({"CPU": 8.0}, ClusterOptions("local"), Resources(8, 1, None)),
        ({"CPU": 8.0}, ClusterOptions("local", threads=3), Resources(2, 3, None)),
        ({"CPU": 8.0}, ClusterOptions("local", 2, 4), Resources(2, 4, None)),
        ({"CPU": 16.0, "GPU": 2.0}, ClusterOptions("auto"), Resources(2, 1, 1.0)),
        ({"CPU": 16.0, "GPU": 2.0}, ClusterOptions("auto", 3), Resources(3, 1, 0.5)),
    ],
)
def test_resources_of_the_processes(available, options, expected):
    assert allocate_resources(available, options) == expected


def test_a_warning_if_the_cluster_is_too_small(caplog):
    with caplog.at_level(logging.WARNING, logger="bodyposenet"):
        assert allocate_resources({"CPU": 2.0}, ClusterOptions("auto", 4)) == Resources(4, 1, None)
    assert "cluster has 2 cores" in caplog.text


def run_worker(tmp_path, opener, items):
    before = Path.cwd()
    try:
        worker = ClusterWorker(opener, ColorJob(), tmp_path, 1)
        column = np.array([pickle.dumps(item) for item in items], object)
        return worker({"number": np.arange(len(items)) + 5, "item": column})
    finally:
        os.chdir(before)


def test_a_worker_returns_numbered_results(tmp_path):
    columns = run_worker(tmp_path, open_stub, [7, UNREADABLE, 9])
    assert columns["number"] == [5, 6, 7]
    results = [json.loads(text) for text in columns["result"]]
    assert [one.get("color") for one in results] == [7, None, 9]
    assert results[1]["error"] == "no color"


def test_a_worker_returns_the_error_of_the_model(tmp_path):
    columns = run_worker(tmp_path, fail_to_open, [1, 2])
    assert columns["number"] == [NO_ITEM]
    assert json.loads(columns["result"][0]) == ["the model is gone", "Look for it."]
    columns = run_worker(tmp_path / "none", open_stub, [1])
    assert "none" in json.loads(columns["result"][0])[0]


@pytest.fixture
def fake_cluster(monkeypatch):
    """Function that installs a cluster which processes items in reverse order.

    Its argument is the number of items after which the cluster fails. It returns a list to which
    the cluster appends the items of each run.
    """
    runs = []

    def install(fails_after=1000):
        def process(opener, job, numbered, options):
            runs.append([item for _, item in numbered])
            for count, (number, item) in enumerate(reversed(numbered)):
                if count == fails_after:
                    raise BodyPoseNetError("the cluster failed")
                result = {"error": "bad"} if item == UNREADABLE else {"color": item}
                yield number, json.dumps(result)

        monkeypatch.setattr(cluster, "_map", process)
        return runs

    for name in ("ray", "ray.data"):
        monkeypatch.setitem(sys.modules, name, object())
    monkeypatch.setattr(cluster, "_connection", lambda _: nullcontext())
    return install


def run(folder, items, manifest="a", overwrite=False, batch=1):
    options = ClusterOptions("local")
    executor = ClusterExecutor(
        open_stub, DOT, SPEC, options, folder, {"model": manifest}, overwrite=overwrite
    )
    return list(executor.run(ColorJob(batch), items))


def test_a_second_run_processes_missing_and_failed_items(fake_cluster, tmp_path):
    runs = fake_cluster(fails_after=4)
    items = [1, 2, 3, UNREADABLE, 4, 5]
    with pytest.raises(BodyPoseNetError, match="the cluster failed"):
        run(tmp_path, items)
    fake_cluster()
    expected = [{"color": item} if item != UNREADABLE else {"error": "bad"} for item in items]
    assert run(tmp_path, items) == expected
    assert runs[1] == [1, 2, UNREADABLE]
    assert run(tmp_path, [5, 1, 6]) == [{"color": 5}, {"color": 1}, {"color": 6}]
    assert runs[2] == [6]
    assert run(tmp_path, [6, 5]) == [{"color": 6}, {"color": 5}]
    assert len(runs) == 3


def test_another_model_needs_overwrite(fake_cluster, tmp_path):
    runs = fake_cluster()
    run(tmp_path, [1, 2])
    with pytest.raises(BodyPoseNetError, match="another model"):
        run(tmp_path, [1, 2], manifest="b")
    assert run(tmp_path, [1, 2], manifest="b", overwrite=True) == [{"color": 1}, {"color": 2}]
    assert runs == [[1, 2], [1, 2]]


def test_another_job_needs_overwrite(fake_cluster, tmp_path):
    fake_cluster()
    run(tmp_path, [1, 2])
    with pytest.raises(BodyPoseNetError, match="another work"):
        run(tmp_path, [1, 2], batch=2)
