"""Training: a train spec in, checkpoints and a trained model out."""
