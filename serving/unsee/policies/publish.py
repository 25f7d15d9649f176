"""Publishes a policy: compose its deltas, ask the gate, write the revision, load it, probe it.

The order matters: what is cheap and may be wrong comes first, and a revision becomes eligible only
after its report has passed the gate and the server has answered with it. When a revision goes live,
`unsee.policies.promotion` decides. PyTorch and the exporter are imported when they are needed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unsee.core.errors import FileNotWritable, InputError, ServerError, ServerUnreachable
from unsee.core.files import not_writable, write_file
from unsee.core.policy import Concept, Policy, PolicyConcept, load_policy
from unsee.evaluation.report.schema import SIGNATURE_FILE as REPORT_SIGNATURE
from unsee.policies import gate, promotion
from unsee.policies.lock import alone
from unsee.policies.recovery import recover_files
from unsee.repository import ledger, pointer
from unsee.repository.base import read_base
from unsee.repository.layout import REJECTED, base_file, encoder_model, revision_dir
from unsee.repository.records import AuditEvent, Policies, PolicyState
from unsee.repository.revisions import put_away
from unsee.triton.server import Server
from unsee.triton.versions import align

if TYPE_CHECKING:
    from unsee.deltas.delta import Card
    from unsee.models.base import Base

Say = Callable[[str], None]


@dataclass(frozen=True)
class PublishResult:
    """What was published.

    Args:
        model: the Triton model whose version `revision` it is.
        probe_error: largest difference of the probe, relative to the largest recorded value.
        active: whether the revision was promoted as well.
        unmet: what the gate found missing; empty unless it was overridden.
    """

    policy: str
    revision: int
    model: str
    probe_error: float
    active: bool
    seconds: float
    unmet: tuple[str, ...] = ()

    def as_json(self) -> str:
        """One JSON object."""
        return json.dumps(asdict(self), indent=2)


@dataclass(frozen=True)
class ComposedPolicy:
    """A policy's encoder and what it was made of; `digest` is `tensors_digest` of its state.

    `judge_digest` and `questions_digest` are those of the base's own judge and evaluation set; None
    where the base brings none.
    """

    base: Base
    cards: Sequence[Card]
    encoder: Any
    digest: str
    judge_digest: str | None = None
    questions_digest: str | None = None


def compose_policy(
    policy: Policy, base_path: Path, repository_dir: Path, say: Say
) -> ComposedPolicy:
    """The encoder that the policy's deltas give on this base, which must be the repository's.

    Raises:
        InputError: policy, deltas, base and repository are wrong or do not belong together.
    """
    from unsee.deltas.composition import compose
    from unsee.deltas.folder import load_delta
    from unsee.models.base import load_base
    from unsee.models.check import require
    from unsee.models.digest import tensors_digest

    base = load_base(base_path)
    for note in require(base):
        say(note)
    deltas = [load_delta(Path(concept.delta)) for concept in policy.unsee]
    for concept, delta in zip(policy.unsee, deltas, strict=True):
        _check_concept(concept, delta.card.concept)
    check_same_base(base, repository_dir)
    say(f"composing {_counted(len(deltas), 'delta')} of the policy {policy.name}")
    encoder = compose(base.text_encoder(), deltas)
    digest = tensors_digest(encoder.state_dict())
    cards = [delta.card for delta in deltas]
    return ComposedPolicy(base, cards, encoder, digest, *_own_evaluation(base))


def _check_concept(named: PolicyConcept, unseen: Concept) -> None:
    same_name = named.name.casefold() == unseen.name.casefold()
    if not same_name or named.category != unseen.category:
        raise InputError(
            f"the delta {named.delta} unsees the {unseen.category} {unseen.name!r}, and the policy "
            f"lists it as the {named.category} {named.name!r}; correct the policy file"
        )


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


def export_policy(policy: Policy, composed: ComposedPolicy, repository_dir: Path, say: Say) -> int:
    """The next revision of the policy, or the eligible one that is already what it would be.

    Raises:
        ParityError: the exported encoder differs from the composed one.
        OSError, FileNotWritable: the repository cannot be written.
    """
    from unsee.export.revision import find_revision, write_revision

    name, base, cards = policy.name, composed.base, composed.cards
    known = pointer.read(repository_dir).policies.get(name, PolicyState())
    same = find_revision(
        name,
        policy.unsee,
        base,
        repository_dir,
        cards,
        _of_encoder(composed, known, repository_dir, name),
    )
    if same is not None:
        say(f"revision {same} of the policy {name} has these deltas already")
        return same
    say("exporting the text encoder")
    return write_revision(composed.encoder, name, policy.unsee, base, repository_dir, cards)


def _of_encoder(
    composed: ComposedPolicy, state: PolicyState, repository_dir: Path, policy: str
) -> list[int]:
    """The eligible revisions that were published with this very encoder, as the log has it."""
    events = [ledger.last_publish(repository_dir, policy, number) for number in state.eligible]
    return [e.revision for e in events if e is not None and e.encoder_digest == composed.digest]


def publish(
    policy_file: Path,
    base_path: Path,
    repository_dir: Path,
    server: Server,
    *,
    report: Path | None = None,
    force: bool = False,
    reason: str | None = None,
    promote: bool = False,
    verify_with: Path | None = None,
    require_signed: bool = False,
    say: Say = lambda line: None,
    compose: Callable[[Policy, Path, Path, Say], ComposedPolicy] = compose_policy,
    export: Callable[[Policy, ComposedPolicy, Path, Say], int] = export_policy,
) -> PublishResult:
    """Make the next revision of a policy eligible, and active when `promote` is given.

    A policy that has not changed since an eligible revision gets that revision again.

    Args:
        policy_file: the policy's YAML file.
        base_path: folder of the base that the repository was exported from.
        repository_dir: the model repository.
        server: the Triton that serves it.
        report: the report.json of the policy's encoder or its folder; None: `reports/<policy>`.
        force: publish even if the report is missing, stale or below a threshold.
        reason: why; needed with `force`, and written into the audit log.
        promote: also make the revision the active one.
        verify_with: a public key that signed deltas and reports must have been signed with.
        require_signed: every delta and the report must be signed; needs `verify_with`.
        say: called with a line before each stage.
        compose, export: what makes the encoder of the policy, and a revision of the encoder.

    Raises:
        PublicationRefused: the report does not pass the gate; nothing has been done.
        InputError: policy, deltas, base or repository are wrong or do not belong together, or
            `force` and `reason` do not come together.
        ServerError: the server is not there, or could not load or answer with the revision; the
            revision is then not eligible and requests in flight notice nothing.
    """
    started = time.monotonic()
    gate.check_reason(force, reason)
    if require_signed and verify_with is None:
        raise InputError("--require-signed needs --verify-with PUBLIC.pem: whose signature counts")
    policy = load_policy(policy_file)
    pointer.read(repository_dir)
    server.check_live()
    if verify_with is not None:
        _check_signed_deltas(policy, verify_with, require_signed)
    found = gate.read_report(report, policy)
    gate.demand(found.problems, policy, force)  # what has no report is not composed
    composed = compose(policy, base_path, repository_dir, say)
    expected = gate.Expected(
        composed.base.digest(), composed.digest, composed.judge_digest, composed.questions_digest
    )
    found = gate.judge(found, policy, expected)
    if verify_with is not None and (require_signed or REPORT_SIGNATURE in found.files):
        found = gate.check_signature(found, verify_with)
    gate.demand(found.problems, policy, force)
    with alone(repository_dir, policy.name, "publish"):
        recover_files(repository_dir, policy.name, say)
        revision = _write(policy, composed, repository_dir, found, say, export)
        settings = found.report.settings if found.report else None
        event = AuditEvent(
            action="publish",
            policy=policy.name,
            revision=revision,
            encoder_digest=composed.digest,
            report_digest=found.digest,
            forced=force,
            reason=reason,
            unmet=found.problems,
            page_digest=found.page_digest,
            thresholds=policy.thresholds,
            loosened=policy.thresholds.loosened(),
            recogniser=settings.recogniser if settings else None,
            recogniser_digest=settings.recogniser_digest if settings else None,
            signed_with=_key_digest(verify_with),
        )
        probe_error = admit(server, repository_dir, event, say)
    if promote:
        key = verify_with if require_signed else None
        promotion.promote(repository_dir, policy.name, revision, verify_with=key)
    return PublishResult(
        policy.name,
        revision,
        encoder_model(policy.name),
        probe_error,
        promote,
        time.monotonic() - started,
        found.problems,
    )


def _check_signed_deltas(policy: Policy, public_key: Path, require_signed: bool) -> None:
    """Raise unless each signed delta of the policy is signed with the key, and all are if asked."""
    from unsee.deltas.files import SIGNATURE_FILE
    from unsee.deltas.signature import verify_folder

    for concept in policy.unsee:
        folder = Path(concept.delta)
        if require_signed or (folder / SIGNATURE_FILE).exists():
            verify_folder(folder, public_key)


def _key_digest(public_key: Path | None) -> str | None:
    return None if public_key is None else ledger.digest_of(public_key.read_bytes())


def admit(
    server: Server, repository_dir: Path, published: AuditEvent, say: Say = lambda line: None
) -> float:
    """Load a revision that has been written, probe it and make it eligible; call it in `alone`.

    Args:
        published: the event of its publication, which is logged.

    Returns:
        The error of the probe, relative to the largest recorded value.

    Raises:
        ServerError: as `publish`; unless it was eligible before, the revision was taken back.
    """
    policy, revision = published.policy, published.revision
    known = pointer.read(repository_dir).policies.get(policy, PolicyState())
    model_dir = repository_dir / encoder_model(policy)
    try:
        align(server, model_dir)  # what an interrupted command has left loaded
        say(f"loading revision {revision} of {model_dir.name}")
        server.load(model_dir.name, revision)
        say("probing it by inference")
        error = promotion.probe(server, model_dir / str(revision), revision)
    except ServerError as cause:
        if revision in known.eligible:  # it may be in use: leave it
            raise
        raise _rejected(server, repository_dir, policy, revision, cause) from cause

    def mark(policies: Policies) -> tuple[Policies, AuditEvent]:
        state = policies.policies.get(policy, PolicyState())
        return policies.with_state(policy, state.with_eligible(revision)), published

    ledger.change(repository_dir, mark)
    return error


def check_same_base(base: Base, repository_dir: Path) -> None:
    """Raise InputError unless the repository's video model is that of `base`."""
    file = base_file(repository_dir)
    try:
        digest = read_base(file).digest
    except (OSError, ValueError) as error:
        raise InputError(
            f"{repository_dir} is not a complete model repository: {file} cannot be read "
            f"({' '.join(str(error).split())}); make it with: unsee export"
        ) from error
    if digest != base.digest():
        raise InputError(
            f"{repository_dir} was exported from another base than {base.name} "
            f"(text encoder {digest[:19]}, not {base.digest()[:19]}); give that base"
        )


def _write(
    policy: Policy,
    composed: ComposedPolicy,
    repository_dir: Path,
    found: gate.Judged,
    say: Say,
    export: Callable[[Policy, ComposedPolicy, Path, Say], int],
) -> int:
    """Export a revision and put its report beside its graph, unless one is there."""
    try:
        revision = export(policy, composed, repository_dir, say)
        folder = revision_dir(repository_dir, policy.name, revision)
        for name, content in found.files.items():
            if not (folder / name).exists():
                write_file(folder / name, content)
    except (OSError, FileNotWritable) as error:
        model_dir = repository_dir / encoder_model(policy.name)
        cause = not_writable(model_dir, error) if isinstance(error, OSError) else error
        raise FileNotWritable(
            f'no revision of the policy "{policy.name}" was published: {cause}; '
            "the service is as it was"
        ) from error
    return revision


def _rejected(
    server: Server, repository_dir: Path, policy: str, revision: int, cause: ServerError
) -> ServerError:
    """Take the revision away, for one bad version blocks all later loads of its model.

    It is kept among the rejected ones, and can be made again from the same policy under the next
    number.
    """
    model_dir = repository_dir / encoder_model(policy)
    event = ledger.event_of(
        repository_dir, "reject", policy, revision, reason=str(cause), outcome="taken back"
    )
    ledger.note(repository_dir, event)
    put_away(model_dir / str(revision), REJECTED)
    with suppress(ServerError):  # the first error is the one worth telling
        if not isinstance(cause, ServerUnreachable):
            align(server, model_dir)
    return ServerError(
        f'revision {revision} of the policy "{policy}" was taken back: {cause}; '
        "nothing else changed on the server"
    )


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
