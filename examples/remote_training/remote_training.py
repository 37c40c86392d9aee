"""Train on another machine, such as one rented by the hour.

`pack` writes the code, specs, records, photos and masks of a train spec to tar files. `train`
unpacks them on the other machine, trains, and copies a few files to a folder, from which the same
command resumes the training, on the same machine or on another one.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import NoReturn

_STOPPED = 75
"""Exit code of `bpnet train` and of this script: stopped; the same command resumes."""
_SPLIT = re.compile(r"(?P<name>.+)\.(?P<digest>[0-9a-f]{8})\.cut(?P<number>\d+)of(?P<count>\d+)")
"""Name of a part of a split file; the parts of one file have the same digest."""
_MANIFEST = "manifest.json"
_OUTDATED = ("model.epoch-*.tlt", "*.state", "*.cut*", "events.out.tfevents.*")
"""Patterns of result files whose names change as the training progresses."""


def main(argv: list[str] | None = None) -> int:
    """Run the script; unknown flags of `train` are passed on to `bpnet train`."""
    arguments, flags = _parser().parse_known_args(argv)
    if arguments.command == "train":
        return train(arguments, flags)
    if flags:
        _fail(f"Unknown flags of pack: {' '.join(flags)}", "See remote_training.py pack --help.")
    return pack(arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    pack = commands.add_parser(
        "pack", allow_abbrev=False, help="write the archive; needs bodyposenet"
    )
    pack.add_argument("-e", "--experiment_spec_file", type=Path, required=True, metavar="FILE")
    pack.add_argument(
        "--archive", type=Path, required=True, metavar="DIR", help="folder for the parts"
    )
    pack.add_argument(
        "--more", type=Path, nargs="+", default=[], metavar="FILE", help="more files to pack"
    )
    pack.add_argument(
        "--packages", type=Path, metavar="DIR", help="folder of pip install --target DIR"
    )
    pack.add_argument(
        "--max_part_mb", type=_number, default=1000, metavar="N",
        help="maximum size of a part; a larger file is a part of its own; default: 1000",
    )  # fmt: skip
    train = commands.add_parser("train", allow_abbrev=False, help="train, and copy the results")
    folders = {
        "archive": "folder of the parts",
        "work": "working folder, to unpack and to train in",
        "out": "folder for the results",
        "state": "the --out folder of an earlier run, to resume from on another machine",
    }
    for name, purpose in folders.items():
        needed = name != "state"
        train.add_argument(f"--{name}", type=Path, required=needed, metavar="DIR", help=purpose)
    for name, kind, default, purpose in (
        ("minutes", _number, None, "minutes until the training is stopped; default: no limit"),
        ("seconds_to_save", _number, 300, "seconds for saving the state then; default: 300"),
        ("copy_every_minutes", _number, 10, "minutes between copies to --out; default: 10"),
        ("max_file_mb", _number, 1000, "larger result files are split; default: 1000"),
        ("keep_models", _count, 3, "number of latest epochs whose models are copied; default: 3"),
    ):
        train.add_argument(f"--{name}", type=kind, default=default, metavar="N", help=purpose)
    return parser


def _number(text: str) -> float:
    """Parse a number above 0."""
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text}")
    return value


def _count(text: str) -> int:
    """Parse a whole number from 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, got {text}")
    return value


def pack(arguments: argparse.Namespace) -> int:
    """Write the archive of a train spec, whose paths must be relative to the working directory."""
    from training_files import files_of

    import bodyposenet
    from bodyposenet.errors import BodyPoseNetError
    from bodyposenet.specs.training import TrainSpec

    try:
        spec = TrainSpec.load(arguments.experiment_spec_file)
        spec_name = _archive_name(arguments.experiment_spec_file)
        content = {spec_name: arguments.experiment_spec_file}
        content |= {_archive_name(path): path for path in [*files_of(spec), *arguments.more]}
    except BodyPoseNetError as error:
        _fail(error.what, error.remedy)
    missing = [path for path in content.values() if not path.is_file()]
    if missing:
        _fail(
            f"{len(missing)} files are missing; the first is {missing[0]}",
            "Restore them, or run dataset_convert again.",
        )
    content |= _tree(Path(bodyposenet.__file__).parent, "src/bodyposenet")
    if arguments.packages:
        content |= _tree(arguments.packages, "site")
    parts = _distribute(content, arguments.max_part_mb * 1e6)
    for old in arguments.archive.glob("training-*.tar"):
        old.unlink()
    manifest = {"id": uuid.uuid4().hex, "parts": len(parts), "spec": spec_name}
    for number, part in enumerate(parts, 1):
        path = arguments.archive / f"training-{number:03d}-of-{len(parts):03d}.tar"
        _write_part(path, manifest | {"part": number}, part)
        print(f"{path}: {len(part)} files, {path.stat().st_size / 1e6:.1f} MB")
    return 0


def _tree(folder: Path, name: str) -> dict[str, Path]:
    """Return archive name -> path of the files in a folder, under the name `name`."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {
        f"{name}/{path.relative_to(folder).as_posix()}": path
        for path in paths
        if "__pycache__" not in path.relative_to(folder).parts
    }


def _archive_name(path: Path) -> str:
    """Return the path as in the spec, which must be relative to the working directory."""
    name = os.path.normpath(path)
    if path.is_absolute() or name.startswith(os.pardir):
        _fail(
            f"{path}: not below the working directory, so it does not exist on the other machine",
            "Write all paths of the specs relative to the folder that you pack from.",
        )
    return Path(name).as_posix()


def _distribute(content: Mapping[str, Path], most_bytes: float) -> list[dict[str, Path]]:
    """Distribute files over parts of limited size, in their order."""
    parts: list[dict[str, Path]] = [{}]
    taken = 0
    for name, path in content.items():
        size = path.stat().st_size + 2048  # more than tar adds
        if parts[-1] and taken + size > most_bytes:
            parts.append({})
            taken = 0
        parts[-1][name] = path
        taken += size
    return parts


def _write_part(path: Path, manifest: Mapping[str, object], content: Mapping[str, Path]) -> None:
    from bodyposenet.files import atomic_write

    with atomic_write(path) as file, tarfile.open(fileobj=file, mode="w") as tar:
        content_of_manifest = json.dumps(manifest).encode()
        entry = tarfile.TarInfo(_MANIFEST)
        entry.size = len(content_of_manifest)
        tar.addfile(entry, BytesIO(content_of_manifest))
        for name, source in content.items():
            tar.add(source.resolve(), name)  # photos may be links


def train(arguments: argparse.Namespace, flags: list[str]) -> int:
    """Train until the time limit or the end of the training.

    Returns:
        0 if the training is finished, 75 if the same command resumes it, 1 or 2 after an error.
    """
    minutes = math.inf if arguments.minutes is None else arguments.minutes
    end = time.monotonic() + 60 * minutes
    files, results = arguments.work / "files", (arguments.work / "results").resolve()
    spec = _unpack(arguments.archive, arguments.work)
    if arguments.state and not results.exists():
        _restore(arguments.state, results)
    places = [str(files.resolve() / "src"), str(files.resolve() / "site")]
    places += [place for place in [os.environ.get("PYTHONPATH")] if place]
    command = [sys.executable, "-m", "bodyposenet.cli", "train", "-e", spec, "-r", str(results)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(places)}
    copy = partial(
        _copy_results, results, arguments.out,
        most_bytes=int(arguments.max_file_mb * 1e6), models=arguments.keep_models,
    )  # fmt: skip
    with subprocess.Popen([*command, *flags], cwd=files, env=environment) as training:
        signal.signal(signal.SIGTERM, lambda *_: training.terminate())  # the machine is shut down
        signal.signal(signal.SIGINT, lambda *_: None)  # Ctrl-C stops the training by itself
        while training.poll() is None and (left := end - time.monotonic()) > 0:
            with suppress(subprocess.TimeoutExpired):
                training.wait(min(left, 60 * arguments.copy_every_minutes))
            if training.poll() is None:
                with suppress(FileNotFoundError):  # replaced meanwhile; the next copy has them
                    copy()
        code = _stop(training, arguments.seconds_to_save)
    if copy():
        return code
    print("No training state was saved.", file=sys.stderr)
    return 1 if code else 0


def _unpack(folder: Path, work: Path) -> str:
    """Unpack new parts, in any order and over any number of calls; return the name of the spec."""
    work.mkdir(parents=True, exist_ok=True)
    manifest_file, known = work / _MANIFEST, {"id": "", "parts": 0, "spec": "", "unpacked": []}
    if manifest_file.exists():
        known = json.loads(manifest_file.read_text("utf-8"))
    for path in sorted(folder.glob("training-*.tar")):
        with tarfile.open(path) as tar:
            manifest = json.load(tar.extractfile(_MANIFEST) or BytesIO())
            if manifest["id"] != known["id"]:
                known = manifest | {"unpacked": []}
            if manifest["part"] not in known["unpacked"]:
                tar.extractall(work / "files", filter="data")
                known["unpacked"].append(manifest["part"])
                _write(manifest_file, json.dumps(known).encode())
    if not known["parts"]:
        _fail(
            f"No parts of an archive (training-*.tar) in {folder}",
            "Write them with remote_training.py pack.",
        )
    if len(known["unpacked"]) < known["parts"]:
        _fail(
            f"{len(known['unpacked'])} of {known['parts']} parts are unpacked; others are missing",
            "Copy the missing parts, all at once or one by one, and run the command again.",
        )
    return known["spec"]


def _restore(state: Path, results: Path) -> None:
    """Restore the results folder on another machine from the files of an earlier run."""
    restoring = results.with_name("restoring")
    shutil.rmtree(restoring, ignore_errors=True)  # left by an interrupted restore
    events = restoring / "events"
    events.mkdir(parents=True)
    for path in state.glob("*"):  # empty at first
        shutil.copy(path, events if path.name.startswith("events.") else restoring)
    _join(restoring)
    restoring.rename(results)


def _join(folder: Path) -> None:
    """Join split files whose parts are all present; remove the parts."""
    found: dict[tuple[str, str, int], dict[int, Path]] = {}
    for path in folder.iterdir():
        if cut := _SPLIT.fullmatch(path.name):
            file = cut["name"], cut["digest"], int(cut["count"])
            found.setdefault(file, {})[int(cut["number"])] = path
    for (name, _, count), paths in found.items():
        if len(paths) == count:
            _write(folder / name, b"".join(paths[n].read_bytes() for n in sorted(paths)))
        for path in paths.values():
            path.unlink()


def _stop(training: subprocess.Popen[bytes], seconds: float) -> int:
    """Stop the training if it is running; return its exit code.

    Args:
        training: The process.
        seconds: Time to save its state.
    """
    if training.poll() is None:
        training.terminate()
    try:
        code = training.wait(seconds)
    except subprocess.TimeoutExpired:
        print("The training did not stop in time; its last saved state is used.", file=sys.stderr)
        training.kill()
        code = training.wait()
    return _STOPPED if code < 0 else code  # below 0: ended by a signal


def _copy_results(results: Path, out: Path, *, most_bytes: int, models: int) -> bool:
    """Replace the files of an earlier copy by the current results.

    Args:
        results: Results folder of the training.
        out: Folder of the copies.
        most_bytes: Maximum size of a file; larger ones are split.
        models: Number of epochs, the latest, whose models are copied.

    Returns:
        Whether the training can resume from the results; if not, the earlier copy is kept.

    Raises:
        FileNotFoundError: The training replaced a file at the same time. The earlier copy is kept.
    """
    out.mkdir(parents=True, exist_ok=True)
    chosen = {path.name: path.read_bytes() for path in _newest(results, models)}
    events = sorted((results / "events").glob("events.*"))
    if events:  # event files are sequences of records, so they can be concatenated
        chosen[events[0].name] = b"".join(path.read_bytes() for path in events)
    if not any(name.endswith(".state") for name in chosen):
        return False
    files = dict(cut for file in chosen.items() for cut in _split(*file, most_bytes))
    for name, content in files.items():
        _write(out / name, content)
    for pattern in _OUTDATED:
        for old in out.glob(pattern):
            if old.name not in files:
                old.unlink()
    return True


def _split(name: str, content: bytes, most_bytes: int) -> Iterator[tuple[str, bytes]]:
    """Yield a file, or the parts of a larger file."""
    if len(content) <= most_bytes:
        yield name, content
        return
    starts = range(0, len(content), most_bytes)
    digest = hashlib.sha256(content).hexdigest()[:8]
    for number, start in enumerate(starts, 1):
        cut = f"{name}.{digest}.cut{number}of{len(starts)}"
        yield cut, content[start : start + most_bytes]


def _newest(results: Path, models: int) -> list[Path]:
    """List the files that are needed to resume and to inspect the training.

    Args:
        results: Results folder of the training.
        models: Number of epochs, the latest, whose models are listed.
    """
    epochs = sorted(
        results.glob("model.epoch-*.tlt"), key=lambda path: int(path.stem.rpartition("-")[2])
    )
    final = set(results.glob("*.tlt")) - set(epochs)
    within = results / "latest.state"  # the most recent state, if it exists
    states = [within] if within.exists() else [path.with_suffix(".state") for path in epochs[-1:]]
    others = [results / name for name in ("status.json", "experiment_spec.yaml", "report.html")]
    listed = (*states, *epochs[-models:], *final, *others)
    return [path for path in listed if path.exists()]


def _write(path: Path, content: bytes) -> None:
    """Replace a file atomically."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(content)
    temporary.replace(path)


def _fail(what: str, remedy: str) -> NoReturn:
    print(f"error: {what}\n       {remedy}", file=sys.stderr)
    raise SystemExit(2)


if __name__ == "__main__":
    sys.exit(main())
