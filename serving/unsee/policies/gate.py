"""The gate before publishing: an encoder needs a report that is its own and good enough.

What a report says is judged by the policy's thresholds, and which encoder it speaks of by digests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from unsee.core.errors import InputError, PublicationRefused, RevisionUnfit
from unsee.core.files import digest_of
from unsee.core.policy import Policy
from unsee.evaluation.report.consistency import inconsistencies
from unsee.evaluation.report.schema import (
    PAGE_FILE,
    REPORT_FILE,
    SIGNATURE_FILE,
    Report,
    report_of,
)
from unsee.evaluation.report.verdict import verdict_of
from unsee.repository.layout import AUDIT_FILE

REPORTS_DIR = Path("reports")


@dataclass(frozen=True)
class Judged:
    """What a policy's report says for its publication.

    Args:
        report: as it was read; None if there is none.
        digest, page_digest: `"sha256:…"` over the bytes of report.json and of report.html; None
            where there is none.
        files: the report, its page for people and its signature, by name, to be kept beside the
            encoder that they speak of; empty if that is another one.
        problems: why the encoder may not be served, one sentence each.
    """

    report: Report | None
    digest: str | None
    files: Mapping[str, bytes]
    problems: tuple[str, ...] = ()
    page_digest: str | None = None


@dataclass(frozen=True)
class Expected:
    """What a report must have been made with.

    Args:
        base_digest: `Base.digest()`.
        encoder_digest: `tensors_digest` of the policy's composed encoder.
        recogniser_digest: of the base's judge; None: the base brings none.
        questions_digest: of the base's evaluation set; None: the base brings none.
        models_digest: of the repository's denoiser, autoencoder and scheduler; None: not known.
        clip: frames, denoising steps and guidance of a clip where a request says nothing; None: not
            known.
    """

    base_digest: str
    encoder_digest: str
    recogniser_digest: str | None = None
    questions_digest: str | None = None
    models_digest: str | None = None
    clip: tuple[int, int, float] | None = None


def check_reason(force: bool, reason: str | None) -> None:
    """Raise InputError unless `force` and a `reason` for it come together."""
    if force and not (reason or "").strip():
        raise InputError('--force needs --reason "…": it is written into the audit log')
    if reason is not None and not force:
        raise InputError("--reason only goes with --force; without --force it has no effect")


def read_report(path: Path | None, policy: Policy) -> Judged:
    """The report at `path` (a report.json or its folder; None: `reports/<policy>`), not judged yet.

    That it is missing or no valid report is the one problem.
    """
    place = REPORTS_DIR / policy.name if path is None else path
    file = place / REPORT_FILE if place.is_dir() else place
    try:
        content = file.read_bytes()
        report = report_of(content, file)
        beside = {
            name: file.with_name(name).read_bytes()
            for name in (PAGE_FILE, SIGNATURE_FILE)
            if file.with_name(name).is_file()
        }
    except InputError as error:
        return Judged(None, None, {}, (str(error),))
    except OSError:
        return Judged(
            None, None, {}, (f"there is no report at {file}; make one with `unsee evaluate`",)
        )
    page = beside.get(PAGE_FILE)
    return Judged(
        report,
        digest_of(content),
        {**beside, REPORT_FILE: content},
        page_digest=None if page is None else digest_of(page),
    )


def judge(found: Judged, policy: Policy, expected: Expected) -> Judged:
    """Hold a report against the policy's thresholds and the encoder that is to be served."""
    report = found.report
    if report is None:
        return found
    stale = _stale(report, expected)
    if stale is not None:
        return replace(found, files={}, problems=(stale,))
    problems = (
        *_contradictions(report),
        *_other_concepts(report, policy),
        *_other_eyes(report, policy, expected),
        *verdict_of(report, policy.thresholds).unmet,
    )
    return replace(found, problems=problems)


def check_signature(found: Judged, public_key: Path) -> Judged:
    """`found`, with a problem more unless its report is signed with the key of `public_key`.

    Raises:
        InputError: `public_key` is no public key.
    """
    from unsee.deltas.signature import verify_contents

    if found.report is None:
        return found
    signature = found.files.get(SIGNATURE_FILE)
    if signature is None:
        problem = "the report is not signed; make it again with: unsee evaluate --sign-with KEY.pem"
        return replace(found, problems=(*found.problems, problem))
    files = {name: content for name, content in found.files.items() if name != SIGNATURE_FILE}
    try:
        verify_contents(files, signature, public_key)
    except InputError as error:
        return replace(found, problems=(*found.problems, str(error)))
    return found


def kept_report(version_dir: Path) -> dict[Path, bytes]:
    """The files of the report that lies beside a revision; without any where there is none."""
    files = (version_dir / name for name in (REPORT_FILE, PAGE_FILE, SIGNATURE_FILE))
    return {file: file.read_bytes() for file in files if file.is_file()}


def check_kept_signature(version_dir: Path, report: Mapping[Path, bytes], public_key: Path) -> None:
    """Raise unless the `report` beside a revision is signed with the key of `public_key`.

    Raises:
        RevisionUnfit: there is no signature, or it was made over other files or with another key.
        InputError: `public_key` is no public key.
    """
    from unsee.deltas.signature import verify_contents

    files = {file.name: content for file, content in report.items()}
    signature = files.pop(SIGNATURE_FILE, None)
    if signature is None or REPORT_FILE not in files:
        raise RevisionUnfit(
            f"{version_dir} has no signed report; publish the policy again with a report that was "
            "made with: unsee evaluate --sign-with KEY.pem"
        )
    try:
        verify_contents(files, signature, public_key)
    except InputError as error:
        raise RevisionUnfit(f"{version_dir / SIGNATURE_FILE}: {error}") from error


def demand(problems: Sequence[str], policy: Policy, force: bool) -> None:
    """Go on only if there are no problems, or with `force`.

    Raises:
        PublicationRefused: with every problem.
    """
    if problems and not force:
        raise PublicationRefused(
            f'the policy "{policy.name}" was not published: {"; ".join(problems)}. '
            f'To publish it all the same: --force --reason "…" (recorded in {AUDIT_FILE})'
        )


def _stale(report: Report, expected: Expected) -> str | None:
    target, models = report.target, report.models.get("video")
    again = "run `unsee evaluate` on the policy as it is now"
    if target.base_digest != expected.base_digest:
        return (
            f"the report was made with another base (text encoder {_short(target.base_digest)}, "
            f"this one is {_short(expected.base_digest)}); {again}"
        )
    if target.encoder_digest != expected.encoder_digest:
        return (
            f"the report was made for another encoder ({_short(target.encoder_digest)}, the "
            f"policy's deltas now give {_short(expected.encoder_digest)}); {again}"
        )
    if models is not None and expected.models_digest not in (None, models):
        return (
            f"the report was made with another denoiser, autoencoder or scheduler "
            f"({_short(models)}, the repository has {_short(expected.models_digest)}); {again}"
        )
    return None


def _contradictions(report: Report) -> tuple[str, ...]:
    found = inconsistencies(report)
    if not found:
        return ()
    more = f", and {len(found) - 1} more" if len(found) > 1 else ""
    return (f"the figures of the report do not fit together ({found[0]}{more}); evaluate again",)


def _other_concepts(report: Report, policy: Policy) -> tuple[str, ...]:
    """The policy's concepts that the report does not speak of, or not by the same names."""
    asked = {concept.name.casefold(): concept for concept in report.target.concepts}
    problems = []
    for concept in policy.unsee:
        found = asked.get(concept.name.casefold())
        if found is None:
            problems.append(f"not measured: whether {concept.name} is still recognised")
        elif found.category != concept.category:
            problems.append(
                f"the report calls {concept.name} a {found.category}, the policy a "
                f"{concept.category}; evaluate again"
            )
        else:
            known = {alias.casefold() for alias in found.aliases}
            new = [alias for alias in concept.aliases if alias.casefold() not in known]
            problems += [
                f"not measured: whether {concept.name} is still recognised as {alias}"
                for alias in new
            ]
    return tuple(problems)


def _other_eyes(report: Report, policy: Policy, expected: Expected) -> tuple[str, ...]:
    """What the report was made with besides the encoder, where that is prescribed."""
    settings, problems = report.settings, []
    wanted = policy.thresholds.recogniser or expected.recogniser_digest
    if wanted is not None and settings.recogniser_digest != wanted:
        problems.append(
            f"another recogniser looked ({settings.recogniser}, "
            f"{_short(settings.recogniser_digest)}) than the one that is asked for "
            f"({_short(wanted)}); evaluate without --recogniser, or name its digest in the "
            "policy's thresholds"
        )
    if expected.models_digest is not None and "video" not in report.models:
        problems.append(
            "the report does not say which denoiser made clips; run `unsee evaluate` again"
        )
    clip = settings.num_frames, settings.num_inference_steps, settings.guidance_scale
    if expected.clip not in (None, clip):
        problems.append(
            f"the report's clips have {_clip(clip)}, those of the repository "
            f"{_clip(expected.clip)}; run `unsee evaluate` with the base as it is served"
        )
    questions = expected.questions_digest
    if questions is not None and settings.questions_digest != questions:
        made = (
            "by a version of Unsee that did not record its questions"
            if settings.questions_digest is None
            else "with other questions than those of the base"
        )
        problems.append(f"the report was made {made}; run `unsee evaluate` without --concepts")
    return tuple(problems)


def _clip(clip: tuple[int, int, float]) -> str:
    return f"{clip[0]} frames, {clip[1]} steps and guidance {clip[2]:g}"


def _short(digest: str) -> str:
    return digest[:19]
