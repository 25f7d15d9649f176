"""Leaves out what needs the checkers of deployments where they are not installed, and says so."""

import re
import tomllib
import warnings
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

CHECKED = ["test_chart.py", "test_compose.py", "test_images.py", "test_monitoring.py"]
PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))


def missing(extra):
    """The distributions of an extra that are not installed."""
    for requirement in PROJECT["project"]["optional-dependencies"][extra]:
        (name,) = re.findall(r"^[\w-]+", requirement)
        try:
            version(name)
        except PackageNotFoundError:
            yield name


collect_ignore = []
if names := ", ".join(missing("deploy-checks")):
    collect_ignore = CHECKED
    install = 'pip install -e ".[deploy-checks]"'
    warnings.warn(f"{', '.join(CHECKED)} are left out without {names}: {install}", stacklevel=1)
