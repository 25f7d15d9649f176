"""What stands in a base's folder, what is made of it, and whether that can be served.

Every command that reads a base calls `require` first, so that all refuse the same folders in the
same sentence; `unsee base check` shows the whole table.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from unsee.core.errors import BaseFolderError
from unsee.models.base import Base
from unsee.models.components import (
    about_base,
    check_stored,
    component_class,
    component_type,
    model_index,
    source_place,
)
from unsee.models.files.weights import (
    WeightFiles,
    adapters_in,
    find_weights,
    stored_tensors,
    weight_stem,
)
from unsee.models.generative import hollow_model
from unsee.models.schedulers import offered_schedulers
from unsee.models.spec import Media

_READ = {
    "motion_adapter",  # it is a part of the UNet already
    "scheduler",
    "text_encoder",
    "tokenizer",
    "transformer",
    "unet",
    "vae",
}


@dataclass(frozen=True)
class Finding:
    """One part of a base.

    Args:
        part: a path in the base's folder, or a field of `base.yaml`.
        read: what was found there.
        used: what unlearning, evaluation, export and serving make of it.
        note: one clause where that is not what the folder says; "" otherwise.
        problem: why the base is refused; "" otherwise.
    """

    part: str
    read: str = ""
    used: str = ""
    note: str = ""
    problem: str = ""


def check(base: Base) -> tuple[Finding, ...]:
    """Every part of `base`, those with a problem included.

    Text encoders are loaded; of denoisers and autoencoders names and shapes alone are compared.
    """
    return tuple(_findings(base))


def require(base: Base) -> tuple[str, ...]:
    """The notes on `base`, one sentence each, once it was checked.

    Raises:
        BaseFolderError: the first problem.
    """
    findings = check(base)
    for finding in findings:
        if finding.problem:
            raise BaseFolderError(finding.problem)
    return tuple(f"{one.part}: {one.note}" for one in findings if one.note)


def _findings(base: Base) -> Iterator[Finding]:
    spec = base.spec
    yield from _attempt("text encoders", lambda: _encoders(base))
    yield from _attempt("tokenizers", lambda: _tokenizers(base))
    for source in base.sources:
        yield from _attempt(source, partial(_denoiser, base, source))
        yield from _attempt(f"{source}/vae", partial(_weights_of, base, source, "vae"))
        yield from _attempt(source, partial(_fits, base, source))
        yield from _attempt(source, partial(_unread, base, source))
    yield from _attempt("schedulers", lambda: _schedulers(base))
    adapter = spec.motion_adapter
    if adapter is not None:
        yield from _attempt(adapter, lambda: _motion_adapter(base, adapter))
    yield from _attempt("prompts", lambda: _prompts(base))
    yield from _missing_in_evaluation(base)
    yield from _adapters(base)


def _attempt(part: str, look: Callable[[], list[Finding]]) -> list[Finding]:
    try:
        return look()
    except BaseFolderError as error:
        return [Finding(part, problem=str(error))]


def _encoders(base: Base) -> list[Finding]:
    base.family()
    encoder = base.text_encoder()
    note = base.check_shared_text_encoder()
    masked = ", padding masked" if base.prompt_frame().gives_mask else ""
    uses = "edited and evaluated" if base.why_not_exportable() else "edited, evaluated and exported"
    used = f"{uses} in {base.spec.encoder_precision}{masked}"
    image, video = base.pictures_source, base.spec.t2v
    found = [
        Finding(f"{image}/text_encoder", _encoder_text(base, image, encoder), used),
    ]
    if video != image:
        other = base.encoder_of(video)
        found.append(
            Finding(f"{video}/text_encoder", _encoder_text(base, video, other), "compared", note)
        )
    return found


def _encoder_text(base: Base, source: str, encoder: Any) -> str:
    family, config = base.family(), encoder.config
    return (
        f"{type(encoder).__name__}, {family.num_layers(config)} layers of {family.width(config)}"
        f"{_stored(base, source, 'text_encoder')}"
    )


def _tokenizers(base: Base) -> list[Finding]:
    image, video = base.tokenizer("image"), base.tokenizer()
    frame, family = base.prompt_frame(), base.family()
    config = base.text_encoder().config
    notes = []
    theirs = list(family.config_ids(config).values())
    ours = [*frame.start, frame.eos]
    if theirs != ours:
        notes.append(
            f"the encoder's config.json has the ids {_listed(theirs)}; the tokenizer's "
            f"{_listed(ours)} are used"
        )
    allowed = {one.init_kwargs.get("model_max_length") for one in (image, video)} - {None}
    positions = family.most_tokens(config)
    if positions is not None and (allowed | {positions}) != {frame.length}:
        counts = " and ".join(f"{count:g}" for count in sorted(allowed)) or "any number of"
        notes.append(
            f"model_max_length allows {counts} tokens and the encoder {positions}: "
            f"{frame.length} are used"
        )
    used = f"{frame.length} tokens a prompt, padded with {video.pad_token!r} ({frame.pad})"
    text = f"{type(video).__name__}, {len(video)} tokens"
    found = [Finding(f"{base.spec.t2v}/tokenizer", text, used, "; ".join(notes))]
    if base.pictures_source != base.spec.t2v:
        note = ""
        if image.pad_token_id != frame.pad:
            note = (
                f"pads with {image.pad_token!r} ({image.pad_token_id}), the video model's with "
                f"{video.pad_token!r} ({frame.pad}): images are padded so, clips as the video "
                "model pads"
            )
        text = f"{type(image).__name__}, {len(image)} tokens"
        found.append(Finding(f"{base.pictures_source}/tokenizer", text, "the same ids", note))
    return found


def _listed(ids: Sequence[int]) -> str:
    return " and ".join(map(str, ids))


def _denoiser(base: Base, source: str) -> list[Finding]:
    component = base.pipeline(_media(base, source)).denoiser
    return _attempt(f"{source}/{component}", partial(_weights_of, base, source, component))


def _media(base: Base, source: str) -> Media:
    return "image" if source == base.pictures_source else "video"


def _weights_of(base: Base, source: str, component: str) -> list[Finding]:
    place = source_place(base.folder, source)
    loader = component_type(base.name, place, component)
    uses = []
    if source == base.pictures_source:
        uses.append(f"images, in {base.spec.precision}")
    if source == base.spec.t2v:
        uses.append("clips, not exported" if base.why_not_exportable() else "clips, exported")
    part, used = f"{source}/{component}", " and ".join(uses)
    if not isinstance(place, Path):
        return [Finding(part, loader.__name__, used)]
    weights = check_stored(base.name, place, component, base.spec.variant)
    return [Finding(part, f"{loader.__name__}{_types(weights)}", used, weights.note)]


def _fits(base: Base, source: str) -> list[Finding]:
    """Nothing to show where the parts of the model fit together."""
    width = base.family().width(base.text_encoder().config)
    model = hollow_model(base, _media(base, source))
    with about_base(base.name):
        model.check(source_place(base.folder, source), width)
    return []


def _motion_adapter(base: Base, source: str) -> list[Finding]:
    from diffusers import MotionAdapter

    place = source_place(base.folder, source)
    if not isinstance(place, Path):
        return [Finding(source, "MotionAdapter", "clips, exported")]
    if not place.is_dir():
        raise BaseFolderError(f"base {base.name!r} has no motion adapter: {place} is missing")
    weights = check_stored(base.name, place, "", base.spec.variant, MotionAdapter)
    base.check_motion_adapter()
    return [Finding(source, f"MotionAdapter{_types(weights)}", "clips, exported", weights.note)]


def _schedulers(base: Base) -> list[Finding]:
    image, video = base.scheduler("image"), base.scheduler("video")
    clips, note = "clips", ""
    if not base.why_not_exportable():
        offer = offered_schedulers(base)
        others = ", ".join(list(offer.offered)[1:]) or "nothing"
        clips, note = f"clips; a request may choose {others} instead", "; ".join(offer.warnings)
    else:
        with about_base(base.name):
            _ = hollow_model(base, "image").process
    text = _scheduler_text(video, bool(base.spec.schedulers.t2v))
    noise = "images, and the noise that unlearning adds"
    if base.spec.t2i is None:
        return [Finding(f"{base.spec.t2v}/scheduler", text, f"{noise}; {clips}", note)]
    own = _scheduler_text(image, bool(base.spec.schedulers.t2i))
    return [
        Finding(f"{base.spec.t2i}/scheduler", own, noise),
        Finding(f"{base.spec.t2v}/scheduler", text, clips, note),
    ]


def _scheduler_text(scheduler: Any, is_changed: bool) -> str:
    kind = scheduler.config.get("prediction_type", "flow matching")
    changed = ", with options of base.yaml" if is_changed else ""
    return f"{type(scheduler).__name__}, {kind}{changed}"


def _unread(base: Base, source: str) -> list[Finding]:
    """Components that a pipeline of diffusers would load and this service does not."""
    index = model_index(base.name, source_place(base.folder, source))
    entries = {
        name: entry[1]
        for name, entry in index.items()
        if name not in _READ and isinstance(entry, list) and len(entry) == 2 and entry[1]
    }
    return [
        Finding(
            f"{source}/{name}",
            str(class_name),
            "not read",
            "not run by this service: its frames are not filtered"
            if name == "safety_checker"
            else "",
        )
        for name, class_name in entries.items()
        if not name.startswith("text_encoder_")
    ]


def _prompts(base: Base) -> list[Finding]:
    if base.spec.prompts is None:
        return []
    count = len(base.prompts())
    return [Finding(base.spec.prompts, f"{count} prompts", "kept as they are by an edit")]


def _missing_in_evaluation(base: Base) -> Iterator[Finding]:
    """What evaluation alone reads is no reason to refuse a base."""
    for part, place in (("judge", base.spec.judge), ("evaluation", base.spec.evaluation)):
        if place is not None and not (base.folder / place).exists():
            note = f"there is no {base.folder / place}; correct the line {part}: of base.yaml"
            yield Finding(part, place, "needed by unsee evaluate", note)


def _adapters(base: Base) -> Iterator[Finding]:
    """LoRA files, which neither diffusers nor this service applies unless they are merged."""
    places = [base.folder]
    for source in base.sources:
        place = source_place(base.folder, source)
        if isinstance(place, Path):
            parts = ("text_encoder", "unet", "transformer")
            places += [place, *(place / part for part in parts)]
    seen: set[Path] = set()
    for place in places:
        if place.resolve() in seen:
            continue
        seen.add(place.resolve())
        for file in adapters_in(place):
            if file.name == "adapter_config.json":
                problem = (
                    f"base {base.name!r}: {file} asks for a LoRA on the {place.name}, which is "
                    "applied in some programs and not in others; merge it into the weights "
                    "(merge_and_unload, then save_pretrained) and remove the file"
                )
                yield Finding(str(file.relative_to(base.folder)), "LoRA", problem=problem)
            else:
                note = "not applied; merge it into the weights if clips are to be made with it"
                part = str(file.relative_to(base.folder)) if base.folder in file.parents else file
                yield Finding(str(part), "LoRA", "not read", note)


def _stored(base: Base, source: str, component: str) -> str:
    place = source_place(base.folder, source)
    if not isinstance(place, Path):
        return ""
    library, _ = component_class(base.name, place, component)
    return _types(find_weights(place / component, weight_stem(library), base.spec.variant))


def _types(weights: WeightFiles) -> str:
    """The files' names and the types of their values."""
    spelled = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64"}
    types = {spelled.get(dtype, dtype) for dtype, _ in stored_tensors(weights.files).values()}
    names = weights.files[0].name if len(weights.files) == 1 else f"{len(weights.files)} shards"
    return f", {' and '.join(sorted(types))} in {names}"
