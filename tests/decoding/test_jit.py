"""Tests of the compilation of the decoders and of its cache."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from numba.core.event import Event, EventStatus

import bodyposenet
from bodyposenet.decoding import jit, warm_up_in_background

SOURCE = Path(bodyposenet.__file__).parent
MODES = ["accurate", "tao"]


def run_python(code: str, cache: Path, *folders: Path) -> str:
    """Run code in a separate process with the given cache folder for machine code."""
    import_path = os.pathsep.join(map(str, (*folders, SOURCE.parent)))
    environment = {"PATH": "", "NUMBA_CACHE_DIR": str(cache), "PYTHONPATH": import_path}
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return run.stdout


def test_a_change_in_another_module_invalidates_the_cache(tmp_path):
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "jit.py").write_text((SOURCE / "decoding" / "jit.py").read_text())
    head = "from package.jit import jit, kernel\n"
    (package / "callee.py").write_text(f"{head}@jit\ndef much(x):\n    return x\n")
    caller = "@kernel\ndef twice_as_much(x):\n    return 2 * much(x)\n"
    (package / "caller.py").write_text(f"{head}from package.callee import much\n{caller}")
    code = "from package.caller import twice_as_much; print(twice_as_much(3.0))"
    assert float(run_python(code, tmp_path / "cache", tmp_path)) == 6.0
    (package / "callee.py").write_text(f"{head}@jit\ndef much(x):\n    return 10 * x\n")
    assert float(run_python(code, tmp_path / "cache", tmp_path)) == 60.0


COMPILE = """
import json, sys
import numpy as np
from numba.core import event
from bodyposenet.decoding import DecodingOptions, decode, warm_up
from bodyposenet.skeleton import Skeleton
from bodyposenet.types import Maps

def record_compilation(function):
    with event.install_recorder("numba:compile") as recorder:
        function()
    functions = [entry.data["dispatcher"].py_func for _, entry in recorder.buffer if entry.is_start]
    return [f"{f.__module__}.{f.__name__}" for f in functions if f.__module__[:5] == "bodyp"]

MODE = MODE_OF_TEST
skeleton = Skeleton("arm", ("LeftShoulder", "LeftElbow", "LeftWrist"), ((0, 1), (1, 2)))
rng = np.random.default_rng(0)
maps = Maps(rng.random((4, 9, 9), np.float32), rng.random((4, 9, 9), np.float32))
options = DecodingOptions(MODE, 0, 0, complete_pose=True)
print(json.dumps([
    record_compilation(lambda: warm_up(MODE)),
    record_compilation(lambda: decode(maps, skeleton, options)),
    sorted(name for name in sys.modules if name.startswith("bodyposenet.decoding.")),
]))
"""


@pytest.mark.parametrize(("mode", "other"), [MODES, MODES[::-1]])
def test_only_the_selected_decoder_is_compiled_once_and_cached(mode, other, tmp_path):
    code = COMPILE.replace("MODE_OF_TEST", repr(mode))
    compiled, later, modules = json.loads(run_python(code, tmp_path))
    assert len(compiled) == len(set(compiled)) > 5
    assert later == []
    assert f"bodyposenet.decoding.{mode}" in modules
    assert f"bodyposenet.decoding.{other}" not in modules
    compiled, later, _ = json.loads(run_python(code, tmp_path))
    assert compiled == later == []


def test_importing_the_package_does_not_import_numba():
    code = "import sys, bodyposenet.decoding; raise SystemExit('numba' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_compilation_is_logged_once_and_only_for_functions_of_this_package(caplog):
    caplog.set_level(logging.INFO, logger="bodyposenet")
    notice = jit._CompilationNotice()
    for module in ("another.package", "bodyposenet.decoding.tao", "bodyposenet.decoding.accurate"):
        function = SimpleNamespace(py_func=SimpleNamespace(__module__=module))
        event = Event("numba:compile", EventStatus.START, data={"dispatcher": function})
        notice.on_start(event)
        notice.on_end(event)
    assert len([record for record in caplog.records if "compiling" in record.message]) == 1


WAIT = """
import os, threading, time
import bodyposenet.decoding as decoding

def slow(mode):
    time.sleep(0.3)
    done.append(mode)

done = []
decoding.warm_up = slow
decoding.warm_up_in_background("tao")
decoding.warm_up_in_background("tao")
assert done == []
if os.fork() == 0:
    assert done == ["tao"]
    os._exit(0)
assert os.wait()[1] == 0
decoding.warm_up_in_background("accurate")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows does not fork")
def test_a_fork_waits_until_the_decoder_is_compiled(tmp_path):
    run_python(WAIT, tmp_path)


@pytest.mark.parametrize("mode", MODES)
def test_a_failure_in_the_background_raises_nothing(mode, monkeypatch):
    def fail(mode):
        raise RuntimeError("no compiler")

    monkeypatch.setattr("bodyposenet.decoding.warm_up", fail)
    monkeypatch.setattr("bodyposenet.decoding._warming", {})
    warm_up_in_background(mode)  # pytest would report an exception in the thread as an error
