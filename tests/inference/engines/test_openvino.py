"""Test that compiling a model with OpenVINO keeps the alternate signal stack."""

import ctypes
import sys

import numpy as np
import openvino
import pytest
from openvino import opset13

from bodyposenet.inference.engines.openvino import _Stack, preserve_signal_stack


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
