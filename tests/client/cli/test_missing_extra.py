"""A package that is not installed is one sentence that says which install brings it."""

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from unsee.cli.subcommands import EXTRA_OF_MODULE, OWN_EXTRAS, SUBCOMMANDS, missing_extra

pytestmark = pytest.mark.process

ROOT = Path(__file__).parents[3]
PACKAGES = ("training", "export", "serving", "client")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
MODULE_OF_DISTRIBUTION = {
    "grpcio": "grpc",
    "imageio-ffmpeg": "imageio_ffmpeg",
    "pillow": "PIL",
    "protobuf": "google",
    "pyyaml": "yaml",
}
BROUGHT_ALONG = {"google", "grpc", "pydantic_core"}
"""What the base dependencies need themselves."""
INSIDE_TRITON = {"engine_options", "stand_in", "text_to_video", "triton_python_backend_utils"}
"""Modules that lie beside a model, or that Triton brings."""

BLOCKED = f"""
import contextlib, io, json, shlex, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {set(EXTRA_OF_MODULE)}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocked())
from unsee.cli.main import run

for line in sys.argv[1:]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run(shlex.split(line))
    print(json.dumps([code, out.getvalue(), err.getvalue()]))
"""
"""Runs command lines in a process that finds none of the packages that only extras bring."""

NEEDS = {
    f"unlearn Blimbo --category style --base {ROOT}/bases/playground": "train",
    "delta show x": "train",
    "delta verify x": "train",
    f"evaluate x.yaml --base {ROOT}/bases/playground": "evaluate",
    f"export --base {ROOT}/bases/playground": "export",
    "gateway": "gateway",
}
NEEDS_NONE = ("policies", "history", "status", "version", "completion bash")
ASKS_A_SERVER = tuple(f"{name} --url 127.0.0.1:9" for name in ("generate x -o x.npy", "repair"))


def names(requirements):
    found = {re.match(r"[A-Za-z0-9_.-]+", line)[0] for line in requirements}
    return {MODULE_OF_DISTRIBUTION.get(name, name) for name in found}


def imported():
    """The packages that our modules import, each with one module that does."""
    found = {}
    for file in (file for name in PACKAGES for file in (ROOT / name / "unsee").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            modules = []
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                modules = [node.module]
            for module in modules:
                found.setdefault(module.partition(".")[0], file.relative_to(ROOT))
    return {
        name: file
        for name, file in found.items()
        if name not in sys.stdlib_module_names and name != "unsee"
    }


def test_every_package_that_an_install_may_lack_is_known():
    always = names(PROJECT["dependencies"]) | BROUGHT_ALONG | INSIDE_TRITON
    unknown = {
        name: str(file)
        for name, file in imported().items()
        if name not in always and name not in EXTRA_OF_MODULE
    }
    assert not unknown, "add these to EXTRA_OF_MODULE"


def test_every_extra_that_is_named_exists():
    named = {*EXTRA_OF_MODULE.values(), *(s.extra for s in SUBCOMMANDS.values() if s.extra)}
    assert named - set(OWN_EXTRAS) <= set(PROJECT["optional-dependencies"])


def test_the_install_is_the_one_that_the_subcommand_needs_in_all():
    assert 'unsee[export]"' in str(missing_extra("torch", "publish"))
    assert 'unsee[serve]"' in str(missing_extra("onnxruntime", "serve"))
    assert 'unsee[train,sign]"' in str(missing_extra("model_signing", "unlearn"))
    assert 'unsee[provenance]"' in str(missing_extra("c2pa", "generate"))
    assert 'unsee[train,tensorboard]"' in str(missing_extra("tensorboardX", "unlearn"))


@pytest.fixture(scope="module")
def without_extras(tmp_path_factory):
    """How each command line ends without any extra: exit code, stdout and stderr."""
    folder = tmp_path_factory.mktemp("bare")
    state = {"active": 1, "eligible": [1], "history": [1]}
    (folder / "model_repository").mkdir()
    (folder / "model_repository" / "policies.json").write_text(
        json.dumps({"schema_version": 2, "policies": {"base": state}})
    )
    lines = [*NEEDS, *NEEDS_NONE, *ASKS_A_SERVER]
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED, *lines],
        check=True,
        capture_output=True,
        text=True,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        timeout=120,
    )
    return dict(zip(lines, map(json.loads, done.stdout.splitlines()), strict=True))


def test_a_subcommand_says_what_to_install(without_extras):
    for line, extra in NEEDS.items():
        code, out, err = without_extras[line]
        assert (code, out) == (2, "")
        install = rf'install it with: pip install "unsee\[{extra}\]"\n'
        assert re.fullmatch(rf"error: this command needs \w+; {install}", err), err


def test_what_needs_no_extra_works_without_and_a_client_reaches_for_its_server(without_extras):
    for line in NEEDS_NONE:
        code, out, err = without_extras[line]
        assert (code, err) == (0, ""), line
        assert out, line
    for line in ASKS_A_SERVER:
        code, _, err = without_extras[line]
        assert code == 3, line
        assert "no server answers at 127.0.0.1:9" in err
