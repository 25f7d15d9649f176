"""Publishes a policy: compose its deltas, ask the gate, write the revision, probe it.

The order matters: what is cheap and may be wrong comes first, and a revision becomes eligible only
after its report has passed the gate and the server has answered with it. When a revision goes live,
`unsee.policies.promotion` decides.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from unsee.core.errors import FileNotWritable, InputError
from unsee.core.files import digest_of, not_writable, write_file
from unsee.core.policy import Policy, load_policy
from unsee.evaluation.report.schema import SIGNATURE_FILE as REPORT_SIGNATURE
from unsee.policies import gate, promotion
from unsee.policies.composed_policy import ComposedPolicy, Say, compose_policy, export_policy
from unsee.policies.eligibility import make_eligible
from unsee.policies.lock import alone
from unsee.policies.recovery import recover_files
from unsee.repository import pointer
from unsee.repository.layout import policy_model, revision_dir
from unsee.repository.records import AuditEvent
from unsee.triton.server import Server

Compose = Callable[[Policy, Path, Path, Say], ComposedPolicy]
Export = Callable[[Policy, ComposedPolicy, Path, Say], int]


@dataclass(frozen=True)
class Publication:
    """What is to be published, and on which terms.

    Args:
        policy_file: the policy's YAML file.
        base_path: folder of the base that the repository was exported from.
        repository_dir: the model repository.
        report: the report.json of the policy's encoder or its folder; None: `reports/<policy>`.
        force: publish even if the report is missing, stale or below a threshold.
        reason: why; needed with `force`, and written into the audit log.
        promote: also make the revision the active one.
        verify_with: a public key that signed deltas and reports must have been signed with.
        require_signed: every delta and the report must be signed; needs `verify_with`.

    Raises:
        InputError: `force` and `reason`, or `require_signed` and `verify_with`, do not come
            together.
    """

    policy_file: Path
    base_path: Path
    repository_dir: Path
    report: Path | None = None
    force: bool = False
    reason: str | None = None
    promote: bool = False
    verify_with: Path | None = None
    require_signed: bool = False

    def __post_init__(self) -> None:
        gate.check_reason(self.force, self.reason)
        if self.require_signed and self.verify_with is None:
            raise InputError(
                "--require-signed needs --verify-with PUBLIC.pem: whose signature counts"
            )


@dataclass(frozen=True)
class PublishResult:
    """What was published.

    Args:
        probe_error: largest difference of the probe, relative to the largest recorded value.
        active: whether the revision was promoted as well.
        unmet: what the gate found missing; empty unless it was overridden.
    """

    policy: str
    revision: int
    probe_error: float
    active: bool
    seconds: float
    unmet: tuple[str, ...] = ()

    def as_json(self) -> str:
        """One JSON object."""
        return json.dumps(asdict(self), indent=2)


def publish(
    wanted: Publication,
    server: Server,
    say: Say = lambda line: None,
    compose: Compose = compose_policy,
    export: Export = export_policy,
) -> PublishResult:
    """Make the next revision of a policy eligible, and active if that is wanted.

    A policy that has not changed since an eligible revision gets that revision again.

    Args:
        wanted: what and how.
        server: the Triton that serves the repository.
        say: called with a line before each stage.
        compose, export: what makes the encoder of the policy, and a revision of the encoder.

    Raises:
        PublicationRefused: the report does not pass the gate; nothing has been done.
        InputError: policy, deltas, base or repository are wrong or do not belong together, the
            repository cannot be written, or another command is at work on the policy.
        ParityError: the exported graph differs from the composed encoder.
        ServerError: the server is not there, or did not answer with the revision; the revision is
            then not eligible and requests notice nothing.
    """
    started = time.monotonic()
    repository_dir = wanted.repository_dir
    policy = load_policy(wanted.policy_file)
    pointer.read(repository_dir)
    server.check_live()
    _check_signed_deltas(policy, wanted)
    composed, judged = _judge(wanted, policy, compose, say)
    with alone(repository_dir, policy.name, "publish"):
        recover_files(repository_dir, policy.name, say)
        revision = _write(policy, composed, repository_dir, judged, say, export)
        event = _event(wanted, policy, revision, composed, judged)
        probe_error = make_eligible(server, repository_dir, event, say)
    if wanted.promote:
        key = wanted.verify_with if wanted.require_signed else None
        promotion.promote(repository_dir, policy.name, revision, verify_with=key)
    seconds = time.monotonic() - started
    return PublishResult(
        policy.name, revision, probe_error, wanted.promote, seconds, judged.problems
    )


def _check_signed_deltas(policy: Policy, wanted: Publication) -> None:
    """Raise unless each signed delta of the policy is signed with the key, and all if required."""
    from unsee.deltas.files import SIGNATURE_FILE
    from unsee.deltas.signature import verify_folder

    if wanted.verify_with is None:
        return
    for concept in policy.unsee:
        folder = Path(concept.delta)
        if wanted.require_signed or (folder / SIGNATURE_FILE).exists():
            verify_folder(folder, wanted.verify_with)


def _judge(
    wanted: Publication, policy: Policy, compose: Compose, say: Say
) -> tuple[ComposedPolicy, gate.Judged]:
    """Compose the policy and hold its report against it; raises PublicationRefused."""
    found = gate.read_report(wanted.report, policy)
    gate.demand(found.problems, policy, wanted.force)  # what has no report is not composed
    composed = compose(policy, wanted.base_path, wanted.repository_dir, say)
    expected = gate.Expected(
        composed.base.digest(),
        composed.digest,
        composed.judge_digest,
        composed.questions_digest,
        composed.models_digest,
        composed.clip,
    )
    found = gate.judge(found, policy, expected)
    key = wanted.verify_with
    if key is not None and (wanted.require_signed or REPORT_SIGNATURE in found.files):
        found = gate.check_signature(found, key)
    gate.demand(found.problems, policy, wanted.force)
    return composed, found


def _write(
    policy: Policy,
    composed: ComposedPolicy,
    repository_dir: Path,
    judged: gate.Judged,
    say: Say,
    export: Export,
) -> int:
    """Export a revision and put its report beside its graph, unless one is there."""
    try:
        revision = export(policy, composed, repository_dir, say)
        folder = revision_dir(repository_dir, policy.name, revision)
        for name, content in judged.files.items():
            if not (folder / name).exists():
                write_file(folder / name, content)
    except (OSError, FileNotWritable) as error:
        model_dir = repository_dir / policy_model(policy.name)
        cause = not_writable(model_dir, error) if isinstance(error, OSError) else error
        raise FileNotWritable(
            f'no revision of the policy "{policy.name}" was published: {cause}; '
            "the service is as it was"
        ) from error
    return revision


def _event(
    wanted: Publication,
    policy: Policy,
    revision: int,
    composed: ComposedPolicy,
    judged: gate.Judged,
) -> AuditEvent:
    settings = judged.report.settings if judged.report else None
    key = wanted.verify_with
    return AuditEvent(
        action="publish",
        policy=policy.name,
        revision=revision,
        encoder_digest=composed.digest,
        report_digest=judged.digest,
        forced=wanted.force,
        reason=wanted.reason,
        unmet=judged.problems,
        page_digest=judged.page_digest,
        thresholds=policy.thresholds,
        loosened=policy.thresholds.loosened(),
        recogniser=settings.recogniser if settings else None,
        recogniser_digest=settings.recogniser_digest if settings else None,
        signed_with=None if key is None else digest_of(key.read_bytes()),
    )
