"""One open model, many callers: threads get their own poses, and a fork never hangs."""

import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest
import torch

import bodyposenet
from bodyposenet.media.source import read_image
from bodyposenet.model.checkpoint import load_model, save_model
from bodyposenet.model.network import BodyPoseNetwork
from bodyposenet.runtime.engines.pytorch import PyTorchEngine
from bodyposenet.skeleton import Skeleton
from bodyposenet.specs.network import BackboneAttributes, ModelConfig

THREADS = 4
ROUNDS = 6


@pytest.fixture(scope="module")
def photos(drawn_dataset) -> list[np.ndarray]:
    """Those that the network of `exported` knows by heart; each has other people."""
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


def run_at_once(work) -> list:
    """Results of `work(0)`, `work(1)` ..., each in a thread of its own, all begun together."""
    start = Barrier(THREADS)

    def one(number: int):
        start.wait()
        return work(number)

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(one, range(THREADS)))


@pytest.mark.parametrize("flip_test", [False, True])
@pytest.mark.parametrize("engine", ["pytorch", "onnx", "openvino"])
def test_threads_that_share_a_model_get_the_poses_of_their_own_images(
    engine, flip_test, exported, photos
):
    file = exported / ("model.tlt" if engine == "pytorch" else "model.onnx")
    model = bodyposenet.load(
        file, "key", engine, input_shape=(128, 128), multi_scale_inference=False,
        flip_test=flip_test,
    )  # fmt: skip
    alone = [model(photo).keypoints for photo in photos]
    assert all(len(keypoints) for keypoints in alone)

    def work(number: int) -> list[tuple[int, np.ndarray]]:
        chosen = [(number + step) % len(photos) for step in range(ROUNDS)]
        one_by_one = [model(photos[index]).keypoints for index in chosen]
        listed = [poses.keypoints for poses in model([photos[index] for index in chosen])]
        return list(zip(chosen * 2, one_by_one + listed, strict=True))

    for found in run_at_once(work):
        for index, keypoints in found:
            np.testing.assert_allclose(keypoints, alone[index], atol=0.01)


def test_threads_of_different_sizes_share_a_model(exported, photos):
    model = bodyposenet.load(
        exported / "model.onnx", engine="openvino", input_shape=(128, 128),
        keep_aspect_ratio_mode="adjust_network_input", multi_scale_inference=False,
    )  # fmt: skip
    cut = [photo[:, : 128 - 8 * number] for number, photo in enumerate(photos[:THREADS])]
    alone = [model(photo).keypoints for photo in cut]

    for number, found in enumerate(
        run_at_once(lambda number: [model(cut[number]).keypoints for _ in range(ROUNDS)])
    ):
        for keypoints in found:
            np.testing.assert_allclose(keypoints, alone[number], atol=0.01)


def test_tf32_is_off_until_the_last_thread_has_left(monkeypatch, small_model):
    """The setting is the process's: the first thread to leave must not turn it on for others."""
    engine = PyTorchEngine(load_model(small_model))
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    inside, seen = Barrier(2), []

    def look(*_: object) -> None:
        inside.wait()  # both are in
        seen.append(torch.backends.cudnn.allow_tf32)

    hook = engine.network.register_forward_pre_hook(look)
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

def run(opens, threads):
    own = bodyposenet.load(sys.argv[1], threads=threads) if opens else model
    return own(np.zeros((240, 320, 3), np.uint8)).keypoints.shape

model = bodyposenet.load(sys.argv[1], threads=int(sys.argv[2]))
run(False, None)
for opens, threads in ((False, None), (True, None), (True, 1)):
    if not os.fork():
        try:
            print(opens, threads, run(opens, threads)[1:], flush=True)
        except bodyposenet.BodyPoseNetError as error:
            print(opens, threads, "refused", error.remedy, flush=True)
        os._exit(0)
    os.wait()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_pytorch_after_a_fork_is_an_error_at_once_or_runs_on_one_thread(small_model):
    def run(threads: int) -> list[str]:
        command = [sys.executable, "-c", FORKED, str(small_model), str(threads)]
        return subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=120
        ).stdout.splitlines()

    shared, opened, single = run(2)
    assert "refused" in shared
    assert "threads=1" in shared
    assert "refused" in opened
    assert "refused" not in single
    assert not any("refused" in line for line in run(1))


FORKED_BY_OTHERS = """
import os, sys
import torch
from bodyposenet import BodyPoseNetError
from bodyposenet.runtime.engines import pytorch

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


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_pytorch_that_others_have_run_before_a_fork_is_an_error_too(small_model):
    command = [sys.executable, "-c", FORKED_BY_OTHERS, str(small_model)]
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert run.stdout.split() == ["refused", "opened"]
