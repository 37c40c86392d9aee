"""Reading of mutated files in a process that may hang, crash or use much memory (Linux only)."""

from __future__ import annotations

import multiprocessing
import os
import resource
import tempfile
import traceback
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random

from bodyposenet import BodyPoseNetError

from .readers import InvalidInputError, Reader, readers, write_seeds

OUTCOMES = ("ok", "clean", "traceback", "crash", "slow", "memory")

_SECONDS = 20.0
_SECONDS_TO_START = 120.0
_MEGABYTES = 1024
_MAX_ADDRESS_SPACE = 12 * 2**30
"""Limit of the address space, which protects the machine."""

_FORK = multiprocessing.get_context("fork")


def write_seeds_in_subprocess(folder: Path) -> None:
    """Write the valid files in a separate process, so that this process can still be forked.

    Raises:
        RuntimeError: The files could not be written.
    """
    log = folder / "seeds.log"
    process = _FORK.Process(target=_write_seeds, args=(folder, log))
    process.start()
    process.join()
    if process.exitcode:
        raise RuntimeError(f"the valid files could not be written:\n{log.read_text()}")


def read_mutations(folder: Path, name: str, seed: int, count: int) -> Counter[str]:
    """Read all mutations of a file in a separate process, which is replaced if it dies.

    Args:
        folder: Folder of the valid files.
        name: Name of the reader.
        seed: Seed of the mutations.
        count: Number of mutations.

    Returns:
        Outcome -> count. Outcomes other than `ok` and `clean` are printed.
    """
    outcomes: Counter[str] = Counter()
    reported: set[str] = set()
    number = 0
    while number < count:
        receiver, sender = multiprocessing.Pipe(duplex=False)
        process = _FORK.Process(
            target=_run_worker, args=(folder, name, seed, number, count, sender), daemon=True
        )
        process.start()
        sender.close()
        valid = receiver.recv() if receiver.poll(_SECONDS_TO_START) else ("slow", "")
        if valid != ("ok", ""):
            raise RuntimeError(f"{name}: the valid file cannot be read: {valid}")
        while number < count:
            outcome, detail = "crash", ""
            try:
                if receiver.poll(_SECONDS):
                    outcome, detail = receiver.recv()
                else:
                    outcome = "slow"
            except EOFError:
                pass
            outcomes[outcome] += 1
            if (
                outcome not in ("ok", "clean")
                and (place := detail.partition(":")[0]) not in reported
            ):
                reported.add(place)
                print(f"{name}, seed {seed}, mutation {number}: {outcome} {detail}", flush=True)
            number += 1
            if outcome in ("crash", "slow"):
                break
        process.kill()
        process.join()
    return outcomes


def _run_worker(
    folder: Path, name: str, seed: int, first: int, count: int, results: Connection
) -> None:
    """Read the mutations from number `first` on, and send the outcome of each."""
    resource.setrlimit(resource.RLIMIT_AS, (_MAX_ADDRESS_SPACE, _MAX_ADDRESS_SPACE))
    reader = readers(folder)[name]
    content = (folder / reader.seed).read_bytes()
    _send_output_to(Path(os.devnull))
    os.chdir(folder)  # for files that mutations refer to
    results.send(_read_one(reader, content))  # also imports modules and compiles the decoder
    for number in range(first, count):
        results.send(_read_one(reader, reader.mutate(content, Random(f"{name} {seed} {number}"))))


def _write_seeds(folder: Path, log: Path) -> None:
    _send_output_to(log)
    write_seeds(folder)


def _send_output_to(path: Path) -> None:
    """Redirect the output of this process to a file; it may have thousands of lines."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT)
    os.dup2(file, 1)
    os.dup2(file, 2)


def _read_one(reader: Reader, content: bytes) -> tuple[str, str]:
    """Return the outcome of a file, and the location of an error."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / Path(reader.seed).name
        path.write_bytes(content)
        return _outcome(reader, path)


def _outcome(reader: Reader, path: Path) -> tuple[str, str]:
    before = _reset_peak()
    try:
        reader.read(path)
        outcome = ("ok", "")
    except (BodyPoseNetError, InvalidInputError):
        outcome = ("clean", "")
    except BaseException as error:
        frames = [
            frame for frame in traceback.extract_tb(error.__traceback__)
            if "bodyposenet" in frame.filename
        ]  # fmt: skip
        place = f"{Path(frames[-1].filename).name} {frames[-1].lineno}" if frames else "?"
        outcome = ("traceback", f"{type(error).__name__} at {place}: {error!s:.150}")
    if _peak_mb() - before > _MEGABYTES:
        return "memory", outcome[1]
    return outcome


def _reset_peak() -> float:
    """Reset the peak of the resident memory, and return the current value in MB."""
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    return _peak_mb()


def _peak_mb() -> float:
    text = Path("/proc/self/status").read_text()
    return int(text.split("VmHWM:")[1].split()[0]) / 1024
