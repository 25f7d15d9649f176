"""The wheel, and environments that hold it and what it asks for, and nothing else.

An environment is put together without a network: every distribution that the wheel requires, by
its own metadata and that of those, is linked into it from where the tests run.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True)
class Environment:
    """A virtual environment outside the checkout."""

    folder: Path

    def variables(self) -> dict[str, str]:
        """Environment variables that lead to nothing of the checkout."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "UNSEE_"))}
        return kept | {"PATH": f"{self.folder / 'bin'}{os.pathsep}{os.defpath}"}

    def run(self, *command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        """Run a command of the environment (`unsee`, `python`)."""
        return subprocess.run(
            [str(self.folder / "bin" / command[0]), *command[1:]],
            cwd=cwd,
            env=self.variables(),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(folder), "."]
    subprocess.run([sys.executable, "-m", "pip", *command], cwd=REPOSITORY, check=True)
    (built,) = folder.glob("unsee-*.whl")
    return built


@pytest.fixture(scope="session")
def environment(
    wheel: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Environment]:
    """Makes an environment with `unsee[EXTRAS]` from the wheel."""

    def make(*extras: str) -> Environment:
        folder = tmp_path_factory.mktemp("environment")
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
        (packages,) = folder.glob("lib/python*/site-packages")
        for distribution in _required(wheel, extras):
            _link(distribution, packages)
        pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python")]
        install = ["install", "--quiet", "--no-deps", "--no-index", str(wheel)]
        subprocess.run([*pip, *install], check=True)
        return Environment(folder)

    return make


def _required(wheel: Path, extras: tuple[str, ...]) -> list[metadata.Distribution]:
    """What `pip install unsee[EXTRAS]` would bring, as far as its metadata says."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        own = metadata.PathDistribution(zipfile.Path(wheel, name.removesuffix("METADATA")))
    found: dict[str, metadata.Distribution] = {}
    seen: set[tuple[str, str]] = set()

    def follow(distribution: metadata.Distribution, extra: str) -> None:
        for requirement in map(Requirement, distribution.requires or ()):
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                for wanted in ("", *requirement.extras):
                    visit(requirement.name, wanted)

    def visit(name: str, extra: str) -> None:
        if (name, extra) in seen:
            return
        seen.add((name, extra))
        if name == "unsee":
            return follow(own, extra)
        found[name] = metadata.distribution(name)
        follow(found[name], extra)

    for extra in ("", *extras):
        follow(own, extra)
    return list(found.values())


def _link(distribution: metadata.Distribution, packages: Path) -> None:
    """A folder that no other distribution has files in is linked whole: PyTorch's have 6,000."""
    owners = _owners()
    folders = ((file.partition("/")[0], file) for file in _modules(distribution))
    names = {top if len(set(owners.get(top, ()))) == 1 else file for top, file in folders}
    for name in names:
        target = packages / name
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(Path(str(distribution.locate_file(name))).resolve())


@functools.cache
def _owners() -> Mapping[str, list[str]]:
    return metadata.packages_distributions()


def _modules(distribution: metadata.Distribution) -> Iterator[str]:
    """Its files, bytecode included, without scripts and the headers of C libraries."""
    for file in map(str, distribution.files or ()):
        if not file.startswith("..") and "/include/" not in file:
            yield file
