"""The house stands as designed: imports go down, and inference needs no torch."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "bodyposenet"


def test_imports_go_down_only():
    code = "from importlinter.cli import lint_imports; raise SystemExit(lint_imports())"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize(
    "module", ["decoding.tao", "data.records", "media.draw", "specs.training", "encryption"]
)
def test_rooms_of_inference_load_no_torch(module):
    code = f"import sys, bodyposenet.{module}; raise SystemExit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_importing_the_package_loads_nothing_heavy():
    code = (
        "import sys, bodyposenet;"
        "print(*{'numpy', 'torch', 'cv2', 'pydantic', 'numba'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []


def test_what_the_package_offers_is_there_when_asked_for():
    import bodyposenet
    from bodyposenet.skeleton import Skeleton

    assert bodyposenet.Skeleton is Skeleton
    assert all(getattr(bodyposenet, name) for name in bodyposenet.__all__)
    with pytest.raises(AttributeError, match="module 'bodyposenet' has no attribute 'lod'"):
        bodyposenet.lod  # noqa: B018


def test_modules_say_what_they_are_for():
    for path in sorted(SOURCE.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        assert text.lstrip().startswith('"""') or not text.strip(), f"{path} says nothing"
