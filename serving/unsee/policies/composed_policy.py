"""A policy's encoder, composed of its deltas, and the revision that is exported of it.

PyTorch and the exporter are imported when they are needed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unsee.core.errors import InputError
from unsee.core.policy import Policy
from unsee.repository import ledger, pointer
from unsee.repository.base import Base as ServedBase
from unsee.repository.base import read_base
from unsee.repository.layout import base_file
from unsee.repository.records import PolicyState

if TYPE_CHECKING:
    from unsee.deltas.delta import Card
    from unsee.models.base import Base

Say = Callable[[str], None]


@dataclass(frozen=True)
class ComposedPolicy:
    """A policy's encoder and what it was made of.

    Args:
        encoder: the base's with the policy's edit, or one of tuned weights.
        digest: `tensors_digest` of the encoder's state.
        judge_digest, questions_digest: of the base's own judge and evaluation set; None where the
            base brings none.
        models_digest: of the repository's denoiser, autoencoder and scheduler; None where it was
            exported by a version that did not record it.
        clip: frames, denoising steps and guidance of the repository's clips by default.
    """

    base: Base
    cards: Sequence[Card]
    encoder: Any
    digest: str
    judge_digest: str | None = None
    questions_digest: str | None = None
    models_digest: str | None = None
    clip: tuple[int, int, float] | None = None


def compose_policy(
    policy: Policy, base_path: Path, repository_dir: Path, say: Say
) -> ComposedPolicy:
    """The encoder that the policy's deltas give on this base, which must be the repository's.

    Raises:
        InputError: policy, deltas, base and repository are wrong or do not belong together.
    """
    from unsee.deltas.composition import compose
    from unsee.deltas.folder import load_policy_deltas
    from unsee.models.base import load_base
    from unsee.models.check import require
    from unsee.models.digest import tensors_digest

    base = load_base(base_path)
    for note in require(base):
        say(note)
    deltas = load_policy_deltas(policy)
    served = check_same_base(base, repository_dir)
    clip = served.defaults
    say(f"composing {_counted(len(deltas), 'delta')} of the policy {policy.name}")
    encoder = compose(base.text_encoder(), deltas)
    digest = tensors_digest(encoder.state_dict())
    cards = [delta.card for delta in deltas]
    return ComposedPolicy(
        base,
        cards,
        encoder,
        digest,
        *_own_evaluation(base),
        models_digest=served.models_digest or None,
        clip=(clip.num_frames, clip.num_inference_steps, clip.guidance_scale),
    )


def export_policy(policy: Policy, composed: ComposedPolicy, repository_dir: Path, say: Say) -> int:
    """The next revision of the policy, or the eligible one that is already what it would be.

    Raises:
        ParityError: the exported graph differs from the composed encoder.
        OSError, FileNotWritable: the repository cannot be written.
    """
    from unsee.export.revision import find_revision, write_revision

    name, base, cards = policy.name, composed.base, composed.cards
    among = _published_as(composed.digest, repository_dir, name)
    same = find_revision(name, policy.unsee, base, repository_dir, cards, among)
    if same is not None:
        say(f"revision {same} of the policy {name} has these deltas already")
        return same
    say("exporting what the policy makes of the text encoder")
    return write_revision(composed.encoder, name, policy.unsee, base, repository_dir, cards)


def check_same_base(base: Base, repository_dir: Path) -> ServedBase:
    """What the repository serves; raise InputError unless its encoder is `base`'s."""
    file = base_file(repository_dir)
    try:
        record = read_base(file)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{repository_dir} is not a complete model repository: {file} cannot be read "
            f"({' '.join(str(error).split())}); make it with: unsee export"
        ) from error
    if record.digest != base.digest():
        raise InputError(
            f"{repository_dir} was exported from another base than {base.name} "
            f"(text encoder {record.digest[:19]}, not {base.digest()[:19]}); give that base"
        )
    return record


def _published_as(digest: str, repository_dir: Path, policy: str) -> list[int]:
    """The eligible revisions that were published with this very encoder, as the log has it."""
    state = pointer.read(repository_dir).policies.get(policy, PolicyState())
    events = [ledger.last_publish(repository_dir, policy, number) for number in state.eligible]
    return [e.revision for e in events if e is not None and e.encoder_digest == digest]


def _own_evaluation(base: Base) -> tuple[str | None, str | None]:
    """The digests of the base's judge and of its evaluation set, where it brings them."""
    from unsee.evaluation.asking.evaluation_set import load_evaluation_set
    from unsee.evaluation.seeing.judge_recogniser import JudgeRecogniser

    spec, judge, questions = base.spec, None, None
    if spec.judge is not None:
        judge = JudgeRecogniser.from_pretrained(base.folder / spec.judge).digest()
    if spec.evaluation is not None:
        questions = load_evaluation_set(base.folder / spec.evaluation).digest()
    return judge, questions


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
