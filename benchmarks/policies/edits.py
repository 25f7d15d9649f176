"""A repository of many policies for measurements: edits of random directions of one text encoder.

What makes clips is left out: in the place of the video model's graphs are identities.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from benchmarks.measuring.bases import PLAYGROUND_DIR
from benchmarks.measuring.real_size import SIZES, UMT5_TOKENS, text_encoder, umt5_encoder
from unsee.core.files import write_file, write_json
from unsee.core.policy import BASE_POLICY
from unsee.deltas.edit import Edit, EditedNorm, edited, final_layer_norm, trunk
from unsee.export.engines.model_config import batched_config, pbtxt, policy_config
from unsee.export.graphs.base_graphs import (
    text_encoder_graph,
    vae_decoder_graphs,
    video_denoiser_graph,
)
from unsee.export.graphs.prompt_graphs import EditGraph, TextEncoderGraph, TunedEncoderGraph
from unsee.export.onnx.edit_nodes import write_edit
from unsee.export.text_to_video.assets import write_prompt_encoder, write_text_to_video
from unsee.export.text_to_video.sampler_tables import sampler_tables
from unsee.export.version import export_version
from unsee.models.base import Base, load_base
from unsee.models.quiet import quiet_libraries
from unsee.models.schedulers import offered_schedulers
from unsee.repository.layout import (
    CONFIG_FILE,
    GOLDEN_FILE,
    MODEL_FILE,
    POINTER_FILE,
    REVISION_FILE,
    VERSION,
    graph_digest,
    policy_model,
    revision_dir,
    version_dir,
)
from unsee.repository.records import (
    ParityReport,
    Policies,
    PolicyState,
    RevisionKind,
    RevisionRecord,
)

SIZE_NAMES = {"clip-l": "sd1", "vit-h": "sd2"}
"""CLIP ViT-L/14's and OpenCLIP ViT-H/14's text encoders, by the image model that has them."""
UMT5_PART = {"num_layers": 1, "vocab_size": 1024}
"""What stands below the edits of UMT5-XXL's width: no policy depends on it."""
FEW_TOKENS = 8
"""Of a recorded answer where prompts are not padded: a name has no more."""

Figures = dict[str, Any]


def write_edits(
    encoder_name: str, count: int, rank: int, concepts: int, repository_dir: Path
) -> Figures:
    """Write the repository: the base's own policy, `policy-1` … `policy-<count>`, and two more.

    `nine` is the edit of `concepts` concepts, `tuned` a whole encoder. Returns bytes and ranks.
    """
    with quiet_libraries():
        base = load_base(PLAYGROUND_DIR)
        encoder, graph = _encoder(encoder_name, base)
        repository = _Repository(repository_dir, encoder, graph)
        repository.write_text_encoder()
        repository.write_policy(BASE_POLICY, None)
        repository.write_measured("policy-1", rank, seed=1)
        repository.write_measured("nine", rank * concepts, seed=2)
        for number in range(2, count + 1):
            repository.write_policy(f"policy-{number}", repository.edit(rank, number))
        repository.write_tuned("tuned")
        _write_the_rest(base, repository_dir)
    return {
        "tokens": graph.sequence_length,
        "hidden_size": graph.hidden_size,
        "encoder_bytes": sum(4 * p.numel() for p in encoder.parameters()),
        "is_part": encoder_name == "umt5-xxl",
        "revision_bytes": {
            "one": _bytes_of(repository_dir, "policy-1"),
            "nine": _bytes_of(repository_dir, "nine"),
            "whole": _bytes_of(repository_dir, "tuned"),
        },
    }


class _Repository:
    """Writes what has to do with one text encoder."""

    def __init__(self, folder: Path, encoder: Any, graph: TextEncoderGraph) -> None:
        self._folder, self._encoder, self._graph = folder, encoder, graph
        sizes = graph.sequence_length, graph.hidden_size
        self._edit_graph = EditGraph(*sizes, any_length=graph.any_length)
        self._norm = final_layer_norm(encoder)

    def edit(self, rank: int, seed: int) -> Edit:
        """An edit of random directions."""
        drawn, size = torch.Generator().manual_seed(seed), self._edit_graph.hidden_size
        up, down = (torch.randn(size, rank, generator=drawn) / size**0.5 for _ in range(2))
        return Edit(up, down.T.contiguous(), torch.randn(rank, generator=drawn))

    def write_text_encoder(self) -> None:
        """The base's own, for all policies."""
        folder = version_dir(self._folder, self._graph.name)
        folder.mkdir(parents=True)
        export_version(self._graph, trunk(self._encoder), folder)
        write_file(folder.parent / CONFIG_FILE, pbtxt(batched_config(self._graph)))

    def write_policy(self, policy: str, edit: Edit | None) -> None:
        """A revision as servers need it, without what is only looked at when it is published."""
        folder = self._revision_dir(policy)
        norm = self._norm if edit is None else EditedNorm(self._norm, edit)
        write_edit(self._edit_graph, norm, folder / MODEL_FILE)
        self._write_records(policy, "edit")

    def write_measured(self, policy: str, rank: int, seed: int) -> None:
        """A revision with all of its files."""
        folder, edit = self._revision_dir(policy), self.edit(rank, seed)
        export_version(self._edit_graph, EditedNorm(self._norm, edit).eval(), folder)
        length = FEW_TOKENS if self._graph.any_length else self._graph.sequence_length
        ids = torch.randint(0, 200, (2, length))
        mask = torch.ones_like(ids)
        with torch.no_grad():
            said = edited(self._encoder, edit)(ids, mask).last_hidden_state
        golden = {"input_ids": ids, "attention_mask": mask, "prompt_embeds": said.contiguous()}
        save_file(golden, folder / GOLDEN_FILE)
        self._write_records(policy, "edit")

    def write_tuned(self, policy: str) -> None:
        """A revision of a whole encoder."""
        graph = TunedEncoderGraph(**vars(self._graph))
        export_version(graph, self._encoder, self._revision_dir(policy))
        self._write_records(policy, "encoder")

    def _revision_dir(self, policy: str) -> Path:
        folder = revision_dir(self._folder, policy, VERSION)
        folder.mkdir(parents=True)
        return folder

    def _write_records(self, policy: str, kind: RevisionKind) -> None:
        folder = revision_dir(self._folder, policy, VERSION)
        record = RevisionRecord(
            policy=policy,
            revision=VERSION,
            kind=kind,
            concepts=(),
            base="measured",
            base_digest="sha256:measured",
            edit_digest=None,
            graph_digest=graph_digest(folder),
            deltas=(),
            parity=ParityReport(tolerance=1.0, unit="std", sizes=()),
            created_at=datetime.now(UTC),
        )
        write_json(folder / REVISION_FILE, record)
        tuned = TunedEncoderGraph(**vars(self._graph))
        graph = self._edit_graph if kind == "edit" else tuned
        config = policy_config(graph, policy_model(policy), all_versions=True)
        write_file(self._folder / policy_model(policy) / CONFIG_FILE, pbtxt(config))


def _encoder(name: str, base: Base) -> tuple[Any, TextEncoderGraph]:
    """The embedded base's text encoder, or one of a published size with random weights."""
    if name == "playground":
        return base.text_encoder(), text_encoder_graph(base)
    torch.manual_seed(0)
    if name == "umt5-xxl":
        encoder = umt5_encoder(**UMT5_PART)
        return encoder, TextEncoderGraph.of(encoder, UMT5_TOKENS, any_length=True)
    size = SIZES[SIZE_NAMES[name]]
    encoder = text_encoder(size)
    return encoder, TextEncoderGraph.of(encoder, size.tokens)


def _write_the_rest(base: Base, repository_dir: Path) -> None:
    """Identities for the video model, and the models of our own."""
    import onnx
    from onnx import TensorProto, helper

    denoiser, (vae, *_) = video_denoiser_graph(base), vae_decoder_graphs(base)
    given, taken = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["B", 1]) for n in "yx")
    identity = helper.make_node("Identity", ["x"], ["y"])
    made = helper.make_graph([identity], "identity", [taken], [given])
    opsets = [helper.make_opsetid("", 20)]
    model = helper.make_model(made, opset_imports=opsets, ir_version=10)
    for name in (denoiser.name, vae.name):
        folder = version_dir(repository_dir, name)
        folder.mkdir(parents=True)
        onnx.save(model, folder / MODEL_FILE)
        write_file(folder.parent / CONFIG_FILE, _IDENTITY.format(name=name))
    write_prompt_encoder(repository_dir)
    tables = sampler_tables(offered_schedulers(base).offered, 1)
    write_text_to_video(base, denoiser, vae, tables, {}, 0, repository_dir)
    first = PolicyState().with_eligible(VERSION).with_active(VERSION)
    write_json(repository_dir / POINTER_FILE, Policies(policies={BASE_POLICY: first}))


_IDENTITY = """name: "{name}"
backend: "onnxruntime"
max_batch_size: 8
input {{ name: "x" data_type: TYPE_FP32 dims: 1 }}
output {{ name: "y" data_type: TYPE_FP32 dims: 1 }}
instance_group {{ count: 1 }}
"""


def _bytes_of(repository_dir: Path, policy: str) -> dict[str, int]:
    folder = revision_dir(repository_dir, policy, VERSION)
    return {file.name: file.stat().st_size for file in sorted(folder.iterdir())}
