"""Tests of what the OpenVINO engine changes: the signal stack, and quantization before ELUs."""

import ctypes
import sys

import numpy as np
import onnx
import openvino
import pytest
from onnx import TensorProto, helper, numpy_helper
from openvino import opset13

from bodyposenet.inference.engines.openvino import (
    _Stack,
    preserve_signal_stack,
    remove_quantization_before_elu,
)


def find_stack():
    stack = _Stack()
    ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack))
    return stack.pointer, stack.flags, stack.size


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux is known to need it")
def test_compiling_preserves_the_signal_stack():
    images = opset13.parameter([1, 3], np.float32)
    model = openvino.Model([opset13.relu(images)], [images])
    before = find_stack()
    with preserve_signal_stack():
        compiled = openvino.Core().compile_model(model, "CPU")
        assert find_stack() != before  # otherwise the workaround is obsolete
    assert find_stack() == before
    assert (compiled(np.ones((1, 3), np.float32))[0] == 1).all()


def quantized(*last_nodes: onnx.NodeProto) -> openvino.Model:
    """Return a model of an addition, a quantization to steps of .5 and further nodes."""
    nodes = [
        helper.make_node("Add", ["x", "bias"], ["sum"]),
        helper.make_node("QuantizeLinear", ["sum", "scale", "zero"], ["integers"]),
        helper.make_node("DequantizeLinear", ["integers", "scale", "zero"], ["steps"]),
        *last_nodes,
    ]
    constants = {
        "bias": np.float32(0.125), "scale": np.float32(0.5), "zero": np.uint8(100),
        "gain": np.float32(3),
    }  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "quantized",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return openvino.Core().read_model(model.SerializeToString())


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ([("Elu", ["steps"], ["y"])], [np.expm1(-0.175), 0.225, 1.825]),  # of the sum
        ([("Relu", ["steps"], ["y"])], [0, 0, 2]),  # of the nearest steps
        ([("Mul", ["steps", "gain"], ["product"]), ("Elu", ["product"], ["y"])], [0, 0, 6]),
    ],
)
def test_only_elus_after_quantization_read_the_values_before_it(nodes, expected):
    model = quantized(*(helper.make_node(*node) for node in nodes))
    remove_quantization_before_elu(model)
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = compiled(np.array([-0.3, 0.1, 1.7], np.float32))["y"]
    np.testing.assert_allclose(found, expected, atol=1e-6)
