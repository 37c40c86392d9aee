"""Tests of several processes: order, results, logs, errors and shutdown."""

import logging
import multiprocessing
import os
import re

import pytest

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.inference.parallel import processes
from bodyposenet.inference.parallel.processes import ProcessExecutor, Ready, assign_cores, serve

from .color_job import (
    BUG,
    DOT,
    EXIT,
    SLOW,
    SPEC,
    UNREADABLE,
    ColorJob,
    fail_to_open,
    open_stub,
)


@pytest.fixture(autouse=True)
def no_decoder(monkeypatch):
    monkeypatch.setattr("bodyposenet.decoding.warm_up", lambda mode: None)


def run(items, count=1, opener=open_stub, batch=1):
    return ProcessExecutor(opener, DOT, SPEC, count).run(ColorJob(batch), items)


def test_results_come_in_order_from_processes_bound_to_cores(caplog):
    items = [*range(40), UNREADABLE, *range(40, 120)]
    with caplog.at_level(logging.WARNING, logger="bodyposenet"):
        found = list(run(items, count=2, batch=3))
    assert [one.get("color", one.get("error")) for one in found] == [
        "no color" if item == UNREADABLE else item for item in items
    ]
    assert [record.getMessage() for record in caplog.records] == ["skipped: no color"]
    cores = {one["process"]: one["cores"] for one in found if "cores" in one}
    assert os.getpid() not in cores
    if hasattr(os, "sched_getaffinity"):
        assert all(bound in assign_cores(2) for bound in cores.values())
        assert all(one["threads"] == len(one["cores"]) for one in found if "cores" in one)
    assert not multiprocessing.active_children()


def test_no_items_give_no_results():
    assert list(run([], count=1)) == []


def test_a_slow_item_limits_how_far_the_others_run_ahead(monkeypatch):
    monkeypatch.setattr(processes, "_MAX_WAITING", 10)
    found = list(run([SLOW, *range(100)], count=2))
    assert [one["color"] for one in found] == [SLOW, *range(100)]
    before = sum(one["time"] < found[0]["time"] for one in found)
    assert before < 10


def test_a_dead_process_is_an_error():
    with pytest.raises(BodyPoseNetError, match=r"a predictor process died \(exit code 3\)"):
        list(run([1, 2, EXIT, 3, 4], count=2))
    assert not multiprocessing.active_children()


def test_the_error_of_the_model_is_raised():
    with pytest.raises(BodyPoseNetError, match="the model is gone") as caught:
        list(run([1, 2], opener=fail_to_open))
    assert caught.value.remedy == "Look for it."


def test_the_traceback_of_a_bug_is_kept(monkeypatch):
    monkeypatch.setattr("signal.signal", lambda *_: None)  # `serve` runs in this process
    connection, child_connection = multiprocessing.Pipe()
    for item in (1, BUG):
        connection.send(item)
    serve(child_connection, lambda: open_stub(1), ColorJob(), (), logging.WARNING)
    ready, first, error = (connection.recv() for _ in range(3))
    assert isinstance(ready, Ready) and first.result["color"] == 1
    assert re.search(r"in _finish\n(.*\n)*ZeroDivisionError: a defect", str(error))
    connection.close()


def test_stopping_early_ends_the_processes():
    found = run(range(200), count=2)
    assert next(found)["color"] == 0
    assert len(multiprocessing.active_children()) == 2
    found.close()
    assert not multiprocessing.active_children()


@pytest.mark.parametrize(
    "cores, count, shares",
    [
        ({0, 1, 2, 3}, 2, [[0, 1], [2, 3]]),
        ({4, 7, 9}, 2, [[4], [7, 9]]),
        ({0, 1, 2, 3, 4}, 3, [[0], [1, 2], [3, 4]]),
        ({5}, 3, [[5], [5], [5]]),
        ({2, 3}, 3, [[2], [3], [2]]),
        ({2, 3}, 2, [[2], [3]]),
    ],
)
def test_cores_are_shared_equally(monkeypatch, cores, count, shares):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: cores, raising=False)
    assert assign_cores(count) == shares
