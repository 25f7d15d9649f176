"""A composed encoder as a folder that other programs load, and what it says about itself.

config.json, model.safetensors   an ordinary CLIPTextModel with one layer more
unsee.json                       what it unsees, of which base, from which deltas
README.md                        the same for people, and what a loader must not do
"""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from pydantic import ValidationError
from torch.nn import LayerNorm

from unsee.core.errors import InputError
from unsee.core.files import new_folder, write_file, write_json
from unsee.core.policy import Concept
from unsee.core.validation import ClosedModel
from unsee.deltas.appended_layer import with_appended_layer
from unsee.deltas.composition import parts
from unsee.deltas.delta import Delta
from unsee.deltas.edit import final_layer_norm
from unsee.models.base import Base
from unsee.models.components import Precision
from unsee.models.digest import tensors_digest
from unsee.models.files.weights import writing

RECORD_FILE = "unsee.json"
_CARD_FILE = "README.md"


class EncoderRecord(ClosedModel):
    """The content of `unsee.json`.

    Args:
        base, base_digest: the base that the encoder was composed for.
        encoder_digest: of the encoder's tensors in float32 (see `tensors_digest`).
        deltas: the `tensors_digest` of each concept's delta, in the order of `concepts`.
        dtype: of the stored weights.
    """

    schema_version: Literal[1] = 1
    base: str
    base_digest: str
    encoder_digest: str
    concepts: tuple[Concept, ...]
    deltas: tuple[str, ...]
    dtype: Precision


def save_encoder(
    base: Base, deltas: Sequence[Delta], folder: Path, dtype: Precision = "float32"
) -> EncoderRecord:
    """Compose the encoder of `deltas` and write it as `folder`, complete or not at all.

    Raises:
        InputError: `folder` exists, or no layer of this kind of encoder can carry an edit.
        DeltaMismatch: a delta is of another base, or is given twice.
    """
    if folder.exists():
        raise InputError(f"{folder} already exists; choose another output")
    _check_kind(base)
    encoder, edit = parts(base.text_encoder(), deltas)
    encoder = copy.deepcopy(encoder) if edit is None else with_appended_layer(encoder, edit)
    record = EncoderRecord(
        base=base.name,
        base_digest=base.digest(),
        encoder_digest=tensors_digest(encoder.state_dict()),
        concepts=tuple(delta.card.concept for delta in deltas),
        deltas=tuple(delta.card.tensors_digest for delta in deltas),
        dtype=dtype,
    )
    with writing(folder), new_folder(folder) as fresh:
        encoder.to(getattr(torch, dtype)).save_pretrained(fresh)
        write_json(fresh / RECORD_FILE, record)
        write_file(fresh / _CARD_FILE, _card(record, encoder.config.num_hidden_layers))
    return record


def _check_kind(base: Base) -> None:
    encoder = base.text_encoder()
    if not isinstance(final_layer_norm(encoder), LayerNorm):
        raise InputError(
            f"the text encoder of the base {base.name!r} is a {type(encoder).__name__}, no layer "
            "of which can carry an edit; attach the deltas to the pipeline in Python instead, with "
            "unsee.deltas.attach"
        )


def read_encoder_record(folder: Path) -> EncoderRecord | None:
    """The record in `folder`; None without one. Raises `InputError` if it is not valid."""
    file = folder / RECORD_FILE
    if not file.is_file():
        return None
    try:
        return EncoderRecord.model_validate_json(file.read_bytes())
    except (OSError, ValidationError) as error:
        raise InputError(
            f"{file} is not what `unsee apply` writes; write the folder again"
        ) from error


def _card(record: EncoderRecord, num_layers: int) -> str:
    names = "\n".join(f"- {concept.name} ({concept.category})" for concept in record.concepts)
    return f"""# A text encoder that unsees

An ordinary `CLIPTextModel`, composed by Unsee for the base {record.base} from a delta for each of:

{names}

Load it as the `text_encoder` of any pipeline with this base's encoder; the tokenizer stays. It may
be loaded in float32, bfloat16 or float16.

**The edit is the last of the {num_layers} layers.** A loader that leaves the last layers out (a
"clip skip", `clip_skip=1` in diffusers, or one that builds the model with the base's
{num_layers - 1} layers) passes the edit by, and the concepts are back. So does a LoRA or a textual
inversion that was trained on the unedited encoder for one of the concepts: it brings the concept by
another way than its name.

Deltas: {", ".join(record.deltas)}
Encoder: {record.encoder_digest}
"""
