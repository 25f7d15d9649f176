"""Exports encoders as revisions: numbered, immutable versions of a policy's Triton model.

What is in a revision's folder is in `unsee.repository.revisions`.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors.torch import save

from unsee.core.files import locked, new_folder, write_file, write_json
from unsee.core.policy import BASE_POLICY, Concept
from unsee.deltas.delta import Card
from unsee.export.engines.model_config import pbtxt, text_encoder_config
from unsee.export.graphs.graphs import TextEncoderGraph
from unsee.export.onnx.exporter import Save
from unsee.export.onnx.shared_weights import SharedWith
from unsee.export.version import export_version, read_export
from unsee.models.base import Base
from unsee.repository.layout import (
    CONFIG_FILE,
    GOLDEN_FILE,
    MODEL_FILE,
    REVISION_FILE,
    VERSION,
    encoder_model,
    revision_dir,
)
from unsee.repository.records import DeltaDigest, GraphExport, RevisionRecord
from unsee.repository.revisions import next_revision


def write_revision(
    text_encoder: Any,
    policy_name: str,
    concepts: Sequence[Concept],
    base: Base,
    repository_dir: Path,
    delta_cards: Sequence[Card],
) -> int:
    """Export `text_encoder` as the next revision of the policy and return its number.

    The version folder appears whole or not at all; writers of one policy take turns. A number is
    never used twice, not even that of a revision which was rejected or retired. Weights are shared
    with the repository's base if its files are as its records say. Raises
    `ParityError` if the exported encoder differs from `text_encoder`.
    """
    model_dir = repository_dir / encoder_model(policy_name)
    base_dir = revision_dir(repository_dir, BASE_POLICY, VERSION)
    save = SharedWith(base_dir / MODEL_FILE).save if read_export(base_dir) else None
    with locked(model_dir):
        revision = next_revision(model_dir)
        with new_folder(model_dir / str(revision)) as version_dir:
            fill_revision(
                version_dir, revision, text_encoder, policy_name, concepts, base, delta_cards, save
            )
        write_encoder_config(text_encoder, policy_name, base, repository_dir)
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
    model_dir = repository_dir / encoder_model(policy_name)
    wanted = (base.digest(), _plain(concepts), _delta_digests(delta_cards))
    for revision in sorted(among, reverse=True):
        version_dir = model_dir / str(revision)
        try:
            record = RevisionRecord.model_validate_json((version_dir / REVISION_FILE).read_bytes())
        except (OSError, ValidationError):
            continue
        found = (record.base_digest, record.concepts, record.deltas)
        if found == wanted and read_export(version_dir) is not None:
            return revision
    return None


def fill_revision(
    version_dir: Path,
    revision: int,
    text_encoder: Any,
    policy_name: str,
    concepts: Sequence[Concept],
    base: Base,
    delta_cards: Sequence[Card],
    save: Save | None,
) -> GraphExport:
    """Write a revision's files into the empty folder `version_dir`, the graph by `save`."""
    export = export_version(text_encoder_graph(base), text_encoder, version_dir, save=save)
    _write_golden(text_encoder, [concept.name for concept in concepts], base, version_dir)
    record = RevisionRecord(
        policy=policy_name,
        revision=revision,
        concepts=_plain(concepts),
        base=base.name,
        base_digest=base.digest(),
        encoder_digest=export.sha256,
        deltas=_delta_digests(delta_cards),
        parity=export.parity,
        created_at=datetime.now(UTC),
    )
    write_json(version_dir / REVISION_FILE, record)
    return export


def write_encoder_config(
    text_encoder: Any, policy_name: str, base: Base, repository_dir: Path
) -> None:
    """Write the policy's `config.pbtxt`, the same for every revision."""
    name = encoder_model(policy_name)
    config = text_encoder_config(text_encoder_graph(base), name)
    write_file(repository_dir / name / CONFIG_FILE, pbtxt(config))


def text_encoder_graph(base: Base) -> TextEncoderGraph:
    """The graph of the base's text encoder, which all of its revisions share."""
    return TextEncoderGraph.of(base.text_encoder(), base.tokenizer().model_max_length)


def _plain(concepts: Sequence[Concept]) -> tuple[Concept, ...]:
    """The concepts without what a policy file adds to them."""
    return tuple(Concept(name=c.name, category=c.category, aliases=c.aliases) for c in concepts)


def _delta_digests(cards: Sequence[Card]) -> tuple[DeltaDigest, ...]:
    return tuple(
        DeltaDigest(concept=card.concept.name, tensors_digest=card.tensors_digest) for card in cards
    )


def _write_golden(
    text_encoder: Any, concepts: Sequence[str], base: Base, version_dir: Path
) -> None:
    prompts = ["", *concepts]
    encoded = base.tokenizer()(
        prompts, padding="max_length", truncation=True, return_tensors="pt"
    ).input_ids
    with torch.no_grad():
        hidden = text_encoder(input_ids=encoded).last_hidden_state
    golden = {"input_ids": encoded, "last_hidden_state": hidden.to(torch.float32).contiguous()}
    write_file(version_dir / GOLDEN_FILE, save(golden))
