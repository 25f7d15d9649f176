"""A record of `benchmarks/engines.py` as a table on the terminal."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import click
from rich.console import Console
from rich.table import Table


def print_table(record: Mapping[str, Any]) -> None:
    """The record for a person."""
    clip = record["clip"]
    title = (
        f"{record['size']}: {clip['num_frames']} frames of {clip['height']} x {clip['width']} in "
        f"{clip['num_inference_steps']} steps, {record['threads']} threads"
    )
    table = Table(title=title)
    table.add_column("engine")
    heads = ("step s", "of peak", "x eager", "x compile", "clip s", "x eager", "x compile")
    for head in (*heads, "error", "largest", "dB", "opens in s"):
        table.add_column(head, justify="right")
    for row in record["rows"]:
        table.add_row(*_cells(row))
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    for name, why in record["failures"].items():
        click.echo(f"{name} gave no result: {why}")
    for group, seen in record["judged"].items():
        click.echo(
            f"{group}: {seen['exact']} of {seen['named']} concepts recognised with float32, "
            f"{seen['other']} with {record['served']} ({seen['points']:+.1f} points)"
        )


def _cells(row: Mapping[str, Any]) -> list[str]:
    """A row of a record as text."""
    decibels = row["psnr_db"].values()
    return [
        row["label"],
        f"{row['step_s']['median']:.3f}",
        f"{row['share_of_peak']:.0%}",
        _times(row["step_times_eager"]),
        _times(row["step_times_rival"]),
        "" if row["clip_s"] is None else f"{row['clip_s']['median']:.2f}",
        _times(row["clip_times_eager"]),
        _times(row["clip_times_rival"]),
        f"{row['error']['rms']:.2g}",
        f"{row['error']['largest']:.2g}",
        f"{min(decibels):.1f}" if decibels else "",
        f"{row['open_s']:.1f}",
    ]


def _times(spread: Mapping[str, float] | None) -> str:
    return "" if spread is None else f"{spread['median']:.2f}"
