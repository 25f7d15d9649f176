"""Guards of the layout: one namespace in several folders, typed, and a client that stays light."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PORTIONS = ("client", "training", "evaluation", "export", "serving", "playground")
HEAVY = ("torch", "diffusers", "transformers", "onnx", "onnxruntime", "onnxscript", "pytriton")


@pytest.mark.parametrize("portion", PORTIONS)
def test_the_namespace_has_no_init(portion):
    namespace = ROOT / portion / "unsee"
    assert namespace.is_dir()
    assert not (namespace / "__init__.py").exists(), "it would hide the other portions of `unsee`"


@pytest.mark.parametrize("portion", PORTIONS)
def test_every_package_is_typed_and_says_what_it_is(portion):
    packages = [p for p in (ROOT / portion / "unsee").iterdir() if p.is_dir() and p.name[0] != "_"]
    assert packages
    for package in packages:
        assert (package / "py.typed").exists(), package
        assert importlib.import_module(f"unsee.{package.name}").__doc__, package


@pytest.mark.process
def test_the_client_imports_nothing_heavy():
    packages = list((ROOT / "client/unsee").glob("[a-z]*"))
    modules = sorted(
        ".".join(file.relative_to(ROOT / "client").with_suffix("").parts)
        for package in packages
        for file in package.rglob("[a-z]*.py")
    )
    program = (
        "import importlib, sys\n"
        f"for name in {modules}: importlib.import_module(name)\n"
        f"heavy = set({HEAVY}) & set(sys.modules)\n"
        "ours = {m.split('.')[1] for m in sys.modules if m.startswith('unsee.')}\n"
        "others = ours - {'core', 'client', 'media', 'cli'}\n"
        "assert not heavy | others, heavy | others"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
