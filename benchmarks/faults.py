"""Files that are damaged, odd or malicious: do all readers end cleanly, in time and in bounds?

python -m benchmarks.faults [--reader NAME] [--mutations N] [--seed N] [--quick] [--json FILE]

Every reader gets 3,000 mutations of a small valid file, most of which keep the structure of its
format. Outcomes: `ok`, it could be used; `clean`, one error that names the file; `traceback`, any
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
from .mutated_files.trial import OUTCOMES, read_mutations, write_seeds_apart


def measure(arguments: argparse.Namespace) -> harness.Figures:
    """Mutate and read."""
    count = arguments.mutations or (10 if arguments.quick else 3000)
    figures: dict[str, float] = {}
    totals: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_seeds_apart(folder)
        for reader in arguments.reader or readers(folder):
            outcomes = read_mutations(folder, reader, arguments.seed, count)
            totals.update(outcomes)
            figures |= {f"{reader}: {kind}": outcomes[kind] for kind in OUTCOMES if outcomes[kind]}
    return figures | {f"all: {kind}": totals[kind] for kind in OUTCOMES}


if __name__ == "__main__":
    flags = harness.parser("faults", __doc__)
    flags.add_argument("--reader", action="append", metavar="NAME", help="only this one; repeat it")
    flags.add_argument("--mutations", type=int, metavar="N", help="of each file; 3000 by default")
    flags.add_argument("--seed", type=int, default=0, metavar="N", help="0 by default")
    harness.run("faults", flags, measure)
