"""Writes docs/memory.md out of what `policy_memory.py` measured; measures nothing itself."""

from __future__ import annotations

import json
from pathlib import Path

from markdown_cells import FOLDER, MEGA, MIB, Record, machine, table

from unsee.export.atomic_write import write_file

DOCS_DIR = Path(__file__).parents[1] / "docs"
PAGE, RECORD = "memory.md", "memory.json"

_INTRODUCTION = """\
# Memory per policy

`python benchmarks/policy_memory.py --write`

What one more policy costs a server. The policies are the base's encoder with the appended layer of
the anchored mode ([method.md](method.md)), served in ONNX Runtime on one thread by processes as
Triton's stubs are:

- **whole**: a process and a complete `model.onnx` each, as `unsee publish` writes and Triton loads;
- **mapped**: the same, but the base's tensors lie in one file that all versions link to, and
  prepacking is off, so that the processes use the mapped file itself;
- **shared**: one process, whose sessions share the base's tensors
  (`SessionOptions.add_initializer`), without prepacking, which would copy them;
- **trunk**: the graph is cut where the policy's own tensors begin. One process has what is below,
  a small one for each policy the rest.

All ways give the same embeddings, or the command fails. Memory is the kernel's proportional set
size of all processes together, in which shared pages count once; in brackets what the processes
hold alone. Loading includes the first encoding, encoding is of two prompts; both depend on what
else the machine does, memory does not.
"""

_DECISION = """\
## What is chosen, and why

Policies stay **whole** graphs. Any base, any method and both servers work alike then: a delta of
the paper's mode may change every layer, NVIDIA's backend reads the same files, a revision is one
folder with one digest, and a policy cannot break another one. Where that is too much memory:

- Retire revisions that nobody needs; each eligible one is loaded.
- Policies of the anchored mode differ from the base in one matrix and its bias; all below is the
  same for all, and so is what it computes. **trunk** uses that. It would need `unsee publish` to
  write the cut graph (the trunk once per base, as a model of its own), `text_to_video` to call two
  models, the probe and the digests of a revision to cover both, and the whole graph as before for
  all other deltas. Not built.
- **mapped** needs a second file beside the graph and one option of the backend
  (`session.disable_prepacking`). But links do not outlive a copy to another disk, as a follower
  makes one; there each version would lie in memory by itself again. Not built.
- **shared** does not fit Triton's Python backend, which has a process for each version of a model.
"""


def write_memory_page(record: Record, *, keep: bool, docs_dir: Path = DOCS_DIR) -> str:
    """The page; with `keep` it and its record are written too."""
    page = page_of(record)
    if keep:
        text = json.dumps(record, indent=2) + "\n"
        write_file(docs_dir / FOLDER / RECORD, text.encode())
        write_file(docs_dir / PAGE, page.encode())
    return page


def page_of(record: Record) -> str:
    """What was measured as a page."""
    parts = [_INTRODUCTION, machine(record, with_threads=False) + "\n"]
    parts += [_part(name, one, record["counts"]) for name, one in record["encoders"].items()]
    return "\n".join([*parts, _DECISION])


def _part(name: str, encoder: Record, counts: tuple[int, ...]) -> str:
    title = {"playground": "The playground's encoder", "clip-l": "CLIP ViT-L/14's text encoder"}
    sizes = (
        f"{encoder['all_bytes'] / MEGA:.0f} MB of weights with the appended layer, "
        f"{encoder['own_bytes'] / MEGA:.2f} MB of them the policy's own. A process without a graph "
        f"holds {encoder['empty_process'] / MIB:.0f} MiB."
    )
    heads = [
        "MiB with so many policies",
        *map(str, counts),
        "each further",
        "load, s",
        "encode, ms",
    ]
    rows = [_row(way, figures, counts) for way, figures in encoder["ways"].items()]
    return f"## {title[name]}\n\n{sizes}\n\n{table(heads, rows)}"


def _row(way: str, figures: Record, counts: tuple[int, ...]) -> list[str]:
    def further(kind: str) -> float:
        held = figures[kind]
        return (held[-1] - held[0]) / (counts[-1] - counts[0]) / MIB

    return [
        way,
        *(f"{held / MIB:.0f}" for held in figures["pss"]),
        f"{further('pss'):.0f} ({further('uss'):.0f})",
        f"{_median(figures['load_s'][1:]):.2f}",
        f"{1000 * figures['encode_s']:.0f}",
    ]


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]
