"""The network: architectures, training targets, loss, model files and pretrained weights.

- `network`: `BodyPoseNetwork`, a backbone and stages that predict heatmaps and PAFs.
- `architectures`: the backbones and the trunks of the stages.
- `layers`: builder of sequential layers, residual connections and self-attention.
- `targets`: heatmaps and PAFs to train on, rendered from keypoints.
- `loss`: losses of all stages, focal weighting and weight regularization.
- `checkpoint`: model files (`.tlt`).
- `keras_hdf5`: models and weights of TAO 5 (`.hdf5`).
- `pretrained`: weights of many formats to start a training from.
"""
