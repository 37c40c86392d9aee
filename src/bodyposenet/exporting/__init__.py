"""Export of trained networks: ONNX, float16, INT8, engines, verification and bundles.

`bpnet export` (`commands.export`) uses the modules in this order:

- `outputs`: the names of the input and output files, and checks that they can be written.
- `onnx`: export of a network as a float32 ONNX file with TAO's layer names.
- `float16` and `int8`: conversion of that file to another data type.
- `photos`: selection and reading of photos, for calibration and verification.
- `verification`: comparison of the exported model with its network.
- `decoding_graph` and `decoding_verification`: decoding inside the model (`--with_decoding`).
- `web`: web pages that run a model in the browser (`bpnet web`).
- `bundle`: deployment bundles, folders with files for other runtimes.
- `engine`: engine files of TensorRT and OpenVINO.
"""

from typing import Literal

DataType = Literal["fp32", "fp16", "int8-cpu", "int8-tensorrt"]
"""Data type of weights and computation, as written to the header of an exported file."""
