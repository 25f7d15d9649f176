"""What unlearning a concept would do: `unsee unlearn --dry-run`.

The modes say how much they send through the models; one sample through each is timed. Nothing is
written.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from unsee.core.policy import Concept
from unsee.core.unlearning_settings import PaperMode
from unsee.deltas.folder import check_writable, is_taken
from unsee.images.few_shot import few_shot_prompts, images_work
from unsee.images.image_folder import image_files
from unsee.jobs.job import UnlearnJob, differences, given_images
from unsee.models.check import require
from unsee.models.generative import open_model
from unsee.models.work import Work
from unsee.prompts.encoding import encode_prompts
from unsee.prompts.naming import Names, check_known, parted
from unsee.prompts.ordinary import asked_prompts
from unsee.prompts.templates import training_prompts
from unsee.prompts.tokens import fitting_prompts
from unsee.unlearning import anchored_mode, paper_mode
from unsee.unlearning.anchors import ANCHORS
from unsee.unlearning.contexts import contexts_of
from unsee.unlearning.moments import PROMPTS_PER_CALL, StateReader, keep_moments

_NUM_EXAMPLES = 3
_QUICK_S = 2.0


@dataclass(frozen=True)
class Prompts:
    """`drawn` prompts from `distinct` written ones, and a few of those."""

    drawn: int
    distinct: int
    examples: tuple[str, ...]


@dataclass(frozen=True)
class Stage:
    """What a stage sends through the models at most, and about how many seconds it takes here."""

    name: str
    work: Work
    seconds: float


@dataclass(frozen=True)
class UnlearningPlan:
    """What would be done; `anchors` are the candidates, `images` the files or their prompts.

    `near` are prompts with a near name, which are neither forgotten nor kept. Where the base brings
    no prompts (`brings_prompts`), half of those to keep are random words, the others ordinary ones.

    `steps` is the most that would be taken, `trained_values` the number of float32 values in
    `trained_tensors` tensors that would be learned, `outlook` a word on the output folder.
    """

    concept: Concept
    base: str
    mode: str
    seed: int
    forget: Prompts
    keep: Prompts
    near: Prompts
    brings_prompts: bool
    anchors: tuple[str, ...]
    num_images: int
    image_source: str
    images: tuple[str, ...]
    trained_tensors: int
    trained_values: int
    steps: int
    stages: tuple[Stage, ...]
    output: Path
    outlook: str

    def as_json(self) -> str:
        """The plan as one line of JSON."""
        content = asdict(self) | {
            "concept": self.concept.model_dump(mode="json"),
            "output": str(self.output),
        }
        return json.dumps(content)

    def in_words(self) -> str:
        """The plan as a few lines for a person."""
        concept = self.concept
        also = f", also {', '.join(concept.aliases)}" if concept.aliases else ""
        lines = [
            f"{concept.name} ({concept.category}{also}) on the base {self.base}, mode {self.mode}",
            f"  forget   {_drawn_in_words(self.forget)}",
            f"  keep     {_kept_in_words(self.keep, brings_prompts=self.brings_prompts)}",
        ]
        if self.near.distinct:
            lines.append(
                f"  neither  {self.near.distinct} prompts that nearly name it: "
                f"{_listed(self.near.examples)}; --also NAME forgets them too"
            )
        if self.anchors:
            lines.append(f"  show     {' or '.join(map(_anchor_in_words, self.anchors))} instead")
        lines += [
            f"  images   {_images_in_words(self)}",
            f"  train    {self.trained_values:,} values in {self.trained_tensors} tensors, "
            f"{f'at most {self.steps} steps' if self.steps > 1 else 'in closed form'}, "
            f"seed {self.seed}",
            *(f"  {stage.name:<8} {_stage_in_words(stage)}" for stage in self.stages),
            f"  output   {self.output}: {self.outlook}",
        ]
        return "\n".join(lines)


def make_plan(job: UnlearnJob, folder: Path, *, force: bool) -> UnlearningPlan:
    """What `run_job` would do with the same arguments.

    Raises what it would raise on a base, images or names that cannot be used; that another delta
    lies in `folder` is said by the plan's `outlook`.
    """
    require(job.base)
    check_known(job.base, job.concept)
    given = given_images(job)
    forget, keep, near = _prompts(job)
    tensors, values = _trained(job)
    return UnlearningPlan(
        concept=job.concept,
        base=job.base.name,
        mode=job.settings.method,
        seed=job.seed,
        forget=forget,
        keep=keep,
        near=near,
        brings_prompts=job.base.spec.prompts is not None,
        anchors=_anchors(job),
        **_images(job),
        trained_tensors=tensors,
        trained_values=values,
        steps=_work(job).steps,
        stages=_stages(job, generates=given is None),
        output=folder,
        outlook=_outlook(job, folder, force=force),
    )


def _images(job: UnlearnJob) -> dict[str, Any]:
    count = job.settings.shots
    if not job.settings.uses_images:
        return {"num_images": 0, "image_source": "none", "images": ()}
    if job.images_dir is None:
        prompts = few_shot_prompts(job.base, job.concept, count)
        return {"num_images": count, "image_source": "to be generated", "images": prompts}
    names = _names(job.images_dir, count)
    return {"num_images": count, "image_source": f"from {job.images_dir}", "images": names}


def _prompts(job: UnlearnJob) -> tuple[Prompts, Prompts, Prompts]:
    if isinstance(job.settings, PaperMode):
        drawn = job.settings.epochs * job.settings.shots
        templates = tuple(fitting_prompts(job.base, training_prompts(job.concept)))
        return _drawn(drawn, templates), _drawn(0, ()), _drawn(0, ())
    names = Names.of(job.base, job.concept)
    templates = tuple(fitting_prompts(job.base, training_prompts(names.concept)))
    naming, near, others = parted(asked_prompts(job.base), [names])
    return (
        _drawn(job.settings.prompts_to_forget, (*templates, *naming)),
        _drawn(job.settings.prompts_to_keep, others),
        _drawn(0, near),
    )


def _drawn(count: int, prompts: Sequence[str]) -> Prompts:
    distinct = tuple(dict.fromkeys(prompts))
    return Prompts(drawn=count, distinct=len(distinct), examples=distinct[:_NUM_EXAMPLES])


def _anchors(job: UnlearnJob) -> tuple[str, ...]:
    if isinstance(job.settings, PaperMode):
        return ()
    anchor = job.settings.anchor
    return (ANCHORS[job.concept.category] if anchor is None else anchor,)


def _names(folder: Path, count: int) -> tuple[str, ...]:
    return tuple(file.name for file in image_files(folder)[:count])


def _trained(job: UnlearnJob) -> tuple[int, int]:
    """How many tensors and values would be learned."""
    text_encoder, family = job.base.text_encoder(), job.base.family()
    if isinstance(job.settings, PaperMode):
        parameters = family.paper_parameters(text_encoder).values()
        return len(parameters), sum(parameter.numel() for parameter in parameters)
    size = family.width(text_encoder.config)
    rank = min(job.settings.rank, size)
    return 3, 2 * size * rank + rank


def _work(job: UnlearnJob) -> Work:
    if isinstance(job.settings, PaperMode):
        return paper_mode.most_work(job.settings)
    return anchored_mode.most_work(job.settings)


def _stages(job: UnlearnJob, *, generates: bool) -> tuple[Stage, ...]:
    works = {"generate": images_work(job.base, job.settings.shots)} if generates else {}
    works["learn"] = _work(job)
    denoiser, encoder = _seconds_of_one_sample(job)
    return tuple(
        Stage(
            name,
            work,
            (work.denoised + 2 * work.denoised_with_gradient) * denoiser + work.encoded * encoder,
        )
        for name, work in works.items()
    )


@torch.no_grad()
def _seconds_of_one_sample(job: UnlearnJob) -> tuple[float, float]:
    """What the denoiser of pictures takes for one latent, and the text encoder for one prompt.

    The prompts are of usual length: T5 and UMT5 take no time for padding.
    """
    base = job.base
    model, encoder = open_model(base, "image"), base.text_encoder()
    prompt_embeds = encode_prompts(base, encoder, [""])
    picture = torch.zeros(1, 3, *model.picture_size)
    latents = model.latents(picture, torch.Generator().manual_seed(0))
    timesteps = model.process.timesteps(torch.ones(1, dtype=torch.long))

    def denoise(count: int) -> None:
        one_each = (latents, timesteps, prompt_embeds)
        model.predict(*(each.repeat(count, *[1] * (each.ndim - 1)) for each in one_each))

    contexts = contexts_of(base, job.concept)
    drawn = contexts.draw_named(PROMPTS_PER_CALL, torch.Generator().manual_seed(0))
    drawn.sort(key=lambda naming: len(naming.before) + len(naming.after))
    usual = drawn[len(drawn) // 2]
    row = contexts.frame.framed([*usual.before, *usual.name, *usual.after])
    reader = StateReader(encoder, contexts.frame)
    return _timed(denoise), _timed(lambda count: keep_moments(reader, [row] * count))


def _timed(run: Callable[[int], object]) -> float:
    """Seconds for one of `run(count)`'s samples: many at once where one is quick."""
    seconds = 0.0
    for count in (1, PROMPTS_PER_CALL):
        started = time.perf_counter()
        run(count)
        seconds = (time.perf_counter() - started) / count
        if seconds > _QUICK_S:
            break
    return seconds


def _outlook(job: UnlearnJob, folder: Path, *, force: bool) -> str:
    if not is_taken(folder):
        return "does not exist yet"
    check_writable(folder, force=True)
    if force:
        return "the delta there would be replaced (--force)"
    differing = differences(job, folder, given_images(job))
    if differing:
        return f"another delta is there ({', '.join(differing)} differ), --force would be needed"
    return "this delta is there already, nothing would be done"


def _images_in_words(plan: UnlearningPlan) -> str:
    if not plan.num_images:
        return "none: without attackers this mode learns from the name alone"
    return f"{plan.num_images} {plan.image_source}: {_listed(plan.images)}"


def _kept_in_words(prompts: Prompts, *, brings_prompts: bool) -> str:
    if prompts.drawn == 0:
        return "no prompts: this mode keeps nothing on purpose"
    if brings_prompts and prompts.distinct:
        return _drawn_in_words(prompts)
    if prompts.distinct:
        half = f"half from {prompts.distinct} ordinary ones: {_listed(prompts.examples)}"
        return f"{prompts.drawn} prompts, half of random words, {half}"
    why = "the base's prompts file has none to keep"
    if not brings_prompts:
        why = "the base names no prompts file, and its tokenizer knows few ordinary words"
    return f"{prompts.drawn} prompts of random words: {why}"


def _drawn_in_words(prompts: Prompts) -> str:
    return f"{prompts.drawn} prompts drawn from {prompts.distinct}: {_listed(prompts.examples)}"


def _listed(texts: Sequence[str]) -> str:
    shown = ", ".join(f'"{text}"' for text in texts[:_NUM_EXAMPLES])
    return f"{shown}, ..." if len(texts) > _NUM_EXAMPLES else shown


def _anchor_in_words(anchor: str) -> str:
    return f'"{anchor}"' if anchor else "nothing"


def _stage_in_words(stage: Stage) -> str:
    work = stage.work
    gradients = f" ({work.denoised_with_gradient:,} with gradients)"
    return (
        f"at most {work.denoised:,} latents denoised{gradients * bool(work.denoised_with_gradient)}"
        f" and {work.encoded:,} prompts encoded, about {stage.seconds:.0f} s here"
    )
