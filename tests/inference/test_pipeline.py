"""Tests of the pipeline: order, batches, items in flight, unreadable items, errors, early ends."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from bodyposenet.errors import BodyPoseNetError
from bodyposenet.geometry import Affine
from bodyposenet.inference.pipeline import Pipeline
from bodyposenet.inference.predictor import NetworkInput
from bodyposenet.media.images import read_image
from bodyposenet.skeleton import Skeleton
from bodyposenet.types import Poses

DOT = Skeleton("dot", ("dot",), ())


class StubPredictor:
    """Fake predictor: one person with one joint, at (value of the first pixel, width)."""

    def __init__(self):
        self.batches = []
        self.threads = set()

    def prepare(self, image):
        if image.shape[0] == 1:
            raise BodyPoseNetError("too narrow")
        return [NetworkInput(image, Affine.resize(1.0))]

    def infer(self, batch):
        self.threads.add(threading.get_ident())
        shapes = {inputs[0].pixels.shape for inputs in batch}
        assert len(shapes) == 1
        self.batches.append(len(batch))
        return [[inputs[0].pixels[0, 0, 0]] for inputs in batch]

    def find_poses(self, inputs, maps):
        place = np.array([[[maps[0], inputs[0].pixels.shape[1]]]], np.float32)
        scores = np.ones((1, 1), np.float32)
        return Poses(place, scores, scores[0], DOT)


def image(value: int, height: int = 4, width: int = 6) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


def pipeline(predictor, read=lambda item: item, finish=None, skip=None, batch=1):
    return Pipeline(
        predictor,
        read,
        finish or (lambda item, pixels, poses: poses.keypoints[0, 0].tolist()),
        skip or (lambda item, error: error.what),
        batch=batch,
    )


@pytest.mark.parametrize("batch", [1, 3, 100])
def test_results_are_in_order_with_random_delays(batch):
    random = np.random.default_rng(0)
    delays = random.uniform(0, 0.01, (2, 40))

    def read(index):
        time.sleep(delays[0, index])
        return image(index)

    def finish(index, pixels, poses):
        time.sleep(delays[1, index])
        return index, int(pixels[0, 0, 0]), poses.keypoints[0, 0, 0]

    found = list(pipeline(StubPredictor(), read, finish, batch=batch).run(range(40)))
    assert found == [(index, index, index) for index in range(40)]


def test_no_items_give_no_results():
    assert list(pipeline(StubPredictor()).run([])) == []


def test_a_batch_has_consecutive_items_of_one_shape():
    predictor = StubPredictor()
    widths = [6, 6, 6, 6, 6, 8, 8, 6, 8, 8, 8, 8]
    images = [image(index, width=width) for index, width in enumerate(widths)]
    found = list(pipeline(predictor, batch=3).run(images))
    assert found == [[index, width] for index, width in enumerate(widths)]
    assert predictor.batches == [3, 2, 2, 1, 3, 1]


def test_bad_items_are_skipped_in_order(tmp_path):
    import cv2

    paths = [tmp_path / f"{index}.png" for index in range(6)]
    for index in (0, 2, 5):
        cv2.imwrite(str(paths[index]), image(index))
    paths[1].write_text("no image")
    cv2.imwrite(str(paths[3]), image(3, height=1))
    predictor = StubPredictor()
    found = list(pipeline(predictor, read_image, batch=4).run(paths))
    assert [found[index] for index in (0, 2, 5)] == [[0, 6], [2, 6], [5, 6]]
    assert found[1] == f"{paths[1]}: not an image, or a damaged one"
    assert found[3] == "too narrow"
    assert found[4].startswith(str(paths[4]))
    assert predictor.batches == [3]


def test_only_bad_items():
    def read(item):
        raise BodyPoseNetError(f"{item} is bad")

    found = list(pipeline(StubPredictor(), read, batch=2).run(range(9)))
    assert found == [f"{item} is bad" for item in range(9)]


def test_only_the_network_runs_in_the_callers_thread():
    predictor, others = StubPredictor(), set()

    def read(item):
        others.add(threading.get_ident())
        return item

    def finish(item, pixels, poses):
        others.add(threading.get_ident())

    list(pipeline(predictor, read, finish).run([image(1)] * 5))
    assert predictor.threads == {threading.get_ident()}
    assert threading.get_ident() not in others


def test_at_most_in_flight_items_are_in_memory():
    alive, most, lock = 0, 0, threading.Lock()

    def read(item):
        nonlocal alive, most
        with lock:
            alive += 1
            most = max(most, alive)
        return image(item % 250)

    def finish(item, pixels, poses):
        nonlocal alive
        time.sleep(0.002)  # slower than the steps before it
        with lock:
            alive -= 1

    line = pipeline(StubPredictor(), read, finish, batch=2)
    assert len(list(line.run(range(200)))) == 200
    assert most <= line.in_flight


def test_items_are_taken_a_few_ahead_only():
    taken = 0

    def items():
        nonlocal taken
        while True:
            taken += 1
            yield image(taken % 250)

    line = pipeline(StubPredictor())
    results = line.run(items())
    for _ in range(10):
        next(results)
    assert taken <= 10 + line.in_flight
    results.close()


@pytest.mark.parametrize(("batch", "in_flight"), [(1, 1), (1, 5), (3, 3), (3, 7)])
def test_in_flight_limits_the_items_and_batches_are_complete(batch, in_flight):
    taken, returned, most = 0, 0, 0

    def items():
        nonlocal taken, most
        for value in range(30):
            taken += 1
            most = max(most, taken - returned)
            yield value

    predictor = StubPredictor()
    line = Pipeline(
        predictor, image, lambda item, *_: item, lambda *_: None, batch=batch, in_flight=in_flight
    )
    for expected, result in enumerate(line.run(items())):
        assert result == expected
        returned += 1
    assert most == in_flight
    assert predictor.batches == [batch] * (30 // batch)


@pytest.mark.parametrize("part", ["read", "infer", "finish"])
def test_other_errors_are_raised(part):
    def fail(*_):
        raise ZeroDivisionError(part)

    predictor = StubPredictor()
    if part == "infer":
        predictor.infer = fail
    line = pipeline(
        predictor,
        fail if part == "read" else lambda item: item,
        fail if part == "finish" else None,
    )
    with pytest.raises(ZeroDivisionError, match=part):
        list(line.run([image(1)] * 50))


def test_errors_of_network_and_finish_do_not_skip_items():
    def full_disk(*_):
        raise BodyPoseNetError("the disk is full")

    with pytest.raises(BodyPoseNetError, match="disk is full"):
        list(pipeline(StubPredictor(), finish=full_disk).run([image(1)] * 50))
    predictor = StubPredictor()
    predictor.infer = full_disk
    with pytest.raises(BodyPoseNetError, match="disk is full"):
        list(pipeline(predictor).run([image(1)] * 50))


@pytest.mark.parametrize("good", [0, 1, 5, 60])
@pytest.mark.parametrize("batch", [1, 4])
def test_an_error_of_the_iterator_comes_after_earlier_results(good, batch):
    def items():
        yield from range(good)
        raise ConnectionError("the camera is gone")

    def finish(item, pixels, poses):
        time.sleep(0.002)
        return item

    found = []
    with pytest.raises(ConnectionError, match="the camera is gone"):
        for result in pipeline(StubPredictor(), image, finish, batch=batch).run(items()):
            found.append(result)
    assert found == list(range(good))


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("part", ["read", "infer", "finish"])
@pytest.mark.parametrize("error", [ZeroDivisionError(), KeyboardInterrupt()], ids=["error", "stop"])
def test_an_error_in_the_middle_comes_after_earlier_results(part, error, batch):
    predictor, bad = StubPredictor(), 21
    infer = predictor.infer

    def fail_at(index):
        if index == bad:
            raise error

    def read(index):
        if part == "read":
            fail_at(index)
        return image(index)

    def finish(index, pixels, poses):
        time.sleep(0.002)
        if part == "finish":
            fail_at(index)
        return index

    def infer_or_fail(inputs):
        if part == "infer" and bad in [each[0].pixels[0, 0, 0] for each in inputs]:
            raise error
        return infer(inputs)

    predictor.infer = infer_or_fail
    found = []
    with pytest.raises(type(error)):
        for result in pipeline(predictor, read, finish, batch=batch).run(range(60)):
            found.append(result)
    # There are no results of the batch at which the network fails.
    first_of_batch = bad - bad % batch if part == "infer" else bad
    assert found == list(range(first_of_batch))


def test_bypassed_items_keep_their_order():
    predictor = StubPredictor()
    line = Pipeline(
        predictor,
        image,
        lambda item, pixels, poses: item,
        lambda item, error: error,
        batch=3,
        bypass=lambda item: -item if item % 4 else None,
    )
    assert list(line.run(range(10))) == [0, -1, -2, -3, 4, -5, -6, -7, 8, -9]
    assert sum(predictor.batches) == 3


def test_in_flight_of_one():
    taken = []

    def items():
        for index in range(20):
            taken.append(index)
            yield index

    line = Pipeline(
        StubPredictor(),
        image,
        lambda item, pixels, poses: item,
        lambda item, error: error,
        in_flight=1,
    )
    for result in line.run(items()):
        assert taken[-1] == result


def test_an_interrupt_ends_the_run_and_keeps_written_files(tmp_path):
    predictor = StubPredictor()
    infer = predictor.infer

    def interrupted(batch):
        if len(predictor.batches) == 20:
            raise KeyboardInterrupt
        return infer(batch)

    def write(item, pixels, poses):
        Path(tmp_path, f"{item}.txt").write_text("done")
        return item

    predictor.infer = interrupted
    with pytest.raises(KeyboardInterrupt):
        list(pipeline(predictor, image, write).run(range(250)))
    assert 0 < len(list(tmp_path.iterdir())) <= 20


def test_threads_end_with_the_run():
    results = pipeline(StubPredictor()).run([image(1)] * 50)
    next(results)
    results.close()
    deadline = time.monotonic() + 5
    while _pipeline_threads() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not _pipeline_threads()


def _pipeline_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("pipeline")]


def test_the_stopwatch_measures_each_step():
    line = pipeline(StubPredictor(), finish=lambda *_: time.sleep(0.001))
    list(line.run([image(1)] * 10))
    seconds = line.stopwatch.seconds
    assert set(seconds) == {"read", "resize", "network", "decode", "finish", "waiting"}
    assert seconds["finish"] >= 0.01
    assert seconds["network"] + seconds["waiting"] <= line.stopwatch.elapsed
