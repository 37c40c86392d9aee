"""The training loop: epochs of steps, checkpoints and validations."""

from __future__ import annotations

import time
from itertools import islice
from pathlib import Path

from bodyposenet.console import progress as progress_bar
from bodyposenet.errors import Stopped
from bodyposenet.files import atomic_write
from bodyposenet.model.checkpoint import save_model
from bodyposenet.results_folder import StatusFile
from bodyposenet.specs.training import TrainSpec
from bodyposenet.training.batches import explain_worker_death
from bodyposenet.training.build import Training, build_training
from bodyposenet.training.checkpoints import Position, check_weights, save_checkpoint, save_latest
from bodyposenet.training.distributed import DistributedContext
from bodyposenet.training.optimizer import set_learning_rate
from bodyposenet.training.progress import ProgressLogger
from bodyposenet.training.schedule import learning_rate
from bodyposenet.training.signals import StopSignals
from bodyposenet.training.step import step_with_oom_check


def train(
    spec: TrainSpec,
    results_dir: Path,
    distributed: DistributedContext,
    signals: StopSignals,
    *,
    key: str,
    use_amp: bool,
    status: StatusFile | None,
) -> Path:
    """Train a network, or resume from the last checkpoint of the results folder.

    Args:
        spec: The train spec.
        results_dir: Folder for checkpoints, the final model, TensorBoard events and the report.
        distributed: The ranks that train together; rank 0 writes the files.
        signals: Signals that stop the training.
        key: Encryption key of model files; empty for plain files.
        use_amp: Whether to train in mixed precision.
        status: Status file for a line per epoch and validation; None on all ranks but 0.

    Returns:
        Path of the final model.

    Raises:
        BodyPoseNetError: Data or weights cannot be read, results cannot be written, the device runs
            out of memory, or the training diverges.
        Stopped: A signal stopped the training; its exact position is saved.
    """
    with signals.interruptible():  # There is nothing to save yet.
        training = build_training(spec, results_dir, distributed, key=key, use_amp=use_amp)
    output_dir = results_dir if distributed.is_main else None
    if output_dir is not None:
        with atomic_write(output_dir / "experiment_spec.yaml") as file:
            file.write(spec.text.encode())
    done = training.position
    steps = training.steps_per_epoch, training.steps_done
    with ProgressLogger(spec, output_dir, *steps, status) as progress:
        loop = _Loop(training, progress, signals)
        is_validated = distributed.any(progress.was_validated(done.epoch))  # Known to rank 0 only.
        if training.resumed and not is_validated and not done.samples:
            loop.validate(done.epoch)  # The previous run ended between checkpoint and validation.
        with explain_worker_death():
            for epoch in range(done.epoch + 1, spec.num_epoch + 1):
                loop.train_epoch(epoch)
                loop.save_epoch(epoch)
                loop.validate(epoch)
    final = final_model(spec, results_dir)
    if distributed.is_main:
        save_model(
            final, training.state.eval_network, key=key, epoch=spec.num_epoch, spec=spec.text
        )
    return final


def final_model(spec: TrainSpec, results_dir: Path) -> Path:
    """Return the path of the model that a training writes at its end."""
    return results_dir / f"{spec.final_model_name}.tlt"


class _Loop:
    """Runs the epochs of a training.

    Args:
        training: The training.
        progress: Logger of the progress.
        signals: Signals that stop the training.
    """

    def __init__(self, training: Training, progress: ProgressLogger, signals: StopSignals) -> None:
        self._training = training
        self._progress = progress
        self._signals = signals
        self._last_saved = time.monotonic()
        self._steps_done = training.steps_done
        spec = training.spec
        epochs = range(training.position.epoch + 1, spec.num_epoch + 1)
        within_epoch = self._steps_done % training.steps_per_epoch
        self._batches = training.loader.iterate(epochs, within_epoch * spec.accumulate_steps)

    def train_epoch(self, epoch: int) -> None:
        """Run the remaining steps of an epoch."""
        training, steps_per_epoch = self._training, self._training.steps_per_epoch
        training.state.network.train()
        first, last = self._steps_done, epoch * steps_per_epoch
        for _ in progress_bar(range(first, last), f"epoch {epoch}", last - first, lines=False):
            self._step()
            if self._steps_done < last:
                samples = self._steps_done % steps_per_epoch * training.loader.samples_per_step
                self._save_if_due(Position(epoch - 1, samples))
        self._progress.log_epoch(epoch)

    def save_epoch(self, epoch: int) -> None:
        """Save the checkpoint of an epoch if it is due; after a signal, save and stop."""
        training, spec = self._training, self._training.spec
        check_weights(training.state, epoch)
        if training.distributed.is_main and _is_due(epoch, spec.checkpoint_n_epoch, spec):
            save_checkpoint(
                training.results_dir, Position(epoch), training.state,
                key=training.key, spec=spec.text, keep=spec.max_ckpt_to_keep,
            )  # fmt: skip
            self._last_saved = time.monotonic()
        self._save_if_due(Position(epoch))

    def validate(self, epoch: int) -> None:
        """Validate after an epoch if it is due."""
        spec = self._training.spec
        if not _is_due(epoch, spec.validation_every_n_epoch, spec):
            return
        is_saved = _is_due(epoch, spec.checkpoint_n_epoch, spec)
        if self._training.distributed.world_size > 1 and not is_saved:
            # If a signal stops one rank, the others end at once, without saving.
            self._save(Position(epoch))
        try:
            with self._signals.interruptible():
                result = self._training.validation.run()
        except Stopped:
            self._save(Position(epoch))
            raise
        if result is not None:
            self._progress.log_validation(epoch, result)

    def _step(self) -> None:
        """Run one optimizer step and log it."""
        training, spec = self._training, self._training.spec
        steps = training.steps_per_epoch
        first, last = training.schedule_start * steps, spec.num_epoch * steps
        schedule = spec.optimizer.learning_rate_schedule
        rate = learning_rate(schedule, self._steps_done - first, last - first, steps)
        if spec.lr_scaling == "linear":
            rate *= training.distributed.world_size
        start = time.perf_counter()
        batches = list(islice(self._batches, spec.accumulate_steps))
        data_time = time.perf_counter() - start
        set_learning_rate(training.state.optimizer, rate)
        result = step_with_oom_check(training.step, batches)
        if training.state.ema is not None and not result.skipped:
            training.state.ema.update(self._steps_done - first)
        self._steps_done += 1
        self._progress.log_step(
            self._steps_done, result.losses, rate, samples=training.loader.samples_per_step,
            data_time=data_time, gradient_norm=result.gradient_norm, skipped=result.skipped,
            without_mask=sum(batch.without_mask for batch in batches),
            without_maps=sum(batch.without_maps for batch in batches),
            out_of_scale=sum(batch.out_of_scale for batch in batches),
        )  # fmt: skip

    def _save_if_due(self, position: Position) -> None:
        """Save the position periodically; after a signal, save it and stop.

        Raises:
            Stopped: A rank has received a signal.
        """
        training = self._training
        if training.distributed.any(self._signals.received is not None):
            self._save(position)
            training.distributed.gather(None)  # Wait until rank 0 has saved.
            raise Stopped(self._signals.received or "a signal to another rank")
        interval = training.spec.checkpoint_every_n_secs
        if interval is not None and time.monotonic() - self._last_saved >= interval:
            self._save(position)

    def _save(self, position: Position) -> None:
        """Save the current state on rank 0, as `latest.state`."""
        training = self._training
        check_weights(training.state, position.epoch + 1)
        if training.distributed.is_main:
            save_latest(
                training.results_dir, position, training.state,
                key=training.key, spec=training.spec.text,
            )  # fmt: skip
        self._last_saved = time.monotonic()


def _is_due(epoch: int, every: int, spec: TrainSpec) -> bool:
    """Return whether something is due after an epoch: at its interval, and after the last epoch."""
    return epoch % every == 0 or epoch == spec.num_epoch
