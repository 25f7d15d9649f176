"""The API pages name what there is, found by reading the source: nothing heavy is imported."""

import ast
import re

import pytest

from document_blocks import DOCS, REPOSITORY

DIRECTIVE = re.compile(r"^\.\. auto(class|function|module):: (\S+)$", re.MULTILINE)
PAGES = sorted((DOCS / "reference" / "api").glob("*.md"))


def source_of(module):
    """The file of `module`, in whichever folder has its package; None if there is none."""
    path = module.replace(".", "/")
    files = [*REPOSITORY.glob(f"*/{path}.py"), *REPOSITORY.glob(f"*/{path}/__init__.py")]
    return files[0] if files else None


def defined_in(file):
    """The names that `file` defines or imports at its top level."""
    names = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            names.add(node.name)
        elif isinstance(node, ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
    return names


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_an_api_page_names_what_there_is(page):
    missing = []
    for kind, name in DIRECTIVE.findall(page.read_text(encoding="utf-8")):
        module, _, thing = (name, "", "") if kind == "module" else name.rpartition(".")
        file = source_of(module)
        if file is None or (thing and thing not in defined_in(file)):
            missing.append(name)
    assert not missing, f"{page.relative_to(REPOSITORY)}: there is no {', '.join(missing)}"


def test_a_name_that_is_gone_would_be_found():
    file = source_of("unsee.client")
    assert file is not None
    assert "Client" in defined_in(file)
    assert "Cliemt" not in defined_in(file)
    assert source_of("unsee.cliemt") is None
