"""The network: architectures, training targets, loss, checkpoints and pretrained weights."""
