"""How Sphinx builds the documents: `make docs` writes them to build/site.

The source is the whole repository, of which only the documents are read, so that links between
them are the same here and where the repository is browsed. Nothing is fetched, now or by the pages.
"""

from __future__ import annotations

import re
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
PYPROJECT = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")

project = "Unsee"
author = "the Unsee authors"
release = re.search(r'^version = "(.+)"$', PYPROJECT, re.MULTILINE)[1]  # type: ignore[index]
root_doc = "docs/index"
include_patterns = ["*.md", "docs/**.md", "bases/playground/README.md"]
exclude_patterns = [
    *(f"{path.name}/**" for path in REPOSITORY.glob(".*")),
    *(f"{path.name}/**" for path in REPOSITORY.iterdir() if path.name not in ("docs", "bases")),
]

extensions = ["myst_parser"]
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
