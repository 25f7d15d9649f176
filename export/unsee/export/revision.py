"""Writes revisions: numbered, immutable versions of a policy.

What is in a revision's folder is in `unsee.repository.revisions`. A policy whose deltas are edits
shares the base's text encoder, so its revision is the edit and the final normalisation, a few
kilobytes; tuned weights make a revision of the whole encoder.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors.torch import save
from torch import Tensor

from unsee.core.files import locked, new_folder, write_file, write_json
from unsee.core.policy import Concept
from unsee.deltas.delta import Card
from unsee.deltas.edit import EditedNorm, final_layer_norm, trunk
from unsee.export.engines.model_config import pbtxt, policy_config
from unsee.export.graphs.base_graphs import edit_graph, text_encoder_graph
from unsee.export.graphs.prompt_graphs import EditGraph, PromptGraph, TunedEncoderGraph
from unsee.export.onnx.half import in_float32
from unsee.export.version import export_version, read_export
from unsee.models.base import Base
from unsee.models.digest import tensors_digest
from unsee.repository.layout import CONFIG_FILE, GOLDEN_FILE, REVISION_FILE, policy_model
from unsee.repository.records import DeltaDigest, GraphExport, RevisionKind, RevisionRecord
from unsee.repository.revisions import next_revision, versions_on_disk


@dataclass(frozen=True)
class EncoderPart:
    """What of a text encoder a revision holds: its final normalisation ("edit") or all of it."""

    kind: RevisionKind
    graph: EditGraph | TunedEncoderGraph
    module: Any
    edit_digest: str | None


def part_of(text_encoder: Any, base: Base) -> EncoderPart:
    """The final normalisation of `text_encoder` if the rest is the base's, else the whole."""
    norm = final_layer_norm(text_encoder)
    if _same(trunk(text_encoder).state_dict(), trunk(base.text_encoder()).state_dict()):
        edited = isinstance(norm, EditedNorm)
        digest = tensors_digest(norm.edit.tensors()) if edited else None
        return EncoderPart("edit", edit_graph(base), in_float32(norm), digest)
    graph = TunedEncoderGraph(**vars(text_encoder_graph(base)))
    digest = tensors_digest(text_encoder.state_dict())
    return EncoderPart("encoder", graph, in_float32(text_encoder), digest)


@dataclass(frozen=True)
class Contents:
    """What a revision is made of."""

    text_encoder: Any
    part: EncoderPart
    policy: str
    concepts: tuple[Concept, ...] = ()
    delta_cards: tuple[Card, ...] = ()

    def write(self, version_dir: Path, revision: int, base: Base) -> GraphExport:
        """Write the revision's files into the empty folder `version_dir`."""
        part = self.part
        export = export_version(part.graph, part.module, version_dir)
        write_file(version_dir / GOLDEN_FILE, save(self._golden(base)))
        record = RevisionRecord(
            policy=self.policy,
            revision=revision,
            kind=part.kind,
            concepts=_plain(self.concepts),
            base=base.name,
            base_digest=base.digest(),
            edit_digest=part.edit_digest,
            graph_digest=export.sha256,
            deltas=_delta_digests(self.delta_cards),
            parity=export.parity,
            created_at=datetime.now(UTC),
        )
        write_json(version_dir / REVISION_FILE, record)
        return export

    def _golden(self, base: Base) -> dict[str, Tensor]:
        """Tokens, and what PyTorch says of them: the empty prompt and the concepts' names."""
        prompts = ["", *(concept.name for concept in self.concepts)][: PromptGraph.max_batch_size]
        frame = base.prompt_frame()
        encoded = base.tokenizer()(
            prompts,
            padding="longest" if frame.cuts_padding else "max_length",
            truncation=True,
            return_tensors="pt",
        )
        ids, mask = encoded.input_ids, encoded.attention_mask
        if not frame.gives_mask:
            mask = torch.ones_like(mask)
        with torch.no_grad():
            encoder = in_float32(self.text_encoder)
            said = encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        embeds = said.to(torch.float32).contiguous()
        return {"input_ids": ids, "attention_mask": mask, "prompt_embeds": embeds}


def write_revision(
    text_encoder: Any,
    policy_name: str,
    concepts: Sequence[Concept],
    base: Base,
    repository_dir: Path,
    delta_cards: Sequence[Card],
) -> int:
    """Write what `text_encoder` says as the next revision of the policy and return its number.

    The version folder appears whole or not at all; writers of one policy take turns. A number is
    never used twice, not even that of a revision which was rejected or retired. Raises
    `ParityError` if the exported graph differs from PyTorch.
    """
    model_dir = repository_dir / policy_model(policy_name)
    part = part_of(text_encoder, base)
    with locked(model_dir):
        revision = next_revision(model_dir)
        with new_folder(model_dir / str(revision)) as version_dir:
            contents = Contents(
                text_encoder, part, policy_name, tuple(concepts), tuple(delta_cards)
            )
            contents.write(version_dir, revision, base)
        write_config(part, model_dir)
    return revision


def find_revision(
    policy_name: str,
    concepts: Sequence[Concept],
    base: Base,
    repository_dir: Path,
    delta_cards: Sequence[Card],
    among: Iterable[int],
) -> int | None:
    """The newest revision of `among` that was built from just these inputs, or None.

    A revision whose files are not as its records say is passed over.
    """
    model_dir = repository_dir / policy_model(policy_name)
    wanted = (base.digest(), _plain(concepts), _delta_digests(delta_cards))
    for revision in sorted(among, reverse=True):
        version_dir = model_dir / str(revision)
        record = _record(version_dir)
        if record is None:
            continue
        found = (record.base_digest, record.concepts, record.deltas)
        if found == wanted and read_export(version_dir) is not None:
            return revision
    return None


def write_config(part: EncoderPart, model_dir: Path) -> None:
    """Write the `config.pbtxt` with which a server can load the policy as a model of its own."""
    records = [_record(model_dir / str(number)) for number in versions_on_disk(model_dir)]
    alike = all(record.kind == part.kind for record in records if record is not None)
    config = policy_config(part.graph, model_dir.name, all_versions=alike)
    write_file(model_dir / CONFIG_FILE, pbtxt(config))


def _same(tensors: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> bool:
    """Whether both hold the same numbers by the same names; shared ones are not looked at."""
    return tensors.keys() == others.keys() and all(
        tensor.data_ptr() == others[name].data_ptr() or torch.equal(tensor, others[name])
        for name, tensor in tensors.items()
    )


def _record(version_dir: Path) -> RevisionRecord | None:
    try:
        return RevisionRecord.model_validate_json((version_dir / REVISION_FILE).read_bytes())
    except (OSError, ValidationError):
        return None


def _plain(concepts: Sequence[Concept]) -> tuple[Concept, ...]:
    """The concepts without what a policy file adds to them."""
    return tuple(Concept(name=c.name, category=c.category, aliases=c.aliases) for c in concepts)


def _delta_digests(cards: Sequence[Card]) -> tuple[DeltaDigest, ...]:
    return tuple(
        DeltaDigest(concept=card.concept.name, tensors_digest=card.tensors_digest) for card in cards
    )
