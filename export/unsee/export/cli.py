"""The `unsee export` command. Knows options and words on the terminal; the work is elsewhere."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

import click

from unsee.cli.parameters import NEW_FOLDER, base_option, json_option
from unsee.cli.progress import shown_stages

if TYPE_CHECKING:
    from unsee.export.build import ExportRecord, GraphOutcome
    from unsee.export.engines.engine import Auto, EngineName, Precision
    from unsee.export.engines.record import GraphChoice
    from unsee.repository.records import ParityReport


@click.command()
@base_option
@click.option(
    "--repository",
    "repository_dir",
    type=NEW_FOLDER,
    default="model_repository",
    show_default=True,
    help="The model repository to write.",
)
@click.option(
    "--engine",
    type=click.Choice(["auto", "onnxruntime", "openvino", "tensorrt"]),
    default="auto",
    show_default=True,
    help="Engine that computes the video denoiser and the VAE decoder; auto takes the fastest one "
    "that is exact enough on this machine.",
)
@click.option(
    "--precision",
    type=click.Choice(["auto", "float32", "bfloat16", "float16"]),
    default="auto",
    show_default=True,
    help="Precision in which the engine computes both; auto measures.",
)
@json_option
def export(
    base_path: Path,
    repository_dir: Path,
    engine: EngineName | Auto,
    precision: Precision | Auto,
    as_json: bool,
) -> None:
    """Export a base once, into a Triton model repository.

    Text encoder, video denoiser and VAE decoder become ONNX graphs that are checked against PyTorch
    at several sizes; the scheduler becomes tables of coefficients. What is up to date is left
    alone. Unless --engine names one, the engines of this machine are timed, and the fastest is
    taken whose frames look like float32's (35 dB at least); engines.json in the repository has the
    figures.

    \b
    Example:
      unsee export --base bases/playground --repository model_repository
    """
    from unsee.models.base import load_base

    base = load_base(base_path)
    from unsee.export.build import write_repository
    from unsee.export.engines.record import EngineSelection

    selection = EngineSelection(engine=engine, precision=precision)
    with shown_stages() as say:
        record = write_repository(base, repository_dir, say, selection)
    click.echo(_as_json(record) if as_json else _in_words(record))


def _in_words(record: ExportRecord) -> str:
    from unsee.repository.layout import ENGINES_FILE

    lines = [_graph_line(outcome) for outcome in record.graphs]
    lines += [_engine_line(model, choice) for model, choice in record.engines.graphs.items()]
    when = "found in" if record.engines_reused else f"{record.engines.seconds:.1f} s, written to"
    lines.append(f"engines: {when} {record.repository_dir / ENGINES_FILE}")
    samplers = ", ".join(f"{name} ({count})" for name, count in record.num_tables.items())
    lines.append(f"default scheduler: {record.offer.own}")
    lines.append(f"schedulers (numbers of steps offered): {samplers}")
    lines += [f"not offered: {name} {reason}" for name, reason in record.offer.not_offered.items()]
    prefix = "memory" if record.clip_memory.fits else "warning"
    lines.append(f"{prefix}: {record.clip_memory}")
    lines.append(
        f"base {record.base} is in {record.repository_dir} after {record.seconds:.1f} s; "
        f"next: unsee serve --repository {quote(str(record.repository_dir))}"
    )
    return "\n".join(lines)


def _graph_line(outcome: GraphOutcome) -> str:
    seconds = sum(outcome.export.seconds.values())
    done = "up to date" if outcome.reused else f"{seconds:.1f} s"
    return f"{outcome.model:<18} {done:>10}   parity {_parity(outcome.export.parity)}"


def _engine_line(model: str, choice: GraphChoice) -> str:
    return f"{model:<18} {choice.engine:>19}   {choice.reason}"


def _parity(report: ParityReport) -> str:
    worst = max(report.sizes, key=report.difference_at)
    return (
        f"{report.difference:.2g} of {report.allowed_at(worst):.2g} {report.unit} "
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
        "default_sampler": record.offer.own,
        "samplers_not_offered": dict(record.offer.not_offered),
        "warnings": list(record.offer.warnings),
        "engines": record.engines.model_dump(mode="json") | {"reused": record.engines_reused},
        "largest_clip": {
            "bytes": record.clip_memory.num_bytes,
            "machine_bytes": record.clip_memory.machine_bytes,
            "fits": record.clip_memory.fits,
        },
        "seconds": record.seconds,
    }
    return json.dumps(content, indent=2)
