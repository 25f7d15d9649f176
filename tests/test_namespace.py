"""Guards of the layout: one namespace in four folders, typed, and a client that stays light."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PORTIONS = ("training", "export", "serving", "client")
HEAVY = ("torch", "diffusers", "transformers", "onnx", "onnxruntime", "onnxscript", "pytriton")


@pytest.mark.parametrize("portion", PORTIONS)
def test_the_namespace_has_no_init(portion):
    namespace = ROOT / portion / "unsee"
    assert namespace.is_dir()
    assert not (namespace / "__init__.py").exists(), "it would hide the other portions of `unsee`"


@pytest.mark.parametrize("portion", PORTIONS)
def test_every_package_is_typed(portion):
    assert (ROOT / portion / "unsee" / portion / "py.typed").exists()


def test_all_portions_import_side_by_side():
    from unsee import client, export, serving, training

    homes = [
        Path(package.__path__[0]).parents[1].name for package in (training, export, serving, client)
    ]
    assert homes == list(PORTIONS)


def test_the_client_imports_nothing_heavy():
    modules = sorted(p.stem for p in (ROOT / "client/unsee/client").glob("[a-z]*.py"))
    program = (
        "import importlib, sys\n"
        f"for name in {modules}: importlib.import_module('unsee.client.' + name)\n"
        "import unsee.client as client\n"
        "for name in client.__all__: getattr(client, name)\n"
        f"heavy = set({HEAVY}) & set(sys.modules)\n"
        "others = {m for m in sys.modules if m.startswith(('unsee.training', 'unsee.export',"
        " 'unsee.serving'))}\n"
        "assert not heavy | others, heavy | others"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_importing_the_client_package_alone_imports_nothing():
    program = (
        "import sys; import unsee.client; "
        "assert not {'numpy', 'grpc', 'pydantic', 'PIL', 'imageio'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
