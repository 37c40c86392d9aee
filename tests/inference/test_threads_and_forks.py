"""Tests of one model shared by threads, of pickling, and of forked processes."""

import os
import pickle
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, Lock

import numpy as np
import pytest
import torch

import bodyposenet
from bodyposenet import PoseEstimator
from bodyposenet.inference.engines import pytorch
from bodyposenet.inference.engines.pytorch import CPU, PyTorchEngine
from bodyposenet.inference.predictor import Predictor
from bodyposenet.media.images import read_image
from bodyposenet.model.checkpoint import load_model, save_model
from bodyposenet.model.network import BodyPoseNetwork
from bodyposenet.skeleton import Skeleton
from bodyposenet.specs.inference import InferenceSpec
from bodyposenet.specs.network import BackboneAttributes, ModelConfig
from bodyposenet.types import Maps

THREADS = 4
ROUNDS = 6


@pytest.fixture(scope="module")
def photos(drawn_dataset) -> list[np.ndarray]:
    """Images that the network of `exported` was trained on."""
    files = sorted((drawn_dataset.folder / "test").rglob("*.jpg"))
    assert len(files) == 6
    return [read_image(file) for file in files]


@pytest.fixture
def small_model(tmp_path) -> Path:
    torch.manual_seed(0)
    toy = Skeleton("toy", ("head", "hand"), ((0, 1),))
    attributes = BackboneAttributes(architecture="lightweight_openpose", width=0.25)
    network = BodyPoseNetwork(toy, ModelConfig(stages=1, backbone_attributes=attributes))
    save_model(tmp_path / "small.tlt", network)
    return tmp_path / "small.tlt"


def run_at_once(work, threads: int = THREADS) -> list:
    """Return the results of `work(0)`, `work(1)` ..., each started at the same time in a thread."""
    start = Barrier(threads)

    def one(number: int):
        start.wait()
        return work(number)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(one, range(threads)))


def values(poses) -> list[bytes]:
    """Return all results as bytes."""
    return [poses.keypoints.tobytes(), poses.keypoint_scores.tobytes(), poses.scores.tobytes()]


@pytest.mark.parametrize("engine", ["pytorch", "onnx", "openvino"])
def test_results_of_eight_threads_are_bit_identical(engine, exported, photos):
    file = exported / ("model.tlt" if engine == "pytorch" else "model.onnx")
    model = bodyposenet.load(file, "key", engine, input_shape=(64, 64), threads=2)
    images = [np.roll(photos[number % 6], number, axis=1) for number in range(200)]
    alone = [values(model(image)) for image in images]
    assert len(set(map(str, alone))) > 100

    def work(number: int) -> list[list[bytes]]:
        own = images[number::8]
        if number % 2:
            return [values(poses) for poses in model(own)]
        return [values(model(image)) for image in own]

    for number, found in enumerate(run_at_once(work, 8)):
        assert found == alone[number::8]


@pytest.mark.parametrize("concurrency", [1, 3])
def test_concurrency_limits_the_threads_in_the_network(concurrency):
    inside, most, lock = 0, 0, Lock()

    class SlowEngine:
        skeleton = Skeleton("toy", ("head", "hand"), ((0, 1),))
        stride, stages, fixed_shape = 8, 1, None

        def infer(self, images, stage=None):
            nonlocal inside, most
            with lock:
                inside += 1
                most = max(most, inside)
            time.sleep(0.005)
            with lock:
                inside -= 1
            rows, columns = images.shape[1] // 8, images.shape[2] // 8
            return [
                Maps(np.zeros((3, rows, columns), np.float32), np.zeros((2, rows, columns), "f4"))
                for _ in images
            ]

    predictor = Predictor(
        SlowEngine(), InferenceSpec(input_shape=(16, 16)), concurrency=concurrency
    )
    model = PoseEstimator(predictor)
    image = np.zeros((16, 16, 3), np.uint8)
    run_at_once(lambda number: model([image] * 4, max_people=1 + number), 8)
    assert most == concurrency


@pytest.mark.parametrize(
    ("options", "cores", "expected"),
    [
        ({}, 16, 2),
        ({"threads": 1}, 16, 16),
        ({"threads": 4}, 16, 4),
        ({"threads": 16}, 16, 2),
        ({"threads": 1, "concurrency": 3}, 16, 3),
    ],
)
def test_default_concurrency_depends_on_threads(exported, monkeypatch, options, cores, expected):
    monkeypatch.setattr("bodyposenet.inference.models.usable_cores", lambda: cores)
    model = bodyposenet.load(exported / "model.onnx", **options)
    assert model._open()._slots._initial_value == expected


@pytest.mark.parametrize("flip_test", [False, True])
@pytest.mark.parametrize("engine", ["pytorch", "onnx", "openvino"])
def test_threads_that_share_a_model_get_the_poses_of_their_own_images(
    engine, flip_test, exported, photos
):
    file = exported / ("model.tlt" if engine == "pytorch" else "model.onnx")
    model = bodyposenet.load(
        file, "key", engine, input_shape=(128, 128), flip_test=flip_test, batch_size=2
    )
    alone = [values(model(photo)) for photo in photos]
    assert all(len(model(photo)) for photo in photos)

    def work(number: int) -> list[tuple[int, list[bytes]]]:
        chosen = [(number + step) % len(photos) for step in range(ROUNDS)]
        return [(index, values(model(photos[index]))) for index in chosen]

    for found in run_at_once(work):
        for index, own in found:
            assert own == alone[index]


def test_threads_applies_to_one_model_only(small_model):
    """PyTorch's number of threads of the process stays that of the program."""
    torch.set_num_threads(2)
    seen = []
    engines = [pytorch.load(small_model, device=CPU, threads=number) for number in (1, 3, None)]
    for engine in engines:
        engine.network.register_forward_pre_hook(lambda *_: seen.append(torch.get_num_threads()))
        engine.infer(np.zeros((1, 16, 16, 3), np.uint8))
    assert seen == [1, 3, 2]
    assert torch.get_num_threads() == 2


def number_in_new_thread() -> int:
    """Return PyTorch's number of threads in a thread that has not used PyTorch before."""
    return run_at_once(lambda _: torch.get_num_threads(), 1)[0]


@pytest.mark.parametrize("has_openmp", [True, False])
def test_threads_does_not_affect_threads_started_during_a_run(small_model, monkeypatch, has_openmp):
    if not has_openmp:
        monkeypatch.setattr(pytorch, "_openmp_setter", lambda: None)
    torch.set_num_threads(2)
    during, after = [], []
    images = np.zeros((1, 16, 16, 3), np.uint8)
    engines = [pytorch.load(small_model, device=CPU, threads=number) for number in (1, 3)]
    inside = Barrier(2)

    def record_setting(*_: object) -> None:
        inside.wait()  # both engines run
        during.append(number_in_new_thread())
        inside.wait()

    for engine in engines:
        engine.network.register_forward_pre_hook(record_setting)
    run_at_once(lambda number: engines[number].infer(images), 2)
    after.append(number_in_new_thread())
    torch.set_num_threads(1)  # by the user, after the models were opened
    inside = Barrier(1)
    engines[1].infer(images)
    after.append(number_in_new_thread())
    assert during == [2, 2, 1]
    assert after == [2, 1]


@pytest.mark.skipif(sys.platform == "win32", reason="OpenMP is not found")
def test_engines_do_not_change_the_threads_of_the_process(small_model):
    torch.set_num_threads(2)
    images = np.zeros((1, 16, 16, 3), np.uint8)

    def work(number: int) -> tuple[int, int]:
        for _ in range(3):
            pytorch.load(small_model, device=CPU, threads=1 + number).infer(images)
        return torch.get_num_threads(), number_in_new_thread()

    assert run_at_once(work) == [(2, 2)] * THREADS
    assert number_in_new_thread() == 2


def test_threads_of_different_sizes_share_a_model(exported, photos):
    model = bodyposenet.load(
        exported / "model.onnx", engine="openvino", input_shape=(128, 128),
        keep_aspect_ratio_mode="adjust_network_input", multi_scale_inference=False,
    )  # fmt: skip
    cropped = [photo[:, : 128 - 8 * number] for number, photo in enumerate(photos[:THREADS])]
    alone = [model(photo).keypoints for photo in cropped]

    for number, results in enumerate(
        run_at_once(lambda number: [model(cropped[number]).keypoints for _ in range(ROUNDS)])
    ):
        for keypoints in results:
            np.testing.assert_allclose(keypoints, alone[number], atol=0.01)


def test_tf32_is_off_until_the_last_thread_has_left(monkeypatch, small_model):
    """The setting applies to the whole process, so the first thread must not restore it."""
    engine = PyTorchEngine(load_model(small_model))
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    inside, seen = Barrier(2), []

    def record_setting(*_: object) -> None:
        inside.wait()  # until both threads run the network
        seen.append(torch.backends.cudnn.allow_tf32)

    hook = engine.network.register_forward_pre_hook(record_setting)
    images = np.zeros((1, 16, 16, 3), np.uint8)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: engine.infer(images), range(2)))
    hook.remove()
    assert seen == [False, False]
    assert torch.backends.cudnn.allow_tf32


def test_a_pickled_model_is_opened_again_from_its_path(exported, photos, monkeypatch, tmp_path):
    monkeypatch.chdir(exported)
    model = bodyposenet.load("model.onnx", input_shape=(128, 128), heatmap_threshold=0.2)
    text = pickle.dumps(model)
    monkeypatch.chdir(tmp_path)
    again = pickle.loads(text)
    assert repr(again) == repr(model)
    np.testing.assert_array_equal(again(photos[0]).keypoints, model(photos[0]).keypoints)


FORKED = """
import os, sys
import numpy as np
import bodyposenet

image = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)

def run(opens, threads):
    own = bodyposenet.load(path, engine=engine, threads=threads) if opens else model
    return "as before" if own(image).keypoints.tobytes() == before else "other poses"

path, engine, threads = sys.argv[1] or None, sys.argv[2], int(sys.argv[3])
model = bodyposenet.load(path, engine=engine, threads=threads)
before = model(image).keypoints.tobytes()
for opens, threads in ((False, None), (True, 2), (True, 1)):
    if not os.fork():
        try:
            print(opens, threads, run(opens, threads), flush=True)
        except bodyposenet.BodyPoseNetError as error:
            print(opens, threads, "refused", error.remedy, flush=True)
        sys.exit()  # as a worker of gunicorn does: everything is destroyed
    os.wait()
"""


def run_forked(*arguments: object) -> list[str]:
    """Return what the forked processes print; a hang is an error."""
    command = [sys.executable, "-c", FORKED, *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=120
    ).stdout.splitlines()


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")


@needs_fork
def test_pytorch_after_a_fork_raises_or_runs_on_one_thread(small_model):
    shared, opened, single = run_forked(small_model, "pytorch", 2)
    assert "refused" in shared
    assert "threads=1" in shared
    assert "refused" in opened
    assert "as before" in single
    shared, opened, single = run_forked(small_model, "pytorch", 1)
    assert "as before" in shared
    assert "refused" in opened
    assert "as before" in single


@needs_fork
def test_onnx_runtime_after_a_fork_is_opened_again():
    assert all("as before" in line for line in run_forked("", "onnx", 2))


@needs_fork
def test_openvino_after_a_fork_raises():
    for line in run_forked("", "openvino", 2):
        assert "refused" in line
        assert "spawn" in line


FORKED_WHILE_RUNNING = """
import multiprocessing, threading
import numpy as np
import bodyposenet

image = np.zeros((64, 64, 3), np.uint8)

def count(number):
    return len(model([image] * 3))

if __name__ == "__main__":
    model = bodyposenet.load(input_shape=(64, 64), threads=2, concurrency=1)
    model(image)  # a fork while Python imports the decoder would leave it half imported
    end = threading.Event()
    def run():
        while not end.is_set():
            model(image)
    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    with multiprocessing.get_context("fork").Pool(2) as pool:
        print(pool.map(count, range(6)))
    end.set()
    for thread in threads:
        thread.join()
"""


@needs_fork
def test_a_fork_while_other_threads_run_the_network(tmp_path):
    """The forked process inherits a semaphore for which threads wait, but not these threads."""
    (tmp_path / "main.py").write_text(FORKED_WHILE_RUNNING)
    run = subprocess.run(
        [sys.executable, str(tmp_path / "main.py")],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert run.stdout.strip() == str([3] * 6)


FORKED_FOR_OPENCV = """
import os
import cv2
import numpy as np
import bodyposenet

cv2.setNumThreads(2)
before = cv2.getNumThreads()
bodyposenet.load(input_shape=(64, 64), threads=1)(np.zeros((64, 64, 3), np.uint8))
if not os.fork():
    print(cv2.getNumThreads(), flush=True)
    os._exit(0)
os.wait()
print(cv2.getNumThreads() == before)
"""


@needs_fork
def test_opencv_runs_without_its_threads_after_a_fork():
    """It hung in 7 of 1,000 processes, forked while another thread held its lock."""
    command = [sys.executable, "-c", FORKED_FOR_OPENCV]
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert run.stdout.split() == ["1", "True"]


SPAWNED = """
import multiprocessing
import numpy as np
import bodyposenet

image = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)

def find(model):
    return model(image).keypoints.tobytes()

if __name__ == "__main__":
    model = bodyposenet.load(input_shape=(64, 64), threads=1, batch_size=2, max_people=3)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.apply(find, (model,)) == find(model))
"""


def test_a_model_is_passed_to_a_spawned_process(tmp_path):
    (tmp_path / "main.py").write_text(SPAWNED)
    run = subprocess.run(
        [sys.executable, str(tmp_path / "main.py")],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert run.stdout.strip() == "True"


FORKED_BY_OTHERS = """
import os, sys
import torch
from bodyposenet import BodyPoseNetError
from bodyposenet.inference.engines import pytorch

torch.set_num_threads(2)
torch.nn.Conv2d(64, 64, 3)(torch.rand(1, 64, 128, 128))  # starts PyTorch's threads
if not os.fork():
    for device, threads in (("cpu:0", 2), ("cpu:0", 1)):
        try:
            pytorch.load(sys.argv[1], device=torch.device(device), threads=threads)
            print("opened", flush=True)
        except BodyPoseNetError as error:
            print("refused", flush=True)
    os._exit(0)
os.wait()
"""


@needs_fork
def test_pytorch_used_outside_an_engine_before_a_fork_is_an_error(small_model):
    command = [sys.executable, "-c", FORKED_BY_OTHERS, str(small_model)]
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert run.stdout.split() == ["refused", "opened"]
