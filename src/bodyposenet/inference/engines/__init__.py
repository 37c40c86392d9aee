"""Inference engines: one interface to run the network of a model file on any runtime.

- `base`: the interface (`Engine`), devices and the description of a model.
- `pytorch`: `.tlt` and `.hdf5` files, and networks in training.
- `onnx`, `openvino`: `.onnx` and `.etlt` files; `openvino` also runs compiled models (`.engine`).
- `tensorrt`: plans (`.engine`), and their build.
- `exported`: what the engines of exported models share: inputs, outputs, normalization.
- `onnx_file`: metadata of ONNX files, and encrypted ONNX files (`.etlt`).
- `engine_file`: engine files (`.engine`).
- `fork_safety`: protection against running or destroying sessions in forked processes.

The engine for a model file is chosen by `inference.models`.
"""
