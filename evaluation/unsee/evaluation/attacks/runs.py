"""Attacks within an evaluation: who is attacked with what, what came out, and finding it again."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from unsee.core.errors import InputError
from unsee.core.files import digest_of, write_file, write_json
from unsee.core.validation import ClosedModel
from unsee.models.digest import images_digest, tensors_digest

if TYPE_CHECKING:
    from unsee.evaluation.attacks import Attack, Attacked, Victim

Side = Literal["tuned", "base"]


class AttackRecord(ClosedModel):
    """What lies beside an attack's tensors: what it was run on, what it found, how long it took."""

    key: str
    attack: str
    concept: str
    side: Side
    budget: str
    prompts: tuple[str, ...]
    seconds: float
    tensors_digest: str


@dataclass(frozen=True)
class Assault:
    """One attack on one encoder; `encoder_digest` is `tensors_digest` of the victim's encoder."""

    attack: Attack
    victim: Victim
    side: Side
    encoder_digest: str
    num_prompts: int
    seed: int

    @property
    def stem(self) -> str:
        """The name of its files, without their suffixes."""
        concept = re.sub(r"\W+", "-", self.victim.concept.name.casefold()).strip("-")
        digest = hashlib.sha256(self.victim.concept.name.encode()).hexdigest()[:6]
        times = f"-x{self.attack.times}" if self.attack.times > 1 else ""
        return f"{self.attack.name}{times}-{concept}-{digest}-{self.side}"

    def key(self) -> str:
        """`"sha256:…"` over everything that the outcome depends on."""
        victim = self.victim
        facts = (
            self.attack.name,
            repr(self.attack),
            self.attack.budget(),
            self.encoder_digest,
            victim.base.digest(),
            tensors_digest(victim.base.denoiser("image").state_dict()),
            tensors_digest(victim.base.vae("image").state_dict()),
            victim.concept.model_dump(mode="json"),
            images_digest(victim.images),
            [prompt for prompt, _ in victim.unrelated],
            images_digest([image for _, image in victim.unrelated]),
            victim.concept_prompts,
            victim.plain_prompts,
            victim.look_digest,
            self.num_prompts,
            self.seed,
        )
        return digest_of(json.dumps(facts).encode())


def run_assault(
    assault: Assault, folder: Path, progress: Callable[[int, int], None]
) -> tuple[Attacked, float]:
    """What the attack found and how many seconds it took, made now or found again in `folder`.

    Where both sides are one encoder, it is attacked once. Raises what the attack raises.
    """
    key = assault.key()
    for side in dict.fromkeys((assault.side, *get_args(Side))):
        found = _load(replace(assault, side=side), key, folder)
        if found is not None:
            return found
    started = time.perf_counter()
    attacked = assault.attack.run(assault.victim, assault.num_prompts, assault.seed, progress)
    seconds = round(time.perf_counter() - started, 3)
    _save(assault, key, attacked, seconds, folder)
    return attacked, seconds


def chosen_attacks(
    names: str, attacks: Sequence[Attack], on_request: Sequence[Attack] = ()
) -> tuple[Attack, ...]:
    """Those that `names` lists: "all" (of `attacks`), "none", or names with commas between.

    Raises `InputError` for a name that is not among them.
    """
    if names in ("all", "none"):
        return tuple(attacks) if names == "all" else ()
    known = {attack.name: attack for attack in (*attacks, *on_request)}
    wanted = dict.fromkeys(name.strip() for name in names.split(","))
    for name in wanted:
        if name not in known:
            raise InputError(
                f"there is no attack {name!r}; known are {', '.join(known)}, all and none"
            )
    return tuple(known[name] for name in wanted)


def chosen_budgets(multiples: str) -> tuple[int, ...]:
    """The multiples of the usual budget in `multiples`, "1,4,16", in order.

    Raises `InputError` for anything but whole numbers of at least 1.
    """
    found = [text.strip() for text in multiples.split(",")]
    wrong = next((text for text in found if not text.isdecimal() or int(text) < 1), None)
    if wrong is not None:
        raise InputError(
            f"--attack-budgets holds {wrong!r}; it takes whole numbers from 1, such as 1,4,16"
        )
    return tuple(sorted({int(text) for text in found}))


def _save(assault: Assault, key: str, attacked: Attacked, seconds: float, folder: Path) -> None:
    """The record is written last: without it the tensors do not count."""
    tensors = {
        "prompt_embeds": attacked.prompt_embeds.detach().float().contiguous(),
        "negative_prompt_embeds": attacked.negative_prompt_embeds.detach().float().contiguous(),
    }
    record = AttackRecord(
        key=key,
        attack=assault.attack.name,
        concept=assault.victim.concept.name,
        side=assault.side,
        budget=assault.attack.budget(),
        prompts=attacked.prompts,
        seconds=seconds,
        tensors_digest=tensors_digest(tensors),
    )
    write_file(folder / f"{assault.stem}.safetensors", save(tensors))
    write_json(folder / f"{assault.stem}.json", record)


def _load(assault: Assault, key: str, folder: Path) -> tuple[Attacked, float] | None:
    from unsee.evaluation.attacks import Attacked

    try:
        record = AttackRecord.model_validate_json((folder / f"{assault.stem}.json").read_bytes())
        tensors = load_file(folder / f"{assault.stem}.safetensors")
    except (OSError, ValidationError, SafetensorError):
        return None
    if record.key != key or record.tensors_digest != tensors_digest(tensors):
        return None
    embeds, negative = tensors["prompt_embeds"], tensors["negative_prompt_embeds"]
    return Attacked(embeds, negative, record.prompts), record.seconds
