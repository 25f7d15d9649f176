"""Edits for a diffusers pipeline in Python: attached in one line, gone again without a trace.

with attach(pipe, "deltas/blimbo", "deltas/quillomar"):
    pipe("Blimbo on the sea, painted by Quillomar")
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from unsee.core.errors import DeltaMismatch, InputError
from unsee.deltas.composition import Merge, merged, ordered_edits
from unsee.deltas.delta import Delta
from unsee.deltas.edit import EditedNorm, final_layer_norm, install, uninstall
from unsee.deltas.folder import load_delta
from unsee.models.digest import rounded_digest, tensors_digest

_ENCODER = "text_encoder"
_HALVES = {torch.float16, torch.bfloat16}


class Attached:
    """What `attach` returns: a context at whose end the edits go, or call `detach`."""

    def __init__(self, undo: Sequence[Callable[[], None]]) -> None:
        self._undo = list(undo)

    def detach(self) -> None:
        """Leave the pipeline as it was; a second call does nothing."""
        while self._undo:
            self._undo.pop()()

    def __enter__(self) -> Attached:
        """Raises `InputError` once the edits are detached, since the block would be unedited."""
        if not self._undo:
            raise InputError("these edits were detached; call attach again")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.detach()


def attach(pipe: Any, *deltas: Delta | Path | str, merge: Merge = "product") -> Attached:
    """Let a diffusers pipeline unsee the concepts of `deltas`, by what its text encoder says.

    No weight changes. The pipeline's own `encode_prompt` is what is edited, its negative prompt
    included, in whatever dtype and on whatever device the encoder is.

    Args:
        pipe: a pipeline whose text encoders are of CLIP's, T5's or UMT5's kind.
        deltas: folders of deltas, or deltas, of the default mode.
        merge: how several edits become one (see `unsee.deltas.composition.merged`).

    Raises:
        DeltaMismatch: a delta was made for none of the pipeline's text encoders, or is given twice.
        InputError: nothing to attach, an encoder that no delta edits, a delta of dense differences,
            edits that are attached already, or an encoder that is quantised or whose weights are
            not in memory.
    """
    if not deltas:
        raise InputError("no delta was given to attach; name the folder of one or more")
    encoders = _encoders(pipe)
    loaded = [each if isinstance(each, Delta) else load_delta(Path(each)) for each in deltas]
    belonging: dict[str, list[Delta]] = {name: [] for name in encoders}
    digests = {name: _digests(name, encoder) for name, encoder in encoders.items()}
    for delta in loaded:
        belonging[_encoder_of(delta, digests)].append(delta)
    for name, own in belonging.items():
        if not own:
            raise InputError(
                f"no delta is for the pipeline's {name} (a {type(encoders[name]).__name__}), which "
                "would still know the concept; attach one for each of its text encoders"
            )
    edits = {name: merged(ordered_edits(own), merge) for name, own in belonging.items()}
    return Attached([_attached(encoders[name], edit) for name, edit in edits.items()])


def _encoders(pipe: Any) -> dict[str, Any]:
    """The pipeline's text encoders by component, those that are compiled unwrapped."""
    config = getattr(pipe, "config", None)
    listed = config if isinstance(config, Mapping) else ()  # a pipeline's, not a model's
    names = [name for name in listed if name == _ENCODER or name.startswith(f"{_ENCODER}_")]
    components = {name: getattr(pipe, name, None) for name in names}
    found = {
        name: getattr(component, "_orig_mod", component)
        for name, component in components.items()
        if component is not None
    }
    if not found:
        raise InputError(
            f"the {type(pipe).__name__} has no text encoder to attach an edit to; "
            "give a pipeline of diffusers that has one"
        )
    for name, encoder in found.items():
        if isinstance(final_layer_norm(encoder), EditedNorm):
            raise InputError(
                f"edits are attached to the pipeline's {name} already; detach them first, and "
                "attach all deltas in one call"
            )
    return found


def _digests(name: str, encoder: Any) -> set[str]:
    """The digests by which a delta may know this encoder: exact, and rounded to its coarsest type.

    A pipeline in half precision has some of its weights in float32, as T5 has.
    """
    tensors = encoder.state_dict()
    if any(tensor.is_meta for tensor in tensors.values()):
        raise InputError(
            f"the weights of the pipeline's {name} are not in memory (sequential offload); attach "
            "before enable_sequential_cpu_offload()"
        )
    if any("lora_" in tensor for tensor in tensors):
        raise DeltaMismatch(
            f"a LoRA is loaded into the pipeline's {name}, which changes the states that an edit "
            "was made for; unload it before attaching"
        )
    packed = any(tensor.element_size() == 1 for tensor in tensors.values())
    if packed or getattr(encoder, "hf_quantizer", None) is not None:
        raise InputError(
            f"the pipeline's {name} is quantised, so its weights are not those that a delta was "
            "made for; load it in float32, bfloat16 or float16"
        )
    dtypes = {tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()}
    mixed = dtypes & _HALVES if len(dtypes) > 1 else set()  # of one type, they are rounded already
    return {tensors_digest(tensors)} | {rounded_digest(tensors, dtype) for dtype in mixed}


def _encoder_of(delta: Delta, digests: Mapping[str, set[str]]) -> str:
    card = delta.card
    known = {card.base_digest, *card.rounded_digests.values()}
    for name, own in digests.items():
        if own & known:
            return name
    raise DeltaMismatch(
        f"the delta of {card.concept.name!r} was made for the text encoder of the base "
        f"{card.base!r} ({card.base_digest[:19]}), which this pipeline does not have; "
        "unlearn the concept again with a base of this pipeline's weights (a textual inversion or "
        "a merged LoRA changes them too)"
    )


def _attached(encoder: Any, edit: Any) -> Callable[[], None]:
    norm = EditedNorm(final_layer_norm(encoder), edit)
    handles = (
        install(encoder, norm),
        encoder.register_forward_pre_hook(_refuse_earlier_states, with_kwargs=True),
    )
    encoder.save_pretrained = _refuse_to_save

    def undo() -> None:
        del encoder.save_pretrained
        for handle in handles:
            handle.remove()
        uninstall(encoder, norm)

    return undo


def _refuse_earlier_states(module: Any, args: Any, kwargs: Mapping[str, Any]) -> None:
    if kwargs.get("output_hidden_states"):
        raise InputError(
            "this pipeline reads an earlier state of its text encoder than the last one, which "
            "passes the edit by; leave clip_skip out, or use a pipeline that reads the last state"
        )


def _refuse_to_save(*args: Any, **kwargs: Any) -> None:
    raise InputError(
        "edits are attached to this text encoder, and its final normalisation would be saved under "
        "a name that nothing reads; detach them before saving"
    )
