"""The original's ways, rewritten with numpy and OpenCV: the baselines of the benchmarks."""
