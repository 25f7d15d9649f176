"""The documents as their tests see them: pages, fenced blocks, links, headings.

Knows Markdown, not what a block means. A page may begin with a comment that says where its commands
run, and a comment before a block may say why it is not run:

    <!-- runs in: quick_start, served -->
    <!-- not run: needs a GPU -->
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

REPOSITORY = Path(__file__).parents[1]
DOCS = REPOSITORY / "docs"
_NOT_RUN = re.compile(r"<!-- not run: (.+?) -->\s*", re.DOTALL)
_RUNS_IN = re.compile(r"<!-- runs in: (.+?) -->")


@dataclass(frozen=True)
class Block:
    """A fenced block; `line` is that of its fence, `not_run` the reason that stands before it."""

    page: Path
    line: int
    language: str
    text: str
    not_run: str | None

    @property
    def place(self) -> str:
        """Where it is, for a reader of a failed test."""
        return f"{self.page.relative_to(REPOSITORY)}:{self.line}"


def pages() -> list[Path]:
    """All documents, those outside `docs/` that the navigation names included."""
    return [
        *sorted(REPOSITORY.glob("*.md")),
        *sorted(REPOSITORY.glob("bases/*/README.md")),
        *sorted(DOCS.rglob("*.md")),
    ]


def tokens(page: Path) -> list[Token]:
    """The page as CommonMark with tables."""
    return MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8"))


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of `page`, in order."""
    before: Token | None = None
    for token in tokens(page):
        if token.type == "fence":
            reason = None
            if before is not None and before.type == "html_block":
                reason = _NOT_RUN.fullmatch(before.content)
            line = token.map[0] + 1 if token.map else 0
            language = token.info.partition(" ")[0]
            yield Block(page, line, language, token.content, reason[1] if reason else None)
        before = token


def runs_in(page: Path) -> set[str]:
    """What the page's commands find when they begin; empty where it does not say."""
    found = _RUNS_IN.search(page.read_text(encoding="utf-8"))
    return set(re.split(r",\s*", found[1])) if found else set()


def links(page: Path) -> Iterator[str]:
    """Where the page's links and images lead."""
    for token in tokens(page):
        for child in token.children or ():
            for name in ("href", "src"):
                target = child.attrGet(name)
                if isinstance(target, str):
                    yield target


def anchors(page: Path) -> set[str]:
    """The anchors of the page's headings, as Git hosts and Sphinx make them."""
    found: dict[str, int] = {}
    every = tokens(page)
    for opening, inline in pairwise(every):
        if opening.type == "heading_open":
            words = "".join(c.content for c in inline.children or () if c.type != "image")
            slug = re.sub(r"[^\w\- ]", "", words.strip().lower()).replace(" ", "-")
            count = found.get(slug, 0)
            found[slug] = count + 1
            if count:
                found[f"{slug}-{count}"] = 1
    return set(found)
