"""Benchmarks of speed, memory and accuracy: `python -m benchmarks.NAME [--quick] [--json FILE]`."""

import os

os.environ.setdefault("GOMP_SPINCOUNT", "3000")  # read when torch is imported; set by `bpnet`, too
