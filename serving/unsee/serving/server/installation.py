"""The real tritonserver inside the `nvidia-pytriton` wheel, and a backends folder made from it.

The wheel's files are found through its metadata; pytriton itself is never imported.
"""

from __future__ import annotations

import ctypes.util
import shutil
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from unsee.core.errors import InterpreterUnfit
from unsee.serving.server.interpreter import StubInterpreter

DISTRIBUTION = "nvidia-pytriton"
OWN_BACKENDS_DIR = Path(__file__).parent / "backends"
SHARED_DIR = OWN_BACKENDS_DIR / "shared"
"""Modules that each of our backends imports: Triton's stub looks for them beside `model.py`."""


@dataclass(frozen=True)
class Installation:
    """Where the parts of Triton lie; all of them exist."""

    binary: Path
    python_backend_dir: Path
    stub: Path
    library_dirs: tuple[Path, ...]


def find_installation(interpreter: StubInterpreter) -> Installation:
    """The Triton of the installed wheel, with the stub for `interpreter`; raises InterpreterUnfit.

    Raises ModuleNotFoundError (name "pytriton") when the wheel is not installed.
    """
    try:
        distribution = metadata.distribution(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        raise ModuleNotFoundError("No module named 'pytriton'", name="pytriton") from None
    site_dir = Path(str(distribution.locate_file("")))
    server_dir = site_dir / "pytriton" / "tritonserver"
    version = interpreter.python_version
    found = Installation(
        binary=server_dir / "bin" / "tritonserver",
        python_backend_dir=server_dir / "backends" / "python",
        stub=server_dir / "python_backend_stubs" / version / "triton_python_backend_stub",
        library_dirs=(site_dir / "nvidia_pytriton.libs", _libpython_dir(interpreter)),
    )
    for path in (found.binary, found.python_backend_dir, found.stub, *found.library_dirs):
        if not path.exists():
            raise InterpreterUnfit(f"the wheel {DISTRIBUTION} lacks {path}; install it anew")
    return found


def assemble_backends(installation: Installation, folder: Path) -> Path:
    """Copy Triton's Python backend and our own backends into `folder`; return it.

    Copies, because Triton refuses symbolic links that lead out of the backends folder.
    """
    without_cache = shutil.ignore_patterns("__pycache__")
    python_dir = folder / "python"
    shutil.copytree(installation.python_backend_dir, python_dir, ignore=without_cache)
    shutil.copy2(installation.stub, python_dir)
    for backend_dir in OWN_BACKENDS_DIR.iterdir():
        if backend_dir.is_dir() and (backend_dir / "model.py").is_file():
            target = folder / backend_dir.name
            shutil.copytree(backend_dir, target, ignore=without_cache)
            shutil.copytree(SHARED_DIR, target, ignore=without_cache, dirs_exist_ok=True)
    return folder


def _libpython_dir(interpreter: StubInterpreter) -> Path:
    folder = Path(interpreter.library_dir)
    if (folder / interpreter.library_name).is_file() and ".so" in interpreter.library_name:
        return folder
    if ctypes.util.find_library(f"python{interpreter.python_version}"):
        return Path("/usr/lib")  # the loader finds it by itself
    raise InterpreterUnfit(
        f"{interpreter.executable} has no shared libpython{interpreter.python_version}, which "
        "Triton's stub needs; install that package or use a Python built with --enable-shared"
    )
