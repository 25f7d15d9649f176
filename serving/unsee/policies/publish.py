"""Publishes a policy: compose its deltas, ask the gate, write the revision, load it, probe it.

The order matters: what is cheap and may be wrong comes first, and a revision becomes eligible only
after its report has passed the gate and the server has answered with it. Nothing here decides when
a revision goes live; `promotion` does. PyTorch and the exporter are imported when needed, so that
the module itself stays light.
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
from unsee.core.policy import Policy, load_policy
from unsee.evaluation.report.schema import PAGE_FILE, REPORT_FILE
from unsee.policies import gate, promotion
from unsee.policies.gate import Clearance, Override
from unsee.policies.lock import alone
from unsee.repository import ledger, pointer
from unsee.repository.base import read_base
from unsee.repository.layout import REJECTED, base_file, encoder_model
from unsee.repository.records import AuditEvent, Policies, PolicyState
from unsee.repository.revisions import put_away

if TYPE_CHECKING:
    from unsee.deltas.delta import Card
    from unsee.models.base import Base
    from unsee.triton.encoder_server import EncoderServer

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
class Composed:
    """A policy's encoder and what it was made of; `digest` is `tensors_digest` of its state."""

    base: Base
    cards: list[Card]
    encoder: Any
    digest: str


@dataclass(frozen=True)
class Offer:
    """A composed policy and what the gate says of it."""

    policy: Policy
    composed: Composed
    clearance: Clearance
    override: Override


def publish(
    policy_file: Path,
    base_path: Path,
    repository_dir: Path,
    url: str,
    *,
    report: Path | None = None,
    force: bool = False,
    reason: str | None = None,
    promote: bool = False,
    say: Say = lambda line: None,
) -> PublishResult:
    """Makes the next revision of a policy eligible, and active when `promote` is given.

    A policy that has not changed since an eligible revision gets that revision again.

    Args:
        policy_file: the policy's YAML file.
        base_path: folder of the base that the repository was exported from.
        repository_dir: the model repository.
        url: host and gRPC port of Triton, without a scheme.
        report: the report.json of the policy's encoder or its folder; None: `reports/<policy>`.
        force: publish even if the report is missing, stale or below a threshold.
        reason: why; needed with `force`, and written into the audit log.
        promote: also make the revision the active one.
        say: called with a line before each stage.

    Raises:
        PublicationRefused: the report does not pass the gate; nothing has been done.
        InputError: policy, deltas, base or repository are wrong or do not belong together, or
            `force` and `reason` do not come together.
        ServerError: the server is not there, or could not load or answer with the revision; the
            revision is then not eligible and requests in flight notice nothing.
    """
    from unsee.policies.recovery import recover_files
    from unsee.triton.encoder_server import EncoderServer

    started = time.monotonic()
    override = gate.Override(force, reason)
    policy = load_policy(policy_file)
    pointer.read(repository_dir)
    with EncoderServer(url) as server:
        server.check_live()
        composed, clearance = _cleared(policy, base_path, repository_dir, report, override, say)
        with alone(repository_dir, policy.name, "publish"):
            recover_files(repository_dir, policy.name, say)
            offer = Offer(policy, composed, clearance, override)
            revision, probe_error = _add(server, repository_dir, offer, say)
    if promote:
        promotion.promote(repository_dir, policy.name, revision)
    seconds = time.monotonic() - started
    model = encoder_model(policy.name)
    return PublishResult(
        policy.name, revision, model, probe_error, promote, seconds, clearance.unmet
    )


def _add(server: EncoderServer, repository_dir: Path, offer: Offer, say: Say) -> tuple[int, float]:
    """Write a revision and admit it; returns its number and the error of its probe."""
    name = offer.policy.name
    model_dir = repository_dir / encoder_model(name)
    known = pointer.read(repository_dir).policies.get(name, PolicyState())
    try:
        revision = _write_revision(
            offer.policy, offer.composed, repository_dir, known.eligible, say
        )
        _keep_report(offer.clearance, model_dir / str(revision))
    except (OSError, FileNotWritable) as error:
        cause = not_writable(model_dir, error) if isinstance(error, OSError) else error
        raise FileNotWritable(
            f'no revision of the policy "{name}" was published: {cause}; the service is as it was'
        ) from error
    return revision, admit(server, repository_dir, revision, offer, say)


def admit(
    server: EncoderServer,
    repository_dir: Path,
    revision: int,
    offer: Offer,
    say: Say = lambda line: None,
) -> float:
    """Load a revision that has been written, probe it and make it eligible; call it in `alone`.

    Returns:
        The error of the probe, relative to the largest recorded value.

    Raises:
        ServerError: as `publish`; unless it was eligible before, the revision was taken back.
    """
    name = offer.policy.name
    known = pointer.read(repository_dir).policies.get(name, PolicyState())
    try:
        error = _load_and_probe(server, repository_dir / encoder_model(name), revision, say)
    except ServerError as cause:
        if revision in known.eligible:  # it may be in use: leave it
            raise
        raise _rejected(server, repository_dir, name, revision, cause) from cause
    _make_eligible(repository_dir, revision, offer)
    return error


def _cleared(
    policy: Policy,
    base_path: Path,
    repository_dir: Path,
    report: Path | None,
    override: Override,
    say: Say,
) -> tuple[Composed, Clearance]:
    """The policy's encoder, and what the gate says of it; a missing report ends it at once."""
    evidence = gate.read_evidence(report, policy)
    gate.demand(evidence.unmet, policy, override)
    composed = _compose(policy, base_path, repository_dir, say)
    clearance = gate.inspect(evidence, policy, composed.base.digest(), composed.digest)
    gate.demand(clearance.unmet, policy, override)
    return composed, clearance


def _compose(policy: Policy, base_path: Path, repository_dir: Path, say: Say) -> Composed:
    """The encoder that the policy's deltas give on this base, which must be the repository's."""
    from unsee.deltas.composition import compose
    from unsee.deltas.folder import load_delta
    from unsee.models.base import load_base
    from unsee.models.digest import tensors_digest

    base = load_base(base_path)
    deltas = [load_delta(Path(concept.delta)) for concept in policy.unsee]
    _check_same_base(base, repository_dir)
    say(f"composing {_counted(len(deltas), 'delta')} of the policy {policy.name}")
    encoder = compose(base.text_encoder(), deltas)
    digest = tensors_digest(encoder.state_dict())
    return Composed(base, [delta.card for delta in deltas], encoder, digest)


def _write_revision(
    policy: Policy, composed: Composed, repository_dir: Path, eligible: Sequence[int], say: Say
) -> int:
    """The next revision of the policy, or the eligible one that is already what it would be."""
    from unsee.export.revision import find_revision, write_revision

    base, cards = composed.base, composed.cards
    same = find_revision(policy.name, policy.unsee, base, repository_dir, cards, eligible)
    if same is not None:
        say(f"revision {same} of the policy {policy.name} has these deltas already")
        return same
    say("exporting the text encoder")
    return write_revision(composed.encoder, policy.name, policy.unsee, base, repository_dir, cards)


def _keep_report(clearance: Clearance, version_dir: Path) -> None:
    """Puts the report and its page beside the graph that they speak of; the first ones stay."""
    for name, content in ((PAGE_FILE, clearance.page), (REPORT_FILE, clearance.content)):
        file = version_dir / name
        if content is not None and not file.exists():
            write_file(file, content)


def _make_eligible(repository_dir: Path, revision: int, offer: Offer) -> None:
    name = offer.policy.name

    def mark(policies: Policies) -> tuple[Policies, AuditEvent]:
        event = AuditEvent(
            action="publish",
            policy=name,
            revision=revision,
            encoder_digest=offer.composed.digest,
            report_digest=offer.clearance.report_digest,
            forced=offer.override.force,
            reason=offer.override.reason,
            unmet=offer.clearance.unmet,
        )
        state = policies.policies.get(name, PolicyState())
        return policies.with_state(name, state.with_eligible(revision)), event

    ledger.change(repository_dir, mark)


def _check_same_base(base: Base, repository_dir: Path) -> None:
    """An encoder is worth nothing beside the video model of another base."""
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


def _load_and_probe(server: EncoderServer, model_dir: Path, revision: int, say: Say) -> float:
    from unsee.triton.served_versions import align

    align(server, model_dir)  # what an interrupted command has left loaded
    say(f"loading revision {revision} of {model_dir.name}")
    server.load(model_dir.name, revision)
    say("probing it by inference")
    return promotion.probe(server, model_dir / str(revision), revision)


def _rejected(
    server: EncoderServer, repository_dir: Path, policy: str, revision: int, cause: ServerError
) -> ServerError:
    """Takes the revision away, for one bad version blocks all later loads of its model.

    It is kept among the rejected ones, and can be made again from the same policy under the next
    number.
    """
    from unsee.triton.served_versions import align

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
