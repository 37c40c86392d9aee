"""Post-training INT8 quantization of exported models.

- `quantization`: entry point (`quantize`), and the choice of the layers that compute in INT8.
- `calibration_source`: the images and files that ranges come from, and their agreement with the
  options.
- `calibration`: the ranges of a model's tensors, measured or read from a cache.
- `activations`: the tensors of a model on images or on drawn people.
- `ranges`: measurement of the ranges on images (minmax, percentile or entropy).
- `calibration_cache` and `tensorfile`: TensorRT's and TAO's files of ranges and of images.
- `cross_layer_equalization`: scaling of channels before quantization.
- `weight_rounding`: rounding of weights with error feedback.
- `convolutions`: kind and parameters of the convolutions in a graph.
- `qdq`: insertion of QuantizeLinear and DequantizeLinear nodes.

Whether a quantized model is good enough to be written is decided by `exporting.verification`, on
photos that it was not calibrated on (`exporting.photos`).
"""
