"""An evaluation from target to report."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from unsee.core.errors import InputError
from unsee.evaluation.asking.evaluation_set import EvaluationSet
from unsee.evaluation.asking.questions import Question, QuestionMaker
from unsee.evaluation.asking.shapes import Ends
from unsee.evaluation.attacks.rows import AttackRunner, StageProgress, counted
from unsee.evaluation.page.examples import ExampleShelf
from unsee.evaluation.report.schema import AttackRow, EvaluationSettings, Media, Report, Target
from unsee.evaluation.report.verdict import attack_name
from unsee.evaluation.run_folder import ATTACKS_FOLDER, Inputs, begin, finish
from unsee.evaluation.seeing import measures, shown
from unsee.evaluation.seeing.encode import PromptEncoder
from unsee.evaluation.seeing.frame_store import FrameStore
from unsee.evaluation.seeing.generate import FrameMaker, clip_sampling
from unsee.evaluation.seeing.measures import Observation
from unsee.evaluation.seeing.observe import Encoder, Observer
from unsee.evaluation.seeing.openai_clip import ClipModel
from unsee.evaluation.seeing.recognise import Recogniser
from unsee.evaluation.target import EvaluationTarget
from unsee.models.base import Base
from unsee.models.check import require

if TYPE_CHECKING:
    from unsee.evaluation.attacks import Attack

_RECORDED_LIBRARIES = ("torch", "transformers", "diffusers", "numpy", "safetensors")


@dataclass(frozen=True)
class EvaluationPlan:
    """How much is asked, in which media, and which attacks are run.

    Args:
        seed: of the prompts, the noise and the attacks.
        prompts_per_wording: for each unseen concept and wording.
        prompts_per_sibling: for each sibling and each concept that shares a word.
        num_others: how many prompts about concepts of other categories.
        attack_prompts: how many prompts each attack is judged on.
        prompts_per_shape: for each unseen concept and other shape of its name.
        media: "image", "video" or both.
        attacks: none, or some of `unsee.evaluation.attacks.ATTACKS`.
    """

    seed: int
    prompts_per_wording: int
    prompts_per_sibling: int
    num_others: int
    attack_prompts: int
    media: tuple[Media, ...]
    attacks: tuple[Attack, ...]
    prompts_per_shape: int = 0


@dataclass(frozen=True)
class EvaluationJob:
    """What is evaluated against which base, with which questions and which recogniser.

    Args:
        base: the encoder to compare with, and the models that make the frames.
        target: the tuned encoder (see `open_target`).
        known: the concepts and wordings to ask with (see `load_evaluation_set`).
        recogniser: says what the frames show (see `open_recogniser`).
        plan: how much is asked.
        clip: an OpenAI CLIP model for the CLIP score; None: no CLIP score.
        painter: whose pictures of the concepts an attacker holds; None: the base's.
    """

    base: Base
    target: EvaluationTarget
    known: EvaluationSet
    recogniser: Recogniser
    plan: EvaluationPlan
    clip: ClipModel | None = None
    painter: Base | None = None


@dataclass(frozen=True)
class Outcome:
    """The report in `folder`; `reused` is true if it lay there already."""

    folder: Path
    report: Report
    reused: bool


def evaluate(
    job: EvaluationJob,
    folder: Path,
    *,
    frames_dir: Path,
    force: bool,
    stage_progress: StageProgress,
) -> Outcome:
    """Measure `job` and leave `report.json` and `report.html` in `folder`, or find them there.

    What an interrupted run made is used again.

    Args:
        folder: of the report; made if it is missing.
        frames_dir: where frames are kept, by digest; may be shared by several evaluations.
        force: replace another evaluation in `folder`.
        stage_progress: opens a stage by its name; the stage's context takes (done, total, note).

    Raises:
        InputError: `folder` is a delta's, or holds another evaluation or other files and `force` is
            not given; the recogniser does not know an unseen concept, or no question about one can
            be asked.
        BaseFolderError: a component of the base is missing, or its two models carry different text
            encoders.
    """
    require(job.base)
    maker = FrameMaker(job.base, FrameStore(frames_dir), clip_sampling(job.base))
    questions = _questions(job)
    inputs = _inputs(job, maker)
    found = begin(folder, inputs, force=force)
    if found is not None:
        return Outcome(folder, found, reused=True)
    started = time.perf_counter()
    medium: Media = "video" if "video" in job.plan.media else "image"
    shelf = ExampleShelf(medium, len(job.target.concepts))
    observer = Observer(
        tuned=Encoder(job.target.text_encoder, job.base),
        base=Encoder(job.base.text_encoder(), job.base),
        maker=maker,
        recogniser=job.recogniser,
        clip=job.clip,
        keep=shelf.keep,
    )
    seconds: dict[str, float] = {}
    observations: list[Observation] = []
    for media in job.plan.media:
        observations += _observed(observer, questions, media, stage_progress, seconds)
    attacks = _attacked(job, observer, questions, shelf, folder, stage_progress, seconds)
    seconds["total"] = _since(started)
    report = _report(job, inputs, observations, attacks, seconds)
    _write_page(report, shelf, job.target, folder)
    finish(folder, report)
    return Outcome(folder, report, reused=False)


def _question_maker(job: EvaluationJob) -> QuestionMaker:
    recognisable = job.known.with_erased(job.target.concepts).only(job.recogniser.knows)
    erased = []
    for concept in job.target.concepts:
        known = recognisable.find(concept.name)
        if known is None:
            raise InputError(
                f"the recogniser {job.recogniser.name!r} does not know the {concept.category} "
                f"{concept.name!r}; choose another with --recogniser"
            )
        erased.append(known)
    fits = PromptEncoder(job.base.text_encoder(), job.base).fits
    return QuestionMaker(recognisable, tuple(erased), job.plan.seed, fits)


def _questions(job: EvaluationJob) -> list[Question]:
    """Everything that is asked outside of attacks, the unseen concepts first."""
    plan, maker = job.plan, _question_maker(job)
    stills_only = "video" not in plan.media
    for concept in maker.erased:
        if stills_only and concept.category == "action":
            raise InputError(
                f"no single picture shows the action {concept.name!r}; add video to --media"
            )
    about_erased = [
        question
        for concept in maker.erased
        for question in maker.about_erased(concept, plan.prompts_per_wording)
    ]
    ends = _ends(job.base)
    shapes = [
        question
        for concept in maker.erased
        for question in maker.about_shapes(concept, plan.prompts_per_shape, ends)
    ]
    return [
        *about_erased,
        *shapes,
        *maker.about_siblings(plan.prompts_per_sibling),
        *maker.about_others(plan.num_others),
        *maker.about_shared_words(plan.prompts_per_sibling),
        *maker.about_translated(plan.prompts_per_sibling),
    ]


def _ends(base: Base) -> Ends:
    """The ends of what the base's service takes; without guidance the negative is not used."""
    limits = base.spec.limits
    return Ends((1.0, limits.guidance_scale), (1, limits.num_inference_steps))


def _observed(
    observer: Observer,
    questions: Sequence[Question],
    media: Media,
    stage_progress: StageProgress,
    seconds: dict[str, float],
) -> list[Observation]:
    started = time.perf_counter()
    with stage_progress(f"{media}s") as report:
        tick = counted(report, observer.cost(questions, media))
        counting = replace(observer, maker=replace(observer.maker, progress=tick))
        observations = counting.observe(questions, media)
    seconds[f"{media}s"] = _since(started)
    return observations


def _attacked(
    job: EvaluationJob,
    observer: Observer,
    questions: Sequence[Question],
    shelf: ExampleShelf,
    folder: Path,
    stage_progress: StageProgress,
    seconds: dict[str, float],
) -> list[AttackRow]:
    plan, started = job.plan, time.perf_counter()
    attacker = AttackRunner(
        observer=observer,
        painter=_painter(job, observer),
        unrelated=tuple(one for one in questions if one.kind == "other"),
        digests={"tuned": job.target.encoder_digest, "base": job.base.digest()},
        media=plan.media,
        seed=plan.seed,
        folder=folder / ATTACKS_FOLDER,
        shelf=shelf,
        stage_progress=stage_progress,
    )
    maker = _question_maker(job)
    rows: list[AttackRow] = []
    for concept in maker.erased if plan.attacks else ():
        asked = maker.for_attack(concept, plan.attack_prompts)
        rows += attacker.rows(plan.attacks, concept, asked)
    if rows:
        seconds["attacks"] = _since(started)
    return rows


def _painter(job: EvaluationJob, observer: Observer) -> Observer:
    """What makes the pictures that an attacker holds."""
    if job.painter is None:
        return observer
    maker = FrameMaker(job.painter, observer.maker.store, clip_sampling(job.painter))
    return replace(observer, base=Encoder(job.painter.text_encoder(), job.painter), maker=maker)


def _report(
    job: EvaluationJob,
    inputs: Inputs,
    observations: Sequence[Observation],
    attacks: Sequence[AttackRow],
    seconds: dict[str, float],
) -> Report:
    seed = job.plan.seed
    return Report(
        target=inputs.target,
        settings=inputs.settings,
        models=inputs.models,
        erased=shown.erased_rows(observations),
        kept=measures.kept_rows(observations),
        reemergence=measures.reemergence_rows(observations),
        motion=measures.motion_row(observations, seed),
        drift=measures.drift_rows(observations, seed),
        clip_score=measures.clip_score_rows(observations, seed),
        shapes=shown.shape_rows(observations),
        attacks=tuple(attacks),
        seconds=seconds,
        versions={library: version(library) for library in _RECORDED_LIBRARIES},
        created_at=datetime.now(UTC),
    )


def _inputs(job: EvaluationJob, maker: FrameMaker) -> Inputs:
    media: set[Media] = set(job.plan.media)
    clip, limits = job.base.spec.clip, job.base.spec.limits
    if job.plan.attacks:
        media.add("image")
    return Inputs(
        target=_target(job),
        settings=_settings(job),
        media=job.plan.media,
        attacks={
            attack_name(attack.name, attack.times): attack.budget() for attack in job.plan.attacks
        },
        models={one: maker.digest(one) for one in sorted(media)} | _painting(job, maker),
        clip_model=job.clip.digest() if job.clip else None,
        questions=job.known.digest(),
        clip_size=(clip.height, clip.width),
        ends=(limits.guidance_scale, limits.num_inference_steps)
        if job.plan.prompts_per_shape
        else None,
        thresholds=job.target.thresholds,
    )


def _painting(job: EvaluationJob, maker: FrameMaker) -> dict[str, str]:
    if job.painter is None or not job.plan.attacks:
        return {}
    return {"pictures": replace(maker, base=job.painter, _kept={}).digest("image")}


def _target(job: EvaluationJob) -> Target:
    """What is evaluated, its concepts by the names that the rows have."""
    target, known = job.target, job.known.with_erased(job.target.concepts)
    names = [found.name for one in target.concepts if (found := known.find(one.name))]
    return Target(
        kind=target.kind,
        name=target.name,
        concepts=tuple(
            one.model_copy(update={"name": name})
            for one, name in zip(target.concepts, names, strict=True)
        ),
        base=job.base.name,
        base_digest=job.base.digest(),
        encoder_digest=target.encoder_digest,
    )


def _settings(job: EvaluationJob) -> EvaluationSettings:
    plan, clip = job.plan, job.base.spec.clip
    return EvaluationSettings(
        seed=plan.seed,
        prompts_per_wording=plan.prompts_per_wording,
        prompts_per_sibling=plan.prompts_per_sibling,
        num_others=plan.num_others,
        attack_prompts=plan.attack_prompts if plan.attacks else 0,
        prompts_per_shape=plan.prompts_per_shape,
        num_frames=clip.num_frames,
        num_inference_steps=clip.num_inference_steps,
        guidance_scale=clip.guidance_scale,
        recogniser=job.recogniser.name,
        recogniser_digest=job.recogniser.digest(),
        questions_digest=job.known.digest(),
        translated=job.known.translated(),
    )


def _write_page(
    report: Report, shelf: ExampleShelf, target: EvaluationTarget, folder: Path
) -> None:
    from unsee.evaluation.page.html_report import write_page

    write_page(report, shelf.examples(), target.thresholds, folder)


def _since(started: float) -> float:
    return round(time.perf_counter() - started, 3)
