"""The graphs of the policies' revisions, opened when they are first asked for.

A revision is immutable, so its graph stays open until it is retired or others need the room. One
that cannot be opened fails those who ask for it and nobody else.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import onnxruntime

from prompt_encoder.layout import (
    MODEL_FILE,
    RETIRED,
    REVISION_FILE,
    WEIGHTS_FILE,
    archive_dir,
    graph_digest,
    revision_dir,
)
from prompt_encoder.refusal import Refusal

LOGGER = logging.getLogger("unsee.prompt_encoder")
_LIBC = ctypes.CDLL(None)
INPUTS = {"edit": ("states", "attention_mask"), "encoder": ("input_ids", "attention_mask")}
"""What the graph of either kind of revision takes."""
OUTPUT = "prompt_embeds"

Array = npt.NDArray[Any]


class Graph(Protocol):
    """The open graph of a revision; `kind` says whether it takes states or ids."""

    kind: Literal["edit", "encoder"]

    def run(self, first: Array, attention_mask: Array) -> Array:
        """`prompt_embeds` FP32 [B, L, D] of states FP32 [B, L, D], or of ids INT64 [B, L]."""


class PolicyGraph:
    """A `Graph` in ONNX Runtime, on the CPU; raises ValueError for another than its record's.

    An edit is a few small products: one thread, and memory that is given back after each call. A
    whole encoder gets as many threads as any other graph.
    """

    def __init__(self, version_dir: Path) -> None:
        record = json.loads((version_dir / REVISION_FILE).read_text(encoding="utf-8"))
        self.kind: Literal["edit", "encoder"] = record["kind"]
        digest = graph_digest(version_dir)
        if digest != record["graph_digest"]:
            raise ValueError(f"the graph has the digest {digest}: it was changed or damaged")
        options = onnxruntime.SessionOptions()
        threads = 1 if self.kind == "edit" else int(os.environ.get("UNSEE_THREADS", "0"))
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = False
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            version_dir / MODEL_FILE, options, providers=["CPUExecutionProvider"]
        )
        taken = tuple(value.name for value in self._session.get_inputs())
        given = tuple(value.name for value in self._session.get_outputs())
        if (taken, given) != (INPUTS[self.kind], (OUTPUT,)):
            raise ValueError(f"the graph of kind {self.kind} takes {taken} and gives {given}")

    def run(self, first: Array, attention_mask: Array) -> Array:
        """See `Graph`."""
        feeds = dict(zip(INPUTS[self.kind], (first, attention_mask), strict=True))
        embeds: Array = self._session.run([OUTPUT], feeds)[0]
        if embeds.dtype != np.float32 or embeds.shape[:-1] != attention_mask.shape:
            raise ValueError(f"the graph gives {embeds.dtype} {embeds.shape}")
        return embeds


@dataclass(frozen=True)
class Identity:
    """Which content a graph's file has, as far as its inode tells; `size_bytes` with weights."""

    inode: int
    changed_ns: int
    size_bytes: int


class PolicyGraphs:
    """The open graphs of a repository.

    Args:
        limit_bytes: how much the files of the open graphs may take together; those that were used
            least recently are closed first, the last one used never.
        open_graph: what opens the graph in a version folder.
    """

    def __init__(
        self,
        repository_dir: Path,
        limit_bytes: int,
        open_graph: Callable[[Path], Graph] = PolicyGraph,
    ) -> None:
        self._repository_dir = repository_dir
        self._limit_bytes = limit_bytes
        self._open_graph = open_graph
        self._open: OrderedDict[tuple[str, int], tuple[Identity, Graph]] = OrderedDict()

    @property
    def count(self) -> int:
        """How many graphs are open."""
        return len(self._open)

    def graph(self, policy: str, revision: int) -> Graph:
        """The graph of a revision, which is opened again if its file has been replaced since.

        One that was retired a moment ago is still served, for it may have been chosen before.

        Raises:
            Refusal: NOT_FOUND if there is no such revision, UNAVAILABLE if its graph cannot be
                opened.
        """
        key = policy, revision
        places = self._places(policy, revision)
        found = [identity for identity in map(_identity, places) if identity is not None]
        identity, graph = self._open.get(key, (None, None))
        if graph is None or (found and identity not in found):
            if not found:
                raise Refusal("NOT_FOUND", f"the policy {policy} has no revision {revision} here")
            graph = self._opened(places, policy, revision)
            self._close_retired()
            self._open[key] = found[0], graph
            self._close_others()
            _LIBC.malloc_trim(0)  # opening frees several times what it keeps, piece by piece
        self._open.move_to_end(key)
        return graph

    def _places(self, policy: str, revision: int) -> tuple[Path, Path]:
        """Where a revision is, and where it is once it has been retired."""
        folder = revision_dir(self._repository_dir, policy, revision)
        return folder, archive_dir(folder.parent, RETIRED) / folder.name

    def _opened(self, places: tuple[Path, Path], policy: str, revision: int) -> Graph:
        """The graph in the first place or, if it is not there any more, in the second."""
        folder, retired = places
        try:
            try:
                return self._open_graph(folder)
            except Exception:
                if _identity(folder) is not None:
                    raise
                return self._open_graph(retired)
        except Exception as error:
            raise Refusal(
                "UNAVAILABLE",
                f"revision {revision} of the policy {policy} cannot be opened; "
                "publish the policy again",
            ) from error

    def _close_retired(self) -> None:
        """Close what is no longer in service, so that publishing for years takes no memory."""
        for key in [*self._open]:
            if _identity(revision_dir(self._repository_dir, *key)) is None:
                del self._open[key]

    def _close_others(self) -> None:
        """Close what was used least recently until the rest has room, or one is left."""
        total = sum(identity.size_bytes for identity, _ in self._open.values())
        while total > self._limit_bytes and len(self._open) > 1:
            (policy, revision), (identity, _) = self._open.popitem(last=False)
            total -= identity.size_bytes
            LOGGER.info("closed revision %d of the policy %s", revision, policy)


def _identity(version_dir: Path) -> Identity | None:
    """None where there is no graph."""
    try:
        status = (version_dir / MODEL_FILE).stat()
        weights = version_dir / WEIGHTS_FILE
        size_bytes = status.st_size + (weights.stat().st_size if weights.exists() else 0)
    except OSError:
        return None
    return Identity(status.st_ino, status.st_mtime_ns, size_bytes)
