"""Distributed training on the CPU: gradients, several machines, killed processes, signals."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from bodyposenet.training.checkpoints import Position, last_checkpoint

from . import rank_gradients

TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]
START_TWO = """
import sys
from bodyposenet import cli
from bodyposenet.training import distributed
distributed.check_gpus = lambda count: None
sys.exit(cli.main(["train", *sys.argv[1:], "--gpus", "2"]))
"""

WAITS_AT_STEP_3 = """
import signal, sys, time
from bodyposenet import cli
from bodyposenet.training import progress

step, received = progress.ProgressLogger.log_step, []

def step_and_wait(self, number, *arguments, **options):
    if number == 1:
        handle = signal.getsignal(signal.SIGTERM)
        signal.signal(signal.SIGTERM, lambda *signal: (handle(*signal), received.append(signal)))
    step(self, number, *arguments, **options)
    while number == 3 and not received:
        time.sleep(0.01)

progress.ProgressLogger.log_step = step_and_wait
sys.exit(cli.main(sys.argv[1:]))
"""
START_TWO_WAITING = START_TWO.replace(
    "sys.exit", f"distributed.COMMAND = ('-c', {WAITS_AT_STEP_3!r})\nsys.exit"
)

TOO_LARGE = """
import sys
import torch
from bodyposenet import cli
from bodyposenet.training import step

class Full(torch.autograd.Function):
    @staticmethod
    def forward(ctx, maps):
        ctx.samples = len(maps)
        return maps.clone()

    @staticmethod
    def backward(ctx, gradient):
        if ctx.samples > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return gradient

losses = step.stage_losses
step.stage_losses = lambda heatmaps, *rest: losses([Full.apply(p) for p in heatmaps], *rest)
sys.exit(cli.main(sys.argv[1:]))
"""
TWO_TOO_LARGE = f"""
import sys
from bodyposenet.training import distributed
distributed.check_gpus = lambda count: None
distributed.COMMAND = ("-c", {TOO_LARGE!r})
from bodyposenet import cli
sys.exit(cli.main(["train", *sys.argv[1:], "--gpus", "2"]))
"""


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def start(*command):
    return subprocess.Popen(
        list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def lines_of(results):
    return [json.loads(line) for line in (results / "status.json").read_text().splitlines()]


def epochs_of(results):
    return [line for line in lines_of(results) if "graphical" in line]


def test_two_ranks_have_the_gradients_of_one_with_twice_the_batch_size(write_train_spec, tmp_path):
    spec = write_train_spec()
    rank_gradients.main(spec, 8, tmp_path / "one")
    script = Path(rank_gradients.__file__)
    run = start(*TORCHRUN, "--standalone", "--nproc_per_node", 2, script, spec, 4, tmp_path / "two")
    output, _ = run.communicate()
    assert run.returncode == 0, output
    one, two = (torch.load(tmp_path / name) for name in ("one", "two"))
    for expected, actual in zip(one, two, strict=True):
        assert torch.allclose(
            expected, actual, rtol=1e-3, atol=1e-3 * float(expected.abs().max()) + 1e-6
        )


def test_two_machines_and_two_resumed_ranks_give_the_same_files(
    write_train_spec, run_bpnet, tmp_path
):
    """Two "machines" on loopback, as in the documentation; then two ranks on one machine."""
    changes = {"num_epoch": 2, "validation_every_n_epoch": 2, "checkpoint_n_epoch": 2}
    changes |= {"ema_decay": 0.9, "dataloader.batch_size": 1, "log_every_n_secs": 1e-6}
    spec, uninterrupted = write_train_spec(**changes), tmp_path / "uninterrupted"
    port = free_port()
    machines = [
        start(
            *TORCHRUN, "--nnodes", 2, "--node_rank", number, "--nproc_per_node", 1,
            "--master_addr", "127.0.0.1", "--master_port", port,
            "-m", "bodyposenet.cli", "train", "-e", spec, "-r", uninterrupted, "--multi-node",
        )
        for number in range(2)
    ]  # fmt: skip
    outputs = [machine.communicate()[0] for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], outputs
    first, second = outputs
    assert "Epoch: [2/2]" in first and "2 samples per step" in first
    assert "Epoch" not in second and "PASS" not in second
    lines = lines_of(uninterrupted)
    assert [line["status"] for line in lines].count("STARTED") == 1

    results, output = tmp_path / "run", ""
    with start(*two_ranks(spec, results, START_TWO_WAITING)) as launcher:
        for line in launcher.stdout:
            output += line
            if "[3/" in line:
                launcher.send_signal(signal.SIGTERM)
    assert launcher.returncode == 75, output
    assert output.count("stopped by SIGTERM") == 1
    assert last_checkpoint(results, "").position == Position(0, samples=6)
    launcher = start(*two_ranks(spec, results))
    output, _ = launcher.communicate()
    assert launcher.returncode == 0, output
    for name in ("bpnet_model.tlt", "model.epoch-2.state"):
        assert (results / name).read_bytes() == (uninterrupted / name).read_bytes()

    # Two ranks validate every image once: a single process gets the same metrics.
    (together,) = [line["kpi"] for line in lines if "kpi" in line]
    status = uninterrupted / "status.json"
    kept = [line for line in lines if "kpi" not in line]
    status.write_text("".join(json.dumps(line) + "\n" for line in kept))
    assert run_bpnet("train", "-e", spec, "-r", uninterrupted).code == 0
    (alone,) = [line["kpi"] for line in lines_of(uninterrupted) if "kpi" in line]
    assert together == pytest.approx(alone)


def test_ranks_end_when_one_of_them_or_their_launcher_is_killed(write_train_spec, tmp_path):
    changes = {"num_epoch": 400, "validation_every_n_epoch": 400}
    spec, results = write_train_spec(**changes), tmp_path / "run"
    launcher = start(*two_ranks(spec, results))
    wait_for_epochs(launcher, results, 0)
    os.kill(ranks_of(launcher)[1], signal.SIGKILL)
    output, _ = launcher.communicate()
    assert launcher.returncode == 2, output
    assert "rank 1" in output and "killed by SIGKILL" in output
    assert "Traceback" not in output

    launcher = start(*two_ranks(spec, results))
    wait_for_epochs(launcher, results, len(epochs_of(results)))
    ranks = ranks_of(launcher)
    launcher.kill()
    launcher.communicate()
    for _ in range(100):
        if not any(Path(f"/proc/{rank}").exists() for rank in ranks):
            break
        time.sleep(0.1)
    else:
        raise AssertionError("the ranks are still running")


def test_two_ranks_out_of_memory_report_one_error(write_train_spec, tmp_path):
    spec = write_train_spec(**{"dataloader.batch_size": 6})
    run = start(sys.executable, "-c", TWO_TOO_LARGE, "-e", spec, "-r", tmp_path / "run")
    output, _ = run.communicate()
    assert run.returncode == 2, output
    assert "batch_size 6" in output and "a batch size of 3 fits" in output
    assert "Traceback" not in output


def two_ranks(spec, results, code=START_TWO):
    return sys.executable, "-c", code, "-e", spec, "-r", results


def wait_for_epochs(launcher, results, count):
    """Wait until the status file lists more than `count` epochs."""
    while launcher.poll() is None:
        if (results / "status.json").is_file() and len(epochs_of(results)) > count:
            return
        time.sleep(0.05)
    raise AssertionError(launcher.communicate()[0])


def ranks_of(launcher):
    """Return the process ids of the launcher's ranks, in order."""
    children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children")
    if not children.exists():
        pytest.skip("the system does not list the children of a process")
    command = [Path(f"/proc/{pid}/cmdline").read_text() for pid in children.read_text().split()]
    pids = [int(pid) for pid in children.read_text().split()]
    return [pid for pid, line in zip(pids, command, strict=True) if "bodyposenet.cli" in line]


def test_a_port_in_use_is_an_error(write_train_spec, run_bpnet, tmp_path, monkeypatch):
    with socket.socket() as listener:
        listener.bind(("0.0.0.0", 0))
        listener.listen()
        port = listener.getsockname()[1]
        variables = {"RANK": 0, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        for name, value in variables.items():
            monkeypatch.setenv(name, str(value))
        result = run_bpnet("train", "-e", write_train_spec(), "-r", tmp_path / "run")
    assert result.code == 2
    assert f"127.0.0.1:{port}: the port is in use" in result.err
    assert "Traceback" not in result.err


def test_half_a_launchers_environment_is_an_error(
    write_train_spec, run_bpnet, tmp_path, monkeypatch
):
    monkeypatch.setenv("RANK", "0")
    result = run_bpnet("train", "-e", write_train_spec(), "-r", tmp_path / "run")
    assert result.code == 2
    assert "but not MASTER_ADDR, MASTER_PORT, WORLD_SIZE" in result.err


def test_several_machines_need_a_launcher(write_train_spec, run_bpnet, tmp_path):
    result = run_bpnet("train", "-e", write_train_spec(), "-r", tmp_path / "run", "--multi-node")
    assert result.code == 2
    assert "torchrun --nnodes" in result.err
