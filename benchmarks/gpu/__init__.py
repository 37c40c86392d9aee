"""Benchmarks for CUDA devices; at a tiny size they also run on a CPU."""
