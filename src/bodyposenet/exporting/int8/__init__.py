"""A float32 ONNX file and calibration images in, the same model in INT8 out."""
