"""Valid files, their mutations and their readers, for `benchmarks.faults`."""
