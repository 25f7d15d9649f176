"""Writes docs/measured/performance.md out of what the benchmarks recorded, with its plots.

Every command keeps its record as JSON in docs/measured/performance/; the page is made of those that
are there. Knows records, words and plots; measures nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from engines_section import SIZES, engines_part
from markdown_cells import FOLDER, Plots, Record
from scaling_section import scaling_part
from serving_section import image_part, overhead_part

from unsee.core.files import write_file

DOCS_DIR = Path(__file__).parents[1] / "docs" / "measured"
PAGE = "performance.md"
RECORDS = (*SIZES, "overhead", "scaling", "image")

_INTRODUCTION = """\
# Performance

What is fast, what it costs in accuracy, and what limits it, as measured by the commands named in
each section; `make benchmark` runs them in turn and writes this page, the plots, and the records in
[performance/](performance/). Engines alternate within a turn, in random order and each in a process
of its own; a ratio is taken within a turn, and tables give the median with the quartiles behind it.
Seconds are of the machine that a section names: compare ratios, not seconds.
"""


def write_page(name: str, record: Record, docs_dir: Path = DOCS_DIR) -> None:
    """Keep a record and make the page anew. Raises KeyError for a name that it does not know."""
    if name not in RECORDS:
        raise KeyError(name)
    text = json.dumps(record, indent=2) + "\n"
    write_file(docs_dir / FOLDER / f"{name}.json", text.encode())
    files = {each: docs_dir / FOLDER / f"{each}.json" for each in RECORDS}
    records = {each: json.loads(f.read_bytes()) for each, f in files.items() if f.is_file()}
    page, plots = page_of(records)
    for plot, svg in plots.items():
        write_file(docs_dir / FOLDER / plot, svg)
    write_file(docs_dir / PAGE, page.encode())


def page_of(records: Mapping[str, Record]) -> tuple[str, Plots]:
    """The page and its plots by file name, of those records that there are."""
    plots: Plots = {}
    parts = [_INTRODUCTION]
    if any(name in records for name in SIZES):
        parts.append(engines_part(records, plots))
    if "overhead" in records:
        parts.append(overhead_part(records["overhead"]))
    if "scaling" in records:
        parts.append(scaling_part(records["scaling"], plots))
    if "image" in records:
        parts.append(image_part(records["image"]))
    return "\n".join(parts), plots
