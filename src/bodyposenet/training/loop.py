"""A train spec in, a trained model out: the whole loop on one page."""

from __future__ import annotations

import time
from itertools import islice
from pathlib import Path

from bodyposenet.console import progress
from bodyposenet.errors import Stopped
from bodyposenet.files import atomic_write
from bodyposenet.model.checkpoint import save_model
from bodyposenet.results_folder import StatusFile
from bodyposenet.specs.training import TrainSpec
from bodyposenet.training.batches import worker_deaths_explained
from bodyposenet.training.checkpoints import Position, check_weights, save_checkpoint, save_position
from bodyposenet.training.distributed import DistributedContext
from bodyposenet.training.optimizer import set_learning_rate
from bodyposenet.training.preparation import Training, prepare_training
from bodyposenet.training.progress import Progress
from bodyposenet.training.schedule import learning_rate
from bodyposenet.training.signals import StopSignals
from bodyposenet.training.step import step_within_memory


def train(
    spec: TrainSpec,
    results_dir: Path,
    ranks: DistributedContext,
    stop: StopSignals,
    *,
    key: str,
    use_amp: bool,
    status: StatusFile | None,
) -> Path:
    """Train as the spec says; run again, it goes on where it was saved last.

    Args:
        spec: The train spec.
        results_dir: Receives checkpoints, the final model, TensorBoard events and a report.
        ranks: Who trains together; the first writes the files.
        stop: What may ask for the end.
        key: Closes model files; empty: plain.
        use_amp: Compute in mixed precision.
        status: Receives a line per epoch; None for all ranks but the first.

    Returns:
        The final model's path.

    Raises:
        BodyPoseNetError: Data or weights cannot be read, results cannot be written, memory is too
            small, or the loss is no number any more.
        Stopped: SIGTERM or SIGUSR1 asked for the end; the exact position is saved.
    """
    with stop.at_once():  # nothing is lost yet
        training = prepare_training(spec, results_dir, ranks, key=key, use_amp=use_amp)
    folder = results_dir if ranks.is_first else None
    if folder is not None:
        with atomic_write(folder / "experiment_spec.yaml") as file:
            file.write(spec.text.encode())
    done = training.position
    steps = training.steps_per_epoch, training.steps_done
    with Progress(spec, folder, *steps, status) as progress:
        loop = _Loop(training, progress, stop)
        known = ranks.any(progress.was_validated(done.epoch))  # the first rank knows
        if training.resumed and not known and not done.samples:
            loop.validate(done.epoch)  # the run ended between the checkpoint and that
        with worker_deaths_explained():
            for epoch in range(done.epoch + 1, spec.num_epoch + 1):
                loop.train_epoch(epoch)
                loop.save_epoch(epoch)
                loop.validate(epoch)
    final = final_model(spec, results_dir)
    if ranks.is_first:
        save_model(final, training.state.result, key=key, epoch=spec.num_epoch, spec=spec.text)
    return final


def final_model(spec: TrainSpec, results_dir: Path) -> Path:
    """The file that a training writes at its end."""
    return results_dir / f"{spec.final_model_name}.tlt"


class _Loop:
    """The epochs of a training.

    Args:
        training: What is trained, on what, and how far it is.
        progress: Follows it.
        stop: What may ask for its end.
    """

    def __init__(self, training: Training, progress: Progress, stop: StopSignals) -> None:
        self._training = training
        self._progress = progress
        self._stop = stop
        self._saved = time.monotonic()
        self._done = training.steps_done
        spec, batches = training.spec, training.batches
        epochs = range(training.position.epoch + 1, spec.num_epoch + 1)
        within_epoch = self._done % training.steps_per_epoch
        self._batches = batches.run(epochs, within_epoch * spec.accumulate_steps)

    def train_epoch(self, epoch: int) -> None:
        """Do the steps of an epoch that are not done yet."""
        training, per_epoch = self._training, self._training.steps_per_epoch
        training.state.network.train()
        first, last = self._done, epoch * per_epoch
        for _ in progress(range(first, last), f"epoch {epoch}", last - first, lines=False):
            self._step()
            if self._done < last:
                samples = self._done % per_epoch * training.batches.samples_per_step
                self._save_if_asked(Position(epoch - 1, samples))
        self._progress.end_epoch(epoch)

    def save_epoch(self, epoch: int) -> None:
        """Save the checkpoint of an epoch, where one is due, and stop, where that was asked."""
        training, spec = self._training, self._training.spec
        check_weights(training.state, epoch)
        if training.ranks.is_first and _is_due(epoch, spec.checkpoint_n_epoch, spec):
            save_checkpoint(
                training.results_dir, Position(epoch), training.state,
                key=training.key, spec=spec.text, keep=spec.max_ckpt_to_keep,
            )  # fmt: skip
            self._saved = time.monotonic()
        self._save_if_asked(Position(epoch))

    def validate(self, epoch: int) -> None:
        """Validate after an epoch, where that is due."""
        spec = self._training.spec
        if not _is_due(epoch, spec.validation_every_n_epoch, spec):
            return
        if self._training.ranks.count > 1 and not _is_due(epoch, spec.checkpoint_n_epoch, spec):
            self._save(Position(epoch))  # one that leaves takes the others along, at once
        try:
            with self._stop.at_once():
                result = self._training.validation.run()
        except Stopped:
            self._save(Position(epoch))
            raise
        if result is not None:
            self._progress.validated(epoch, result)

    def _step(self) -> None:
        training, spec = self._training, self._training.spec
        steps = training.steps_per_epoch
        first, last = training.schedule_start * steps, spec.num_epoch * steps
        schedule = spec.optimizer.learning_rate_schedule
        rate = learning_rate(schedule, self._done - first, last - first, steps)
        if spec.lr_scaling == "linear":
            rate *= training.ranks.count
        waiting = time.perf_counter()
        batches = list(islice(self._batches, spec.accumulate_steps))
        waited = time.perf_counter() - waiting
        set_learning_rate(training.state.optimizer, rate)
        result = step_within_memory(training.step, batches)
        if training.state.average is not None and not result.skipped:
            training.state.average.update(self._done - first)
        self._done += 1
        self._progress.step(
            self._done, result.losses, rate, samples=training.batches.samples_per_step,
            waited=waited, gradient_norm=result.gradient_norm, skipped=result.skipped,
            without_mask=sum(batch.without_mask for batch in batches),
            without_maps=sum(batch.without_maps for batch in batches),
            out_of_scale=sum(batch.out_of_scale for batch in batches),
        )  # fmt: skip

    def _save_if_asked(self, position: Position) -> None:
        """Save the position where the clock or a signal asks for it; after a signal, stop."""
        training = self._training
        if training.ranks.any(self._stop.received is not None):
            self._save(position)
            training.ranks.gather(None)  # nobody leaves before the first has saved
            raise Stopped(self._stop.received or "a signal to another rank")
        every = training.spec.checkpoint_every_n_secs
        if every is not None and time.monotonic() - self._saved >= every:
            self._save(position)

    def _save(self, position: Position) -> None:
        training = self._training
        check_weights(training.state, position.epoch + 1)
        if training.ranks.is_first:
            save_position(
                training.results_dir, position, training.state,
                key=training.key, spec=training.spec.text,
            )  # fmt: skip
        self._saved = time.monotonic()


def _is_due(epoch: int, every: int, spec: TrainSpec) -> bool:
    return epoch % every == 0 or epoch == spec.num_epoch
