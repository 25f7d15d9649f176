"""Is the Python that Triton's stub will run fit to serve?

The stub takes its packages from the `python3` that comes first on PATH, not from the process that
starts the server. With numpy 2 in there every tensor comes back empty without a word, so the
answer has to be known before the server starts.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from unsee.core.errors import InterpreterUnfit

PYTHON_VERSIONS = ("3.11", "3.12")
NUMPY_VERSION = "1.26"
PACKAGES = ("numpy", "onnxruntime", "safetensors", "tokenizers")
PROBE_TIMEOUT_S = 60.0

_PROBE = """
import importlib.metadata as metadata, json, sys, sysconfig
versions = {}
for name in sys.argv[1:]:
    try:
        versions[name] = metadata.version(name)
    except metadata.PackageNotFoundError:
        pass
print(json.dumps({
    "python_version": "%d.%d" % sys.version_info[:2],
    "library_dir": sysconfig.get_config_var("LIBDIR") or "",
    "library_name": sysconfig.get_config_var("INSTSONAME") or "",
    "package_versions": versions,
}))
"""


@dataclass(frozen=True)
class StubInterpreter:
    """What a Python says about itself; versions as in `importlib.metadata`."""

    executable: Path
    python_version: str
    library_dir: str
    library_name: str
    package_versions: dict[str, str]


def python3_beside(executable: Path) -> Path:
    """The `python3` in the folder of `executable`: the one that the stub will find first."""
    candidate = executable.parent / "python3"
    if not candidate.exists():
        raise InterpreterUnfit(
            f"there is no python3 beside {executable}, where Triton's stub would look for one; "
            "run unsee from a virtual environment"
        )
    return candidate


def probe(python3: Path) -> StubInterpreter:
    """Ask `python3` about itself; raises InterpreterUnfit when it does not answer."""
    command = [str(python3), "-c", _PROBE, *PACKAGES]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=PROBE_TIMEOUT_S, check=True
        )
        return StubInterpreter(executable=python3, **json.loads(done.stdout))
    except (OSError, subprocess.SubprocessError, ValueError, TypeError) as error:
        raise InterpreterUnfit(
            f"{python3}, which Triton's stub would run, does not answer ({type(error).__name__})"
        ) from error


def check(interpreter: StubInterpreter) -> None:
    """Raises InterpreterUnfit when Triton's stub could not serve with `interpreter`."""
    python3, versions = interpreter.executable, interpreter.package_versions
    if interpreter.python_version not in PYTHON_VERSIONS:
        wanted = " or ".join(PYTHON_VERSIONS)
        raise InterpreterUnfit(
            f"serving needs Python {wanted}, but {python3} is {interpreter.python_version}"
        )
    missing = [name for name in PACKAGES if name not in versions]
    if missing:
        raise InterpreterUnfit(
            f'{python3} lacks {", ".join(missing)}; install with: pip install "unsee[serve]"'
        )
    if not versions["numpy"].startswith(NUMPY_VERSION + "."):
        raise InterpreterUnfit(
            f"serving needs numpy {NUMPY_VERSION}, but {python3} has numpy {versions['numpy']}, "
            "with which Triton's stub returns empty tensors; install with: "
            'pip install "numpy>=1.26,<2"'
        )


def fit_interpreter() -> StubInterpreter:
    """The running environment's `python3`, probed and checked; raises InterpreterUnfit."""
    interpreter = probe(python3_beside(Path(sys.executable)))
    check(interpreter)
    return interpreter
