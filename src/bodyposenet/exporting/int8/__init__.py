"""INT8 quantization of exported models: calibration, and QuantizeLinear/DequantizeLinear."""
