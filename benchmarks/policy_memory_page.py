"""Writes docs/measured/memory.md out of what `policy_memory.py` measured."""

from __future__ import annotations

import json
from pathlib import Path

from markdown_cells import FOLDER, MEGA, MIB, Record, machine, table

from unsee.core.files import write_file

DOCS_DIR = Path(__file__).parents[1] / "docs" / "measured"
PAGE, RECORD = "memory.md", "memory.json"

_INTRODUCTION = """\
# Memory per policy

`python benchmarks/policy_memory.py --write`

What one more policy costs a server. The policies are the base's encoder with the appended layer of
the anchored mode ([method.md](../reference/method.md)), served in ONNX Runtime on one thread by
processes as Triton's stubs are:

- **whole**: a process and a complete `model.onnx` each;
- **linked**: as `unsee publish` writes and `unsee serve` loads them. The base's encoder has its
  weights beside the graph, in `model.onnx.data`; a policy's version folder has a hard link to that
  file and in `model.onnx` only the weights that the base has not. Prepacking is off
  (`session.disable_prepacking`), so that all processes use the mapped file itself;
- **shared**: one process, whose sessions share the base's tensors
  (`SessionOptions.add_initializer`), without prepacking, which would copy them;
- **trunk**: the graph is cut where the policy's own tensors begin. One process has what is below,
  a small one for each policy the rest.

All ways give the same embeddings, or the command fails. Memory is the kernel's proportional set
size of all processes together, in which shared pages count once. Loading includes the first
encoding, encoding is of two prompts; both depend on what else the machine does, memory does not.
"""

_DECISION = """\
## What is chosen, and why

Policies are **linked**. A version folder is still whole: whatever reads ONNX with weights beside it
can load it, its digest covers both files, any delta can be published (weights that a method has
changed are in `model.onnx`), and a policy does not depend on another one's being loaded. Publishing
writes little, and loading reads what others have loaded already. What it costs:

- Without prepacking a matrix product is slower (last column); an encoder is asked once for a clip.
- Who changes the shared file in place changes all that serve from it. It is read-only, and every
  check of a revision reads it; `unsee export` and `unsee publish` only ever replace it.
- Hard links do not outlive a copy to another disk; a replica that follows a store links its copies
  again. On a file system without hard links each version has a copy, and memory is as with
  **whole**.
- `onnx.load` refuses files with several links; `onnx.load(file, load_external_data=False)` and
  every runtime read them, and so does `onnx.load` in a copy of the folder.
- NVIDIA's ONNX Runtime backend has no parameter for prepacking and may hold copies of its own; on
  a GPU each version's weights lie in the GPU's memory. **trunk** would help there: it would need a
  model of its own for what is below, `text_to_video` to call two models, and whole graphs beside it
  for deltas that change other layers. Not built.

**shared** needs the least, but does not fit Triton's Python backend, which has a process for each
version of a model: the process alone is most of what a small policy costs. Retire revisions that
nobody needs; each eligible one is loaded.
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
        f"{encoder['own_bytes'] / MEGA:.2f} MB of them differ from policy to policy. A linked "
        f"policy takes {encoder['linked_bytes'] / MEGA:.1f} MB of the disk. "
        f"A process without a graph holds {encoder['empty_process'] / MIB:.0f} MiB."
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
    held = figures["pss"]
    further = (held[-1] - held[0]) / (counts[-1] - counts[0])
    return [
        way,
        *(f"{size / MIB:.0f}" for size in (*held, further)),
        f"{_median(figures['load_s'][1:]):.2f}",
        f"{1000 * figures['encode_s']:.0f}",
    ]


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]
