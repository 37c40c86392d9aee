"""Valid files, what may become of them, and what reads them: for `benchmarks.faults`."""
