"""Renders the measured pages and their plots from the JSON records; measures nothing.

A page `docs/measured/<name>.md` is the template `docs/measured/templates/<name>.md.jinja` filled
with its records, which a template knows by name. What experiments measured on another base than the
first lies in a folder of its name, records and pages, which the same templates render.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import click
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from benchmarks.measuring.record import MEASURED
from benchmarks.pages import concepts, edits, figures, floors, plots, retrained
from unsee.core.files import write_file

TEMPLATES = MEASURED / "templates"


@dataclass(frozen=True, eq=False)
class Page:
    """One page: its records by name, its plots by file, and what else its template is given.

    Paths are relative to `docs/measured`, and in it to the folder `base`. `plots` and `context`
    are functions of the records.
    """

    name: str
    records: Mapping[str, str]
    plots: Callable[[Mapping[str, Any]], Mapping[str, bytes]] = lambda records: {}
    context: Callable[[Mapping[str, Any]], Mapping[str, Any]] = field(default=lambda records: {})
    base: str = ""

    def bases(self, folder: Path) -> list[str]:
        """The other bases that this page can be rendered of: they have its records."""
        path = next(iter(self.records.values()), None)
        return sorted(file.parent.name for file in folder.glob(f"*/{path}")) if path else []

    def read(self, folder: Path) -> dict[str, Any]:
        """The page's records by name.

        Raises:
            OSError: a record is not there.
        """
        return {
            name: json.loads((folder / self.base / path).read_bytes())
            for name, path in self.records.items()
        }

    def files(self, folder: Path) -> dict[str, bytes]:
        """The page and its plots by path relative to `folder`, from the records in `folder`."""
        records = self.read(folder)
        others = [] if self.base else self.bases(folder)
        docs = "../../" if self.base else "../"
        given = {**records, **self.context(records)}
        template = environment().get_template(f"{self.name}.md.jinja")
        lines = template.render(given, base=self.base, others=others, docs=docs).split("\n")
        text = "\n".join(line.rstrip() for line in lines)
        files = {f"{self.name}.md": text.encode(), **self.plots(records)}
        return {str(Path(self.base, name)): content for name, content in files.items()}


def _beside(folder: str, *names: str) -> dict[str, str]:
    return {name.replace("-", "_"): f"{folder}/{name}.json" for name in names}


def _measured(**records: str) -> dict[str, str]:
    """Those of the records that somebody has measured."""
    return {name: path for name, path in records.items() if (MEASURED / path).exists()}


def _engines(folder: str) -> dict[str, str]:
    """The records of `benchmarks.engines.compare` in `folder`, of those bases that have one."""
    bases = ("playground", "middle", "playground-wan", "middle-wan")
    return _measured(**_beside(folder, *(f"engines-{base}" for base in bases)))


EXPERIMENTS = (
    Page("results", {"results": "results.json"}, plots.results, concepts.context),
    Page("floors", {"floors": "floors.json"}, context=floors.context),
    Page("composition", {"composition": "composition.json"}, plots.composition),
    Page("ablation", {"ablation": "ablation.json"}),
    Page(
        "edits",
        _measured(images="edits_image.json", clips="edits_video.json"),
        context=edits.context,
    ),
    Page("retrained", {"retrained": "retrained.json"}, context=retrained.context),
)
"""What `unsee.playground.experiments` measures, on any base of ours."""

PAGES = (
    *EXPERIMENTS,
    Page(
        "performance",
        _engines("performance") | _beside("performance", "overhead", "scaling", "footprint"),
        plots.performance,
        figures.engines,
    ),
    Page(
        "without_matrix_units",
        _engines("performance/without_matrix_units"),
        plots.without_matrix_units,
        figures.engines,
    ),
    Page("first_frame", {"first_frame": "performance/first_frame.json"}),
    Page("acceleration", {"acceleration": "acceleration.json"}),
    Page("load", {"load": "load.json"}, plots.load),
    Page(
        "reliability",
        _beside(
            "reliability", "swap", "faults", "malformed", "held_open_before", "held_open_after"
        ),
        plots.reliability,
    ),
    Page(
        "memory",
        {"memory": "performance/memory.json", "mixed": "performance/mixed.json"},
    ),
    Page("real_models", {"runs": "real_models.json", "large_encoder": "large_encoder.json"}),
    Page("client", {"client": "client.json"}),
)


def environment() -> Environment:
    """Jinja as the templates expect it: with our filters, and an unknown name is an error."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # Markdown
    )
    made.filters.update(figures.FILTERS)
    return made


def of_other_bases(folder: Path = MEASURED) -> list[Page]:
    """The pages of the experiments on other bases than the first whose records are there."""
    return [replace(page, base=base) for page in EXPERIMENTS for base in page.bases(folder)]


def write_pages(folder: Path = MEASURED, pages: Sequence[Page] = PAGES) -> list[Path]:
    """Write the pages and plots whose content changes, those of other bases too; their paths.

    A page of which nothing was measured yet is left out.
    """
    every = [page for page in (*pages, *of_other_bases(folder)) if page.records]
    files = {folder / name: data for page in every for name, data in page.files(folder).items()}
    return [file for file, data in files.items() if write_file(file, data)]


@click.command()
def main() -> None:
    """Render every measured page and plot from its records."""
    changed = write_pages()
    for file in changed:
        click.echo(f"written: {file.relative_to(MEASURED.parents[1])}")
    if not changed:
        click.echo("every page is what its records give")
