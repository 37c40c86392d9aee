"""Benchmarks that need a CUDA device for figures worth telling; all of them run on a CPU too."""
