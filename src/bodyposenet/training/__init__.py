"""Training: data loading, optimization, distributed processes, validation and checkpoints."""
