"""The telemetry package of OpenVINO is hidden during its import only."""

import sys
from types import ModuleType

import pytest

from bodyposenet.telemetry import without_telemetry


@pytest.mark.parametrize("loaded", [None, ModuleType("openvino_telemetry")])
def test_telemetry_package_is_hidden_within_the_context(monkeypatch, loaded):
    monkeypatch.delitem(sys.modules, "openvino_telemetry", raising=False)
    if loaded:
        monkeypatch.setitem(sys.modules, "openvino_telemetry", loaded)
    with pytest.raises(ImportError), without_telemetry():
        import openvino_telemetry  # noqa: F401
    assert sys.modules.get("openvino_telemetry") is loaded
