"""README, CONTRIBUTING and the pre-commit hooks: short enough, and true."""

import re
import shlex
import shutil
import subprocess
import tomllib
from typing import get_args

import pytest
import yaml

from document_blocks import REPOSITORY, blocks
from unsee.gateway.callers.refusal import Reason

HOOKS = yaml.safe_load((REPOSITORY / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
SUFFIXES = {"python": "*.py", "pyi": "*.pyi", "yaml": "*.yaml"}
MOST_WORDS = 1000


def test_the_readme_is_one_page():
    page = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    prose = re.sub(r"^```.*?^```", "", page, flags=re.DOTALL | re.MULTILINE)
    assert len(prose.split()) <= MOST_WORDS


def test_every_make_target_that_a_newcomer_is_told_of_exists():
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    for name in ("README.md", "CONTRIBUTING.md"):
        page = REPOSITORY / name
        code = [block.text for block in blocks(page)]
        code += re.findall(r"`(make [a-z-]+)`", page.read_text(encoding="utf-8"))
        named = set(re.findall(r"^make ([a-z-]+)", "\n".join(code), re.MULTILINE))
        assert named, f"{name} names no target"
        assert named <= targets, f"{name}: make has no {named - targets}"


@pytest.mark.process
def test_make_clean_leaves_what_is_committed(tmp_path):
    listed = ["git", "ls-files", "model_repository"]
    committed = subprocess.run(
        listed, cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout.split()
    made = ("policies.json", "policy_base/1/model.onnx", "prompt_encoder/config.pbtxt")
    for name in (*committed, *(f"model_repository/{file}" for file in made)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    shutil.copy(REPOSITORY / "Makefile", tmp_path)
    subprocess.run(["make", "--silent", "-C", str(tmp_path), "clean"], check=True)
    left = (p for p in (tmp_path / "model_repository").rglob("*") if p.is_file())
    assert sorted(str(file.relative_to(tmp_path)) for file in left) == sorted(committed)


def test_the_architecture_names_every_package_and_the_order_of_imports():
    text = (REPOSITORY / "docs/reference/architecture.md").read_text(encoding="utf-8")
    named = set(re.findall(r"^\| `unsee\.(\w+)`", text, re.MULTILINE))
    found = {path.parent.name for path in REPOSITORY.glob("*/unsee/*/__init__.py")}
    assert named == found
    for package, row in re.findall(r"^\| `unsee\.(\w+)` \|(.*)$", text, re.MULTILINE):
        (folder,) = REPOSITORY.glob(f"*/unsee/{package}")
        for file in re.findall(r"`([\w/]+(?:\.py|/))`", row):
            assert (folder / file).exists(), f"unsee.{package} has no {file}"
    order = re.search(r"```\n(playground\n.*?)```", text, re.DOTALL)
    assert order
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = project["tool"]["importlinter"]["contracts"]
    (layers,) = [c["layers"] for c in contracts if "between packages" in c["name"]]
    expected = [line.replace("unsee.", "").replace(" | ", ", ") for line in layers]
    assert order[1].split("\n")[:-1] == expected


def test_the_runbook_explains_every_reason_of_a_refusal():
    page = (REPOSITORY / "docs/operate/runbook.md").read_text(encoding="utf-8")
    table = page.partition("## What refuses a request")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (`[^|]+`) \|", table, re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", " ".join(cells))) == set(get_args(Reason))


@pytest.mark.process
@pytest.mark.parametrize("hook", HOOKS, ids=lambda hook: hook["id"])
def test_a_hook_finds_nothing_in_what_is_committed(hook):
    if hook["id"] == "yamllint":
        pytest.importorskip("yamllint", reason='needs pip install -e ".[deploy-checks]"')
    patterns = [SUFFIXES[kind] for kind in hook.get("types_or", hook.get("types"))]
    listed = subprocess.run(
        ["git", "ls-files", *patterns], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout.split()
    files = [f for f in listed if not re.search(hook.get("exclude", r"^\b$"), f)]
    assert files
    command = [*shlex.split(hook["entry"]), *files]
    found = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr
