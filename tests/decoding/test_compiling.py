"""What numba keeps on disk: taken again, but for a change in any module of the decoders."""

import os
import subprocess
import sys
from pathlib import Path

import bodyposenet

SOURCE = Path(bodyposenet.__file__).parent


def read_through(package: Path, cache: Path) -> float:
    """Call a compiled function of one module through one of another."""
    code = "from room.caller import twice_as_much; print(twice_as_much(3.0))"
    places = os.pathsep.join(map(str, (package, SOURCE.parent)))
    environment = {"PATH": "", "NUMBA_CACHE_DIR": str(cache), "PYTHONPATH": places}
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return float(run.stdout)


def test_a_change_in_another_module_is_not_overlooked(tmp_path):
    room = tmp_path / "room"
    room.mkdir()
    (room / "__init__.py").touch()
    text = (SOURCE / "decoding" / "compiling.py").read_text()
    (room / "compiling.py").write_text(text)
    head = "from room.compiling import compiled\n"
    (room / "callee.py").write_text(f"{head}@compiled\ndef much(x):\n    return x\n")
    caller = "@compiled\ndef twice_as_much(x):\n    return 2 * much(x)\n"
    (room / "caller.py").write_text(f"{head}from room.callee import much\n{caller}")
    assert read_through(tmp_path, tmp_path / "cache") == 6.0
    (room / "callee.py").write_text(f"{head}@compiled\ndef much(x):\n    return 10 * x\n")
    assert read_through(tmp_path, tmp_path / "cache") == 60.0
