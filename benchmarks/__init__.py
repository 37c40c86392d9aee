"""Benchmarks of speed, memory and accuracy: `python -m benchmarks.NAME [--quick] [--json FILE]`."""

import os

os.environ.setdefault("GOMP_SPINCOUNT", "3000")  # before torch is imported, as `bpnet` does
