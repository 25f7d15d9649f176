"""The `unsee export` command. Knows options and words on the terminal; the work is elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from unsee.export.parity import ParityReport
    from unsee.export.repository import ExportRecord, GraphOutcome

_PATH = click.Path(path_type=Path)


@click.command()
@click.option("--base", "base_path", type=_PATH, required=True, help="Folder with a base.yaml.")
@click.option(
    "--repository",
    "repository_dir",
    type=click.Path(path_type=Path, file_okay=False),
    default="model_repository",
    show_default=True,
    help="The model repository to write.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON.")
def export(base_path: Path, repository_dir: Path, as_json: bool) -> None:
    """Export a base once, into a Triton model repository.

    Text encoder, video UNet and VAE decoder become ONNX graphs that are checked against PyTorch at
    several sizes; the scheduler becomes tables of coefficients. What is up to date is left alone.

    \b
    Example:
      unsee export --base bases/playground --repository model_repository
    """
    from unsee.training.base import load_base

    base = load_base(base_path)
    from unsee.export.repository import write_repository

    say = _silent if as_json else _say
    record = write_repository(base, repository_dir, say)
    click.echo(_as_json(record) if as_json else _in_words(record))


def _say(line: str) -> None:
    click.echo(f"{line} …", err=True)


def _silent(line: str) -> None:
    """Nothing but JSON is to be printed."""


def _in_words(record: ExportRecord) -> str:
    lines = [_graph_line(outcome) for outcome in record.graphs]
    samplers = ", ".join(f"{name} ({count})" for name, count in record.num_tables.items())
    lines.append(f"samplers (numbers of steps offered): {samplers}")
    lines.append(
        f"base {record.base} is in {record.repository_dir} after {record.seconds:.1f} s; "
        f"next: unsee serve --repository {record.repository_dir}"
    )
    return "\n".join(lines)


def _graph_line(outcome: GraphOutcome) -> str:
    seconds = sum(outcome.export.seconds.values())
    done = "up to date" if outcome.reused else f"{seconds:.1f} s"
    return f"{outcome.model:<18} {done:>10}   parity {_parity(outcome.export.parity)}"


def _parity(report: ParityReport) -> str:
    return (
        f"{report.difference:.2g} of {report.tolerance:g} {report.unit} "
        f"at {len(report.sizes)} sizes"
    )


def _as_json(record: ExportRecord) -> str:
    import json

    graphs: list[dict[str, Any]] = [
        {
            "model": outcome.model,
            "reused": outcome.reused,
            "export": outcome.export.model_dump(mode="json"),
        }
        for outcome in record.graphs
    ]
    content = {
        "base": record.base,
        "base_digest": record.base_digest,
        "repository": str(record.repository_dir),
        "graphs": graphs,
        "samplers": record.num_tables,
        "seconds": record.seconds,
    }
    return json.dumps(content)
