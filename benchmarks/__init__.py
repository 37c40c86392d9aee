"""The project's figures, measured: `python -m benchmarks.NAME [--quick] [--json FILE]`."""
