"""`unsee version`: what is installed, for a person and for a report of a defect.

Asks the installed packages' metadata and imports none of them.
"""

from __future__ import annotations

import json
import platform
from importlib import metadata

import click

from unsee.cli.parameters import json_option

SHOWN = (
    *("numpy", "torch", "diffusers", "transformers", "onnx", "onnxruntime", "openvino"),
    *("tritonclient", "nvidia-pytriton"),
)
"""The packages on which results and failures depend most."""


@click.command()
@json_option
def version(as_json: bool) -> None:
    """Say which versions of unsee, Python and the libraries that matter are installed.

    \b
    Example:
      unsee version
      unsee version --json
    """
    packages = {name: _version(name) for name in SHOWN}
    found = {
        "unsee": metadata.version("unsee"),
        "python": platform.python_version(),
        "platform": _platform(),
        "packages": packages,
    }
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    click.echo(f"unsee {found['unsee']}, Python {found['python']}, {found['platform']}")
    for name, number in packages.items():
        click.echo(f"  {name:<16} {number or 'not installed'}")


def _platform() -> str:
    """System, release, machine and C library; `platform.platform()` starts `uname` for the same."""
    parts = (platform.system(), platform.release(), platform.machine(), *platform.libc_ver())
    return "-".join(part for part in parts if part)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
