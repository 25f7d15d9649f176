"""How Sphinx builds the documents: `make docs` writes them to build/site.

The source is the whole repository, of which only the documents are read, so that links between
them are the same here and where the repository is browsed. Nothing is fetched, now or by the pages.
The pages in docs/reference/api are made of docstrings, so building imports the packages.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[1]
PYPROJECT = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")

project = "Unsee"
author = "the Unsee authors"
release = re.search(r'^version = "(.+)"$', PYPROJECT, re.MULTILINE)[1]  # type: ignore[index]
root_doc = "docs/index"
include_patterns = ["*.md", "docs/**.md", "bases/*/README.md"]
exclude_patterns = [
    *(f"{path.name}/**" for path in REPOSITORY.glob(".*")),
    *(f"{path.name}/**" for path in REPOSITORY.iterdir() if path.name not in ("docs", "bases")),
]

for folder in ("client", "training", "evaluation", "export", "serving"):
    sys.path.insert(0, str(REPOSITORY / folder))

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"
myst_heading_anchors = 4
highlight_language = "none"  # of blocks that name no language

html_theme = "furo"
html_title = "Unsee"
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
html_extra_path = ["_static/index.html"]
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#1f5f8b", "color-brand-content": "#1f5f8b"},
    "dark_css_variables": {"color-brand-primary": "#7fb8de", "color-brand-content": "#7fb8de"},
}


def code_as_code(
    app: object, what: str, name: str, thing: object, options: object, lines: list[str]
) -> None:
    """Docstrings write code as Markdown does, in single backticks; here it becomes a literal."""
    lines[:] = [re.sub(r"(?<!`)`([^`]+)`(?!`)", r"``\1``", line) for line in lines]


def without_constraints(text: str) -> str:
    """`text` with the type alone in place of `Annotated[type, constraints]`."""
    before, marker, rest = text.partition("Annotated[")
    if not marker:
        return text
    depth, comma, end = 1, 0, 0
    for end, letter in enumerate(rest):
        depth += (letter in "[(") - (letter in ")]")
        if depth == 1 and letter == "," and not comma:
            comma = end
        if depth == 0:
            break
    return before + rest[:comma] + without_constraints(rest[end + 1 :])


def readable_signature(
    app: object, what: str, name: str, thing: object, options: object, given: str, returned: str
) -> tuple[str, str] | None:
    """Signatures name types alone: without modules, and without what pydantic checks."""
    if not given:
        return None
    return re.sub(r"~(?:\w+\.)+", "", without_constraints(given)), returned


def setup(app: Any) -> None:
    """Called by Sphinx once it has read this file."""
    app.connect("autodoc-process-docstring", code_as_code)
    app.connect("autodoc-process-signature", readable_signature)
