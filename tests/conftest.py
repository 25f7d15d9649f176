"""What every test may rely on, and `pytest --quick`: only what needs neither torch nor a process.

A quick run leaves out the modules that import one of `HEAVY`, and the tests that are marked as
starting a process or a server. A test that does either all the same fails there.
"""

from __future__ import annotations

import fcntl
import functools
import gc
import multiprocessing.util
import os
import platform
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

# A script's background job ignores Ctrl-C, and so would every process that its tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Set before PyTorch is imported: threads that wait for one another by spinning cost more than they
# gain on tiny models, above all where several processes share the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

TESTS = Path(__file__).parent

HEAVY = frozenset({"accelerate", "diffusers", "torch", "transformers"})
"""Libraries that take seconds to import."""

STARTS = frozenset({"os.exec", "os.fork", "os.posix_spawn", "os.system", "subprocess.Popen"})
"""The audit events of Python with which a process starts another."""

NOT_QUICK = ("process", "slow", "torch", "triton")
"""The marks of tests that a quick run leaves out."""


GARBAGE = (50_000, 20, 20)
"""Thresholds of Python's collector: the usual ones took a tenth of what the tests compute."""


class HeavyImport(ImportError):
    """A quick run came to the import of a heavy library."""


class Guard:
    """Refuses heavy imports, and processes while a test runs; `refused` says what it refused."""

    def __init__(self) -> None:
        self.refused: list[str] = []
        self.in_test = False
        sys.addaudithook(self)
        start = multiprocessing.util.spawnv_passfds  # no audit event tells of it

        def audited_start(path: bytes, arguments: list[str], passed: list[int]) -> int:
            self("subprocess.Popen", (path, arguments))
            return start(path, arguments, passed)

        multiprocessing.util.spawnv_passfds = audited_start

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "import" and arguments[0].partition(".")[0] in HEAVY:
            self.refused.append(f"imports {arguments[0]}")
            raise HeavyImport(f"{arguments[0]} must not be imported in a quick run")
        if self.in_test and event in STARTS:
            self.refused.append(f"starts a process: {event} {arguments[:2]}")
            raise RuntimeError(f"a quick test must not start a process: {event}")


GUARD = pytest.StashKey[Guard]()


class QuickModule(pytest.Module):
    """A module of tests, without any when it needs a heavy library."""

    def collect(self) -> list[Any]:
        try:
            return list(super().collect())
        except self.CollectError as error:
            if isinstance(error.__cause__, HeavyImport):
                return []
            raise


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--quick",
        action="store_true",
        help="only the tests that need neither torch nor Triton and start no process",
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("quick"):
        # numpy.testing starts `lscpu` when it is imported; `uname`, which libraries (openai, c2pa)
        # have platform start, is started once: pytest-xdist has done so in its workers
        import numpy.testing  # noqa: F401

        platform.platform()
        config.stash[GUARD] = Guard()


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> Any:
    quick = parent.config.getoption("quick")
    return QuickModule.from_parent(parent, path=module_path) if quick else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("quick"):
        left_out = [item for item in items if any(map(item.get_closest_marker, NOT_QUICK))]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What was imported stays until the end: it is not searched for garbage again and again."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.set_threshold(*GARBAGE)
        gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    guard = item.config.stash.get(GUARD, None)
    if guard is None:
        return (yield)
    guard.refused.clear()
    guard.in_test = True
    try:
        return (yield)
    finally:
        guard.in_test = False


@pytest.fixture(autouse=True)
def stays_quick(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails a test of a quick run that needs more than it may."""
    yield
    guard = request.config.stash.get(GUARD, None)
    assert guard is None or not guard.refused, (
        f"this test {guard.refused[0]}; mark it with pytest.mark.process or pytest.mark.torch"
    )


Made = Callable[[str, Callable[[Path], object]], Path]


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Gives the folder of a name, which the first of all workers that asks for it makes; copy
    before changing."""
    of_all = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        of_all = of_all.parent

    def made(name: str, make: Callable[[Path], object]) -> Path:
        folder = of_all / name
        with (of_all / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.exists():
                unfinished = Path(tempfile.mkdtemp(dir=of_all))
                make(unfinished)
                unfinished.rename(folder)
        return folder

    return made


@pytest.fixture(scope="session")
def tiny_base_dir(made_once: Made) -> Path:
    """A base of tiny models with random weights; copy before changing."""

    def write(folder: Path) -> None:
        from fakes import write_tiny_base

        write_tiny_base(folder)

    return made_once("tiny_base", write)


@pytest.fixture(scope="session")
def pipeline_base_dir(
    tiny_base_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """Gives the base without an image model for the name of a pipeline class; copy before
    changing."""
    from pipeline_fakes import write_pipeline_base

    @functools.cache
    def written(name: str) -> Path:
        return write_pipeline_base(name, tiny_base_dir, tmp_path_factory.mktemp(name))

    return written


@pytest.fixture(scope="session")
def tiny_repository_dir(tiny_base_dir: Path, made_once: Made) -> Path:
    """Its model repository, as `unsee export` writes it; copy before changing."""
    return made_once("tiny_repository", functools.partial(_export, tiny_base_dir))


@pytest.fixture(scope="session")
def wan_base_dir(made_once: Made) -> Path:
    """A base of Wan's kind, whose clips show something; copy before changing."""

    def write(folder: Path) -> None:
        from pipeline_fakes import write_visible_wan_base

        write_visible_wan_base(folder)

    return made_once("wan_base", write)


@pytest.fixture(scope="session")
def wan_repository_dir(wan_base_dir: Path, made_once: Made) -> Path:
    """Its model repository; copy before changing."""
    return made_once("wan_repository", functools.partial(_export, wan_base_dir))


def _export(base_dir: Path, folder: Path) -> None:
    from unsee.cli import main

    where = ["--base", str(base_dir), "--repository", str(folder)]
    assert main.run(["export", *where, "--engine", "onnxruntime"]) == 0


@pytest.fixture(scope="session")
def warm_python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """What stands for `python` before `-m MODULE` or a file that needs PyTorch."""
    socket = tmp_path_factory.mktemp("warm") / "socket"
    program = str(TESTS / "warm_python.py")
    path = os.pathsep.join(entry for entry in sys.path if entry)
    with subprocess.Popen(
        [sys.executable, program, "serve", str(socket)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        start_new_session=True,
    ) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == b"ready\n"
        yield [sys.executable, "-S", "-E", program, "run", str(socket)]
        server.communicate()
