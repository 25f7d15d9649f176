"""Publishes a policy: compose its deltas, ask the gate, write the revision, load it, probe it.

The order matters: what is cheap and may be wrong comes first, and a revision becomes eligible only
after its report has passed the gate and the server has answered with it. Nothing here decides when
a revision goes live; `pointer` does. PyTorch and the exporter are imported when needed, so that the
module itself stays light.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unsee.client.errors import InputError, ServerError, ServerUnreachable
from unsee.client.policy import BASE_POLICY, Policy, load_policy
from unsee.evaluation.report import REPORT_FILE
from unsee.serving import audit, gate, pointer, promotion
from unsee.serving.audit import AuditEvent
from unsee.serving.gate import Clearance, Override
from unsee.serving.pointer import encoder_model

if TYPE_CHECKING:
    from unsee.serving.encoder_server import EncoderServer
    from unsee.training.base import Base
    from unsee.training.delta import Card

Say = Callable[[str], None]

PROBE_TOLERANCE = 1e-3
"""Largest difference allowed between served and recorded hidden states, relative to the largest."""


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
        report: the report.json of the policy's encoder or its folder; None: `reports/<policy>`.
        force: publish even if the report is missing, stale or below a threshold.
        reason: why; needed with `force`, and written into the audit log.
        say: gets a line before each stage.

    Raises:
        PublicationRefused: the report does not clear the policy; nothing has been done.
        InputError: policy, deltas, base or repository are wrong or do not belong together, or
            `force` and `reason` do not come together.
        ServerError: the server is not there, or could not load or answer with the revision; the
            revision is then not eligible and requests in flight notice nothing.
    """
    from unsee.serving.encoder_server import EncoderServer

    started = time.monotonic()
    override = gate.Override(force, reason)
    policy = load_policy(policy_file)
    known = pointer.read(repository_dir).policies
    eligible = known.get(policy.name, pointer.PolicyState()).eligible
    with EncoderServer(url) as server:
        server.check_live()
        composed, clearance = _cleared(policy, base_path, repository_dir, report, override, say)
        revision = _write_revision(policy, composed, repository_dir, eligible, say)
        model_dir = repository_dir / encoder_model(policy.name)
        _keep_report(clearance.content, model_dir / str(revision))
        try:
            probe_error = _load_and_probe(server, model_dir, revision, say)
        except ServerError as cause:
            if revision in eligible:  # it may be in use: leave it
                raise
            raise _refused(server, model_dir, revision, cause) from cause
    _make_eligible(repository_dir, policy.name, revision, composed.digest, clearance, override)
    if promote:
        promotion.promote(repository_dir, policy.name, revision)
    seconds = time.monotonic() - started
    return PublishResult(
        policy.name, revision, model_dir.name, probe_error, promote, seconds, clearance.unmet
    )


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
    from unsee.training.base import load_base
    from unsee.training.composition import compose
    from unsee.training.delta_folder import load_delta
    from unsee.training.digest import tensors_digest

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


def _keep_report(content: bytes | None, version_dir: Path) -> None:
    """Puts the report beside the graph that it speaks of; the first one stays."""
    from unsee.export.atomic_write import write_file

    file = version_dir / REPORT_FILE
    if content is not None and not file.exists():
        write_file(file, content)


def _make_eligible(
    repository_dir: Path,
    policy: str,
    revision: int,
    encoder_digest: str,
    clearance: Clearance,
    override: Override,
) -> None:
    event = AuditEvent(
        action="publish",
        policy=policy,
        revision=revision,
        encoder_digest=encoder_digest,
        report_digest=clearance.report_digest,
        forced=override.force,
        reason=override.reason,
        unmet=clearance.unmet,
    )
    with audit.appending(repository_dir) as append:
        pointer.eligible(repository_dir, policy, revision)
        append(event)


def _check_same_base(base: Base, repository_dir: Path) -> None:
    """An encoder is worth nothing beside the video model of another base."""
    file = repository_dir / "text_to_video" / "assets" / "base.json"
    try:
        digest = json.loads(file.read_bytes())["digest"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{repository_dir} is not a complete model repository: {file} cannot be read; "
            "make it with: unsee export"
        ) from error
    if digest != base.digest():
        raise InputError(
            f"{repository_dir} was exported from another base than {base.name} "
            f"(text encoder {digest[:19]}, not {base.digest()[:19]}); give that base"
        )


def _load_and_probe(server: EncoderServer, model_dir: Path, revision: int, say: Say) -> float:
    say(f"loading revision {revision} of {model_dir.name}")
    server.load(model_dir.name, revision)
    say("probing it by inference")
    error = server.probe(model_dir.name, revision, _golden(model_dir / str(revision)))
    if not error <= PROBE_TOLERANCE:
        raise ServerError(
            f"its answer differs from the recorded one by {error:.2g} of the largest value, "
            f"and {PROBE_TOLERANCE:g} is allowed"
        )
    return error


def _golden(version_dir: Path) -> dict[str, Any]:
    from safetensors.numpy import load_file

    tensors: dict[str, Any] = load_file(version_dir / "golden.safetensors")
    return tensors


def _refused(
    server: EncoderServer, model_dir: Path, revision: int, cause: ServerError
) -> ServerError:
    """Takes the revision away, for one bad version blocks all later loads of its model.

    It can be made again from the same policy. A file `rejected-<N>` with the reason takes its
    place, so that the exporter does not give the number to another revision.
    """
    version_dir = model_dir / str(revision)
    (model_dir / f"rejected-{revision}").write_text(f"{cause}\n", encoding="utf-8")
    _remove(version_dir)
    if not isinstance(cause, ServerUnreachable):
        _make_ready_again(server, version_dir)
    policy = model_dir.name.removeprefix("text_encoder_")
    return ServerError(
        f'revision {revision} of the policy "{policy}" was taken back: {cause}; '
        "nothing else changed on the server"
    )


def _make_ready_again(server: EncoderServer, version_dir: Path) -> None:
    """Clears a failed load, which makes the whole server unready until that version loads.

    So the base's encoder takes its place for a moment. Nobody can ask for it: the number is not
    eligible.
    """
    model_dir = version_dir.parent
    healthy = model_dir.parent / encoder_model(BASE_POLICY) / "1" / "model.onnx"
    if healthy.is_file():
        fresh = model_dir.parent / f".{model_dir.name}-{version_dir.name}.new"
        fresh.mkdir(exist_ok=True)
        shutil.copy(healthy, fresh)
        fresh.rename(version_dir)
        server.restore(model_dir.name, versions_remain=True)
        _remove(version_dir)
    others = any(path.name.isdigit() for path in model_dir.iterdir())
    server.restore(model_dir.name, versions_remain=others)


def _remove(version_dir: Path) -> None:
    """Deletes a version; it leaves the model by one rename, so half of it is never seen."""
    doomed = version_dir.parent.parent / f".{version_dir.parent.name}-{version_dir.name}.old"
    version_dir.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
