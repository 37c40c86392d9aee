"""Training on a GPU: the step alone, its profile, and `bpnet train` with JPEGs.

python -m benchmarks.gpu.train_step [--device NAME] [--quick] [--json FILE]

vgg with 3 stages, and lightweight OpenPose (`mobilenet` in the figures), at 256 x 256 in bfloat16.
The share of the matrix rate (model FLOPs utilization) is 3 x the FLOPs of a forward pass over the
time of a step, relative to a large matrix product on the same device in the same run. `fed` is
`bpnet train` with JPEGs, in contrast to the step alone, whose data is on the device.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from bodyposenet.model.network import BodyPoseNetwork
from bodyposenet.specs.training import TrainSpec
from bodyposenet.training.batches import Batch
from bodyposenet.training.checkpoints import TrainState
from bodyposenet.training.distributed import DistributedContext
from bodyposenet.training.optimizer import build_optimizer, set_learning_rate
from bodyposenet.training.samples import dataset_sources, training_samples
from bodyposenet.training.step import TrainStep, mixed_precision

from .. import harness
from ..train_step import SHIPPED_SPECS, copy_records, train, write_dataset, write_train_spec
from . import device as gpu

_BATCHES = (16, 32, 64, 128, 256, 512)
_FED_STEPS = 150
"""Steps per epoch of `bpnet train`."""
_PROFILED_STEPS = 3
_KERNELS = 12
"""Number of kernels to report, by time."""
_NAME = 72
"""Maximum length of a kernel's name in the figures."""


def measure(arguments: argparse.Namespace) -> harness.Figures:
    """Measure the step, its kernels and `bpnet train` for both networks."""
    device = gpu.select_device(arguments.device)
    tiny = arguments.quick or device.type != "cuda"
    size, rate = 64 if tiny else 256, gpu.matrix_rate(device, 512 if tiny else 8192)
    figures = {"matrix_tflops": rate / 1e12}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        records = write_dataset(folder, images=8 if tiny else 400)
        copy_records(folder, copies=1)
        for architecture in SHIPPED_SPECS:
            path = write_train_spec(folder, architecture, size=size, batch_size=1, workers=None)
            found = _measure_step(TrainSpec.load(path), device, rate, tiny)
            batch_size = int(found["batch_size"])
            copy_records(folder, copies=1 if tiny else -(-_FED_STEPS * batch_size // records))
            found |= _measure_training(folder, architecture, size, batch_size)
            # The share of time that the device is busy when the training reads JPEGs.
            found["fed_over_step_alone"] = found["fed_images_per_s"] / found["eager_images_per_s"]
            figures |= {f"{architecture}_{key}": value for key, value in found.items()}
    return figures


def _measure_step(
    spec: TrainSpec, device: torch.device, rate: float, tiny: bool
) -> dict[str, float]:
    """Measure the step with data on the device, at the best batch size, eager and compiled."""
    network, calls = gpu.build_network(spec, device), 1 if tiny else 10
    samples = training_samples(spec, dataset_sources(spec, spec.dataset_specs()))

    def make_batch(count: int) -> Batch:
        batch = Batch.collate([samples[divmod(number, len(samples))] for number in range(count)])
        assert isinstance(batch, Batch)  # synthetic images are readable
        return batch.to(device)

    step = _build_step(spec, network, device)
    rates = _images_per_s(step, map(make_batch, (2, 4) if tiny else _BATCHES), calls, device)
    best = max(rates, key=rates.__getitem__)
    variants = {"eager": rates[best]}
    if device.type == "cuda":
        compiled = _build_step(spec.model_copy(update={"torch_compile": True}), network, device)
        variants["compiled"] = _images_per_s(compiled, [make_batch(best)], calls, device)[best]
    flops = 3 * gpu.forward_flops(network, network.normalize(make_batch(1).image))
    figures: dict[str, float] = {"batch_size": best}
    for variant, images_per_s in variants.items():
        figures[f"{variant}_images_per_s"] = images_per_s
        figures[f"{variant}_ms"] = 1e3 * best / images_per_s
        figures[f"{variant}_share_of_matrix_rate"] = flops * images_per_s / rate
    return figures | _profiled(step, make_batch(best), best / variants["eager"], device)


def _build_step(spec: TrainSpec, network: BodyPoseNetwork, device: torch.device) -> TrainStep:
    stagewise = spec.use_stagewise_lr_multipliers
    optimizer = build_optimizer(network, spec.optimizer, stagewise=stagewise)
    set_learning_rate(optimizer, 1e-6)  # few photos, many steps: keeps the weights finite
    state = TrainState(network.train(), optimizer)
    return TrainStep(spec, state, DistributedContext(device), precision=mixed_precision(device))


def _images_per_s(
    step: TrainStep, batches: Iterable[Batch], calls: int, device: torch.device
) -> dict[int, float]:
    """Return batch size -> images/s, for all batch sizes that fit into memory."""
    rates = {}
    for batch in batches:
        try:
            turn = gpu.repeated(partial(step, [batch]), calls, device)
            seconds = harness.time_alternately({"step": turn}, 3)["step"]
        except torch.OutOfMemoryError:
            print(f"batches of {len(batch)} do not fit into the device's memory")
            torch.cuda.empty_cache()
            break
        rates[len(batch)] = len(batch) * calls / seconds
    return rates


def _profiled(
    step: TrainStep, batch: Batch, seconds: float, device: torch.device
) -> dict[str, float]:
    """Profile a step: shares of the kernels' time, and the idle share of `seconds`."""
    on_gpu = device.type == "cuda"
    activity = ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU
    with profile(activities=[activity]) as found:
        gpu.repeated(partial(step, [batch]), _PROFILED_STEPS, device)()
    times = Counter[str]()  # microseconds
    for event in found.key_averages():
        times[event.key] += event.self_device_time_total if on_gpu else event.self_cpu_time_total
    total = times.total()
    figures = {f"kernel {name[:_NAME]}": t / total for name, t in times.most_common(_KERNELS)}
    if on_gpu:  # a CPU's profile is slower than the step itself
        figures["idle_share_of_step"] = 1 - total / 1e6 / _PROFILED_STEPS / seconds
    return figures


def _measure_training(
    folder: Path, architecture: str, size: int, batch_size: int
) -> dict[str, float]:
    """Run `bpnet train` in mixed precision, with its default number of workers."""
    spec = write_train_spec(folder, architecture, size=size, batch_size=batch_size, workers=None)
    epoch = train(spec, folder / f"{architecture}-results", "--use_amp")
    return {f"fed_{key}": epoch[key] for key in ("images_per_s", "data_wait_share")}


if __name__ == "__main__":
    harness.run("gpu.train_step", gpu.parser("gpu.train_step", __doc__), measure)
