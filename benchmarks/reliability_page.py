"""Writes docs/measured/reliability.md out of the records of swaps, faults and bad requests.

Every command keeps its record as JSON in docs/measured/reliability/; the page is made of those that
are there. Knows records and words; measures nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from markdown_cells import table

from unsee.core.files import write_file

Record = Mapping[str, Any]
DOCS_DIR = Path(__file__).parents[1] / "docs" / "measured"
FOLDER = "reliability"
PAGE = "reliability.md"
MEMORY_PLOT = "swap_memory.svg"

INTRODUCTION = """\
# Reliability

What changing revisions, killed processes and malformed requests do to a service, as measured by
the commands named in each section. They write this page and the records in
[reliability/](reliability/).
"""
SWAPS = """\
## Revisions that change under load

`python benchmarks/swap.py --cycles 300 --write`, on a copy of the demo's repository. Requests come
without a pause while a policy is promoted and rolled back; windows with swaps and without take
turns. The revision in a request's record must have been active while the request began.
"""
FAULTS = """\
## Killed processes

`python benchmarks/faults.py --write`: {clients} clients ask `unsee serve` for clip after clip while
one process is killed with SIGKILL; last the command gets SIGTERM. *Healthy* is when a clip of every
policy is made again, for somebody who asks four times a second. Who asked before may wait longer
(*slowest error*): requests that wait for a dead process get their errors one after the other, a
second each, and those in `text_to_video` none before their deadline. *Refused* requests had not
begun; *hung* means more than 10 s beyond the client's deadline of {deadline:g} s.
"""
MALFORMED = """\
## Malformed requests

`python benchmarks/malformed.py --write` sends random bytes, damaged requests and JSON of wrong
values to both fronts of a gateway. No Triton is behind it, so requests that happen to be good are
UNAVAILABLE (503). An answer is bad if it is no clean refusal: a broken connection, no answer in
time, or a text with a traceback or a path in it.
"""


def write_page(name: str, record: Record, docs_dir: Path = DOCS_DIR) -> None:
    """Keep a record and make the page anew. Raises KeyError for a name that it does not know."""
    if name not in SECTIONS:
        raise KeyError(name)
    folder = docs_dir / FOLDER
    write_file(folder / f"{name}.json", (json.dumps(record, indent=1) + "\n").encode())
    parts = [INTRODUCTION]
    for each, section in SECTIONS.items():
        file = folder / f"{each}.json"
        if file.is_file():
            parts.append(section(json.loads(file.read_bytes())))
    write_file(docs_dir / PAGE, "\n".join(parts).encode())


def swaps_part(record: Record) -> str:
    """Swaps, promotions, and cycles of publishing and retiring."""
    load, promote, cycled = record["under_load"], record["promote"], record["publish_and_retire"]
    published, extra = cycled["publish_to_eligible_s"], promote["difference_ms"]
    memory = f"{cycled['rss_mib_after_first_tenth']:.0f} MiB, {cycled['growth_percent']:+.2f} %"
    rows = [
        (
            f"failed requests over {load['swaps']} swaps, of {load['requests']}",
            str(load["failed_requests"]),
            "0",
        ),
        ("requests answered by a wrong revision", str(load["wrong_revision_requests"]), "0"),
        ("p99 of latency with swaps over without", f"{load['latency_p99_ratio']:.2f}", "≤ 1.10"),
        (
            f"first event of a new revision's first request, over one without a promotion, "
            f"median and p99 of {promote['repeats']}",
            f"{extra['median']:.0f} and {extra['p99']:.0f} ms",
            "≤ 50 ms",
        ),
        (
            f"exported to eligible, median and p99 of {cycled['cycles']}",
            f"{published['median']:.2f} and {published['p99']:.2f} s",
            "≤ 3 s",
        ),
        (
            f"memory after a tenth of {cycled['cycles']} cycles of publishing and retiring, "
            "and its growth until the end",
            memory,
            "≤ 2 %",
        ),
    ]
    plot = f"![Memory over the cycles]({FOLDER}/{MEMORY_PLOT})\n"
    return f"{SWAPS}\n{table(('', 'measured', 'goal'), rows)}\n{plot}"


def faults_part(record: Record) -> str:
    """One row per killed process."""
    heads = ("killed", "healthy after", "clips", "refused", "failed", "slowest error", "hung")
    rows = [_fault(row) for row in record["faults"]]
    words = FAULTS.format(clients=record["clients"], deadline=record["deadline_s"])
    left = f"Left in shared memory at the end: {len(record['left_in_shared_memory'])}.\n"
    return f"{words}\n{table(heads, rows)}\n{left}"


def _fault(row: Record) -> tuple[str, ...]:
    seconds = row.get("healthy_after_s")
    after = f"exit after {row['exited_after_s']:.1f} s" if seconds is None else f"{seconds:.1f} s"
    counts = (str(row[name]) for name in ("clips", "refused", "failed_after_a_step"))
    return (row["fault"], after, *counts, f"{row['slowest_error_s']:.1f} s", str(row["hung"]))


def malformed_part(record: Record) -> str:
    """How the answers ended, and what they did to the gateway."""
    outcomes = [(name, str(count)) for name, count in record["outcomes"].items()]
    after = (
        f"Bad answers: {len(record['bad_answers'])}. The gateway's memory went from "
        f"{record['rss_before_mib']} to {record['rss_after_mib']} MiB; the slowest answer took "
        f"{1000 * record['slowest_s']:.0f} ms, all of them {record['seconds']:.0f} s.\n"
    )
    return f"{MALFORMED}\n{table(('answer', 'requests'), outcomes)}\n{after}"


SECTIONS: Mapping[str, Callable[[Record], str]] = {
    "swap": swaps_part,
    "faults": faults_part,
    "malformed": malformed_part,
}
