"""Robustness of all file readers against damaged, unusual and malicious files.

python -m benchmarks.faults [--reader NAME] [--mutations N] [--seed N] [--quick] [--json FILE]

Every reader reads 3,000 mutations of a small valid file, most of which keep the structure of its
format. Outcomes: `ok`, the file is usable; `clean`, one error that names the file; `traceback`, any
other exception; `crash`, the process died; `slow`, more than 20 s; `memory`, more than 1 GB. The
last four must be 0.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from pathlib import Path

from . import harness
from .mutated_files.readers import readers
from .mutated_files.trial import OUTCOMES, read_mutations, write_seeds_in_subprocess


def measure(arguments: argparse.Namespace) -> harness.Figures:
    """Mutate and read the files of every reader, and count the outcomes."""
    count = arguments.mutations or (10 if arguments.quick else 3000)
    figures: dict[str, float] = {}
    totals: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_seeds_in_subprocess(folder)
        for reader in arguments.reader or readers(folder):
            outcomes = read_mutations(folder, reader, arguments.seed, count)
            totals.update(outcomes)
            figures |= {f"{reader}: {kind}": outcomes[kind] for kind in OUTCOMES if outcomes[kind]}
    return figures | {f"all: {kind}": totals[kind] for kind in OUTCOMES}


if __name__ == "__main__":
    flags = harness.parser("faults", __doc__)
    flags.add_argument(
        "--reader", action="append", metavar="NAME", help="only this reader; can be repeated"
    )
    flags.add_argument(
        "--mutations", type=int, metavar="N", help="mutations of each file; default: 3000"
    )
    flags.add_argument(
        "--seed", type=int, default=0, metavar="N", help="seed of the mutations; default: 0"
    )
    harness.run("faults", flags, measure)
