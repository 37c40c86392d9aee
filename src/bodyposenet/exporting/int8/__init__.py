"""Post-training INT8 quantization of exported models.

- `quantization`: entry point (`quantize`), and the choice of the layers that compute in INT8.
- `calibration`: the images and files that the ranges of a model's tensors come from.
- `ranges`: measurement of the ranges on images (minmax, percentile or entropy).
- `calibration_cache` and `tensorfile`: TensorRT's and TAO's files of ranges and of images.
- `cross_layer_equalization`: scaling of channels before quantization.
- `qdq`: insertion of QuantizeLinear and DequantizeLinear nodes.
"""
