"""Train on a machine that is rented by the hour, in pieces: `pack` at home, `train` there.

pack: a train spec in; its code, specs, records, photos and masks out, as tar files.
train: the tar files in, a piece of the training run; a few small files out, with which the next
piece goes on, on the same machine or a fresh one.
"""

from __future__ import annotations

import argparse
import hashlib
import json
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
from io import BytesIO
from pathlib import Path
from typing import NoReturn

_STOPPED = 75
"""Exit code of `bpnet train`, and of this script: the state is saved, the same command goes on."""
_PATIENCE = 60.0
"""Seconds that the training has for saving its state."""
_CUT = re.compile(r"(?P<name>.+)\.(?P<digest>[0-9a-f]{8})\.cut(?P<number>\d+)of(?P<count>\d+)")
"""Name of a piece of a file; pieces of one file have one digest."""
_MANIFEST = "kit.json"
_OF_A_PIECE = ("model.epoch-*.tlt", "*.state", "*.cut*", "events.out.tfevents.*")
"""Names that differ from piece to piece: only the newest of them stay."""


def main(argv: list[str] | None = None) -> int:
    """Run the script; flags of `train` that it does not know go to `bpnet train`."""
    arguments, flags = _parser().parse_known_args(argv)
    if arguments.command == "train":
        return train(arguments, flags)
    if flags:
        _fail(f"pack knows no {' '.join(flags)}", "See kit.py pack --help.")
    return pack(arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    pack = commands.add_parser("pack", allow_abbrev=False, help="make the kit; needs bodyposenet")
    pack.add_argument("-e", "--experiment_spec_file", type=Path, required=True, metavar="FILE")
    pack.add_argument("--kit", type=Path, required=True, metavar="DIR", help="receives the parts")
    pack.add_argument(
        "--more", type=Path, nargs="+", default=[], metavar="FILE", help="files to bring along"
    )
    pack.add_argument("--packages", type=Path, metavar="DIR", help="of pip install --target DIR")
    pack.add_argument("--max-mb", type=float, default=60, metavar="N", help="a part; 60 by default")
    train = commands.add_parser("train", allow_abbrev=False, help="train a piece")
    folders = {
        "kit": "holds the parts",
        "work": "to unpack and to train in",
        "out": "receives the results",
        "state": "an --out that a fresh machine begins with",
    }
    for name, purpose in folders.items():
        needed = name != "state"
        train.add_argument(f"--{name}", type=Path, required=needed, metavar="DIR", help=purpose)
    train.add_argument(
        "--max-mb", type=float, default=16, metavar="N",
        help="a file that comes back; larger ones are cut; 16 by default",
    )  # fmt: skip
    train.add_argument("--minutes", type=float, default=8, metavar="N", help="8 by default")
    return parser


def pack(arguments: argparse.Namespace) -> int:
    """Write the kit of a train spec, whose paths must be relative to the working directory."""
    from contents import files_of

    import bodyposenet
    from bodyposenet.errors import BodyPoseNetError
    from bodyposenet.specs.training import TrainSpec

    try:
        spec = TrainSpec.load(arguments.experiment_spec_file)
        spec_name = _name_in_kit(arguments.experiment_spec_file)
        content = {spec_name: arguments.experiment_spec_file}
        content |= {_name_in_kit(path): path for path in [*files_of(spec), *arguments.more]}
    except BodyPoseNetError as error:
        _fail(error.what, error.remedy)
    missing = [path for path in content.values() if not path.is_file()]
    if missing:
        _fail(f"{len(missing)} files are missing; the first is {missing[0]}", "Convert again.")
    content |= _tree(Path(bodyposenet.__file__).parent, "src/bodyposenet")
    if arguments.packages:
        content |= _tree(arguments.packages, "site")
    parts = _share_out(content, arguments.max_mb * 1e6)
    for old in arguments.kit.glob("kit-*.tar"):
        old.unlink()
    kit = {"id": uuid.uuid4().hex, "parts": len(parts), "spec": spec_name}
    for number, part in enumerate(parts, 1):
        path = arguments.kit / f"kit-{number:03d}-of-{len(parts):03d}.tar"
        _write_part(path, kit | {"part": number}, part)
        print(f"{path}: {len(part)} files, {path.stat().st_size / 1e6:.1f} MB")
    return 0


def _tree(folder: Path, name: str) -> dict[str, Path]:
    """The files below a folder, named as if it were `name`."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {
        f"{name}/{path.relative_to(folder).as_posix()}": path
        for path in paths
        if not {"__pycache__", "default_model"} & set(path.relative_to(folder).parts)
    }


def _name_in_kit(path: Path) -> str:
    """The path as the spec says it: there it must lead to the same file."""
    name = os.path.normpath(path)
    if path.is_absolute() or name.startswith(os.pardir):
        _fail(
            f"{path}: the kit's machine has no such place",
            "Write all paths of the specs relative to the folder that you pack from.",
        )
    return Path(name).as_posix()


def _share_out(content: Mapping[str, Path], most_bytes: float) -> list[dict[str, Path]]:
    """Files into parts, in their order, so that none becomes larger."""
    parts: list[dict[str, Path]] = [{}]
    taken = 0
    for name, path in content.items():
        size = path.stat().st_size + 2048  # what tar adds is less
        if parts[-1] and taken + size > most_bytes:
            parts.append({})
            taken = 0
        parts[-1][name] = path
        taken += size
    return parts


def _write_part(path: Path, manifest: Mapping[str, object], content: Mapping[str, Path]) -> None:
    from bodyposenet.files import atomic_write

    with atomic_write(path) as file, tarfile.open(fileobj=file, mode="w") as tar:
        told = json.dumps(manifest).encode()
        entry = tarfile.TarInfo(_MANIFEST)
        entry.size = len(told)
        tar.addfile(entry, BytesIO(told))
        for name, source in content.items():
            tar.add(source.resolve(), name)  # the photos may be links


def train(arguments: argparse.Namespace, flags: list[str]) -> int:
    """Train until the time is up or the training has ended.

    Returns:
        0 where the training has ended, 75 where the next piece goes on, 1 or 2 after an error.
    """
    end = time.monotonic() + 60 * arguments.minutes
    files, results = arguments.work / "files", (arguments.work / "results").resolve()
    spec = _unpack(arguments.kit, arguments.work)
    if arguments.state and not results.exists():
        _put_back(arguments.state, results)
    places = [str(files.resolve() / "src"), str(files.resolve() / "site")]
    places += [place for place in [os.environ.get("PYTHONPATH")] if place]
    command = [sys.executable, "-m", "bodyposenet.cli", "train", "-e", spec, "-r", str(results)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(places)}
    with subprocess.Popen([*command, *flags], cwd=files, env=environment) as training:
        signal.signal(signal.SIGTERM, lambda *_: training.terminate())  # the machine is taken away
        code = _wait(training, end)
    kept = _hand_over(results, arguments.out, int(arguments.max_mb * 1e6))
    return code if kept or code == 0 else 1


def _unpack(kit: Path, work: Path) -> str:
    """Unpack the parts that are new, in any order and any number of calls; the spec's name."""
    work.mkdir(parents=True, exist_ok=True)
    notes, known = work / _MANIFEST, {"id": "", "parts": 0, "spec": "", "unpacked": []}
    if notes.exists():
        known = json.loads(notes.read_text())
    for path in sorted(kit.glob("kit-*.tar")):
        with tarfile.open(path) as tar:
            manifest = json.load(tar.extractfile(_MANIFEST) or BytesIO())
            if manifest["id"] != known["id"]:
                known = manifest | {"unpacked": []}
            if manifest["part"] not in known["unpacked"]:
                tar.extractall(work / "files", filter="data")
                known["unpacked"].append(manifest["part"])
                _write(notes, json.dumps(known).encode())
    if not known["parts"]:
        _fail(f"{kit}: holds no parts of a kit", "Make them with kit.py pack.")
    if len(known["unpacked"]) < known["parts"]:
        _fail(
            f"{len(known['unpacked'])} of {known['parts']} parts are here, and unpacked",
            "Bring the others, all at once or one by one, and run this again.",
        )
    return known["spec"]


def _put_back(state: Path, results: Path) -> None:
    """Fill the results folder of a fresh machine with what an earlier piece handed over."""
    arriving = results.with_name("arriving")
    shutil.rmtree(arriving, ignore_errors=True)  # of a machine that was taken away just then
    events = arriving / "events"
    events.mkdir(parents=True)
    for path in state.glob("*"):  # the first piece finds nothing there
        shutil.copy(path, events if path.name.startswith("events.") else arriving)
    _join(arriving)
    arriving.rename(results)


def _join(folder: Path) -> None:
    """Put the pieces of files together, where all of them have arrived."""
    pieces: dict[tuple[str, str, int], dict[int, Path]] = {}
    for path in folder.iterdir():
        if cut := _CUT.fullmatch(path.name):
            file = cut["name"], cut["digest"], int(cut["count"])
            pieces.setdefault(file, {})[int(cut["number"])] = path
    for (name, _, count), paths in pieces.items():
        if len(paths) == count:
            _write(folder / name, b"".join(paths[n].read_bytes() for n in sorted(paths)))
        for path in paths.values():
            path.unlink()


def _wait(training: subprocess.Popen[bytes], end: float) -> int:
    """Ask the training to stop at the end of its time; its exit code."""
    with suppress(subprocess.TimeoutExpired):
        return training.wait(max(end - time.monotonic(), 0))
    training.terminate()
    try:
        code = training.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        print("the training does not stop: its last saved state counts", file=sys.stderr)
        training.kill()
        code = training.wait()
    return _STOPPED if code < 0 else code  # a signal took it before it could answer


def _hand_over(results: Path, out: Path, most_bytes: int) -> bool:
    """Copy the results that matter, in place of those of the piece before.

    Returns:
        Whether the next piece can go on with them; if not, those of before stay.
    """
    out.mkdir(parents=True, exist_ok=True)
    chosen = {path.name: path.read_bytes() for path in _newest(results)}
    events = sorted((results / "events").glob("events.*"))
    if events:  # event files are sequences of records: put together they are one
        chosen[events[0].name] = b"".join(path.read_bytes() for path in events)
    if not any(name.endswith(".state") for name in chosen):
        print("there is no new state to go on from", file=sys.stderr)
        return False
    handed = dict(cut for file in chosen.items() for cut in _cut(*file, most_bytes))
    for name, content in handed.items():
        _write(out / name, content)
    for pattern in _OF_A_PIECE:
        for old in out.glob(pattern):
            if old.name not in handed:
                old.unlink()
    return True


def _cut(name: str, content: bytes, most_bytes: int) -> Iterator[tuple[str, bytes]]:
    """A file as it is, or the pieces of a larger one."""
    if len(content) <= most_bytes:
        yield name, content
        return
    starts = range(0, len(content), most_bytes)
    digest = hashlib.sha256(content).hexdigest()[:8]
    for number, start in enumerate(starts, 1):
        cut = f"{name}.{digest}.cut{number}of{len(starts)}"
        yield cut, content[start : start + most_bytes]


def _newest(results: Path) -> list[Path]:
    """At most seven files: with them a training goes on, and can be looked at."""
    models = set(results.glob("model.epoch-*.tlt"))
    final = set(results.glob("*.tlt")) - models
    last = sorted(models, key=lambda path: int(path.stem.rpartition("-")[2]))[-1:]
    within = results / "latest.state"  # where there is one, it is furthest
    states = [within] if within.exists() else [path.with_suffix(".state") for path in last]
    others = [results / name for name in ("status.json", "experiment_spec.yaml", "report.html")]
    return [path for path in (*states, *last, *final, *others) if path.exists()]


def _write(path: Path, content: bytes) -> None:
    """Replace a file at once."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(content)
    temporary.replace(path)


def _fail(what: str, remedy: str) -> NoReturn:
    print(f"error: {what}\n       {remedy}", file=sys.stderr)
    raise SystemExit(2)


if __name__ == "__main__":
    sys.exit(main())
