"""The table of `docs/measured/real_models.md` and the JSON beside it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from full_size_record import GraphRow, RunRecord
from pydantic import TypeAdapter

from unsee.core.files import write_file

BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"
_RECORDS = TypeAdapter(tuple[RunRecord, ...])
_GIB, _MB = 2**30, 1e6


def check_page(page: Path) -> None:
    """Raise ValueError if the page has no place for a table."""
    text = page.read_text(encoding="utf-8")
    if not 0 <= text.find(BEGIN) < text.find(END):
        raise ValueError(f"{page} has no lines {BEGIN} and {END} for a table")


def write_page(record: RunRecord, page: Path) -> None:
    """Put `record` in the place of an older one of its size and precision, into JSON and page.

    Raises ValueError if the page has no place for a table.
    """
    check_page(page)
    file = page.with_suffix(".json")
    known = _RECORDS.validate_json(file.read_bytes()) if file.exists() else ()
    by_run = {(one.size, one.precision): one for one in (*known, record)}
    records = tuple(by_run[run] for run in sorted(by_run))
    text = page.read_text(encoding="utf-8")
    before, after = text[: text.index(BEGIN) + len(BEGIN)], text[text.index(END) :]
    write_file(file, _RECORDS.dump_json(records, indent=1) + b"\n")
    write_file(page, f"{before}\n{tables(records)}\n{after}".encode())


def tables(records: Iterable[RunRecord]) -> str:
    """The Markdown tables: a row per graph, then a row per sampling run, then the machines."""
    records = tuple(records)
    lines = [
        "| model | graph | precision | parameters | nodes | load s | export s | parity s "
        "| peak GiB | MB on disk | difference (allowed) |",
        "|---|---|---|--:|--:|--:|--:|--:|--:|--:|--:|",
        *(_graph_line(record.size, row) for record in records for row in record.graphs),
        "",
        "| model | precision | clip | steps | PSNR dB | PyTorch s | ONNX Runtime s |",
        "|---|---|---|--:|--:|--:|--:|",
        *(_sampling_line(record) for record in records),
        "",
        *dict.fromkeys(_machine_line(record) for record in records),
    ]
    return "\n".join(lines)


def _graph_line(size: str, row: GraphRow) -> str:
    export = row.export
    parity = export.parity
    cells = (
        size,
        export.graph,
        export.precision,
        f"{export.num_parameters:,}",
        f"{export.num_nodes:,}",
        f"{row.loading_s:.1f}",
        f"{export.seconds['export']:.1f}",
        f"{export.seconds['parity']:.1f}",
        f"{row.peak_bytes / _GIB:.1f}",
        f"{row.disk_bytes / _MB:,.0f}",
        f"{parity.difference:.2g} ({parity.tolerance:g}) {parity.unit}",
    )
    return f"| {' | '.join(cells)} |"


def _sampling_line(record: RunRecord) -> str:
    row = record.sampling
    cells = (
        record.size,
        record.precision,
        f"{row.num_frames} × {row.height} × {row.width}",
        str(row.steps),
        f"{row.psnr_db:.1f}",
        f"{row.torch_s:.1f}",
        f"{row.onnxruntime_s:.1f}",
    )
    return f"| {' | '.join(cells)} |"


def _machine_line(record: RunRecord) -> str:
    machine = record.machine
    return (
        f"{record.size}, {record.precision}: {machine['cpu']}, {machine['threads']} threads, "
        f"{machine['memory_bytes'] / _GIB:.0f} GiB."
    )
