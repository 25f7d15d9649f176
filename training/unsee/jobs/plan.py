"""What unlearning a concept would do: `unsee unlearn --dry-run`.

Knows how many prompts, images, steps and passes through the models each mode needs; runs none of
them and writes nothing.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from unsee.core.policy import Concept
from unsee.core.unlearning_settings import AnchoredMode, PaperMode
from unsee.deltas.folder import check_writable
from unsee.images.few_shot import few_shot_prompts
from unsee.images.image_folder import image_files
from unsee.jobs.job import UnlearnJob, differences, given_images
from unsee.models.encoder_family import check_encoder
from unsee.models.layers import paper_parameters
from unsee.prompts.naming import split_at_name
from unsee.prompts.templates import training_prompts
from unsee.prompts.tokens import fitting_prompts
from unsee.unlearning.anchored_mode import NUM_COUNTEREXAMPLES, NUM_HELD_OUT
from unsee.unlearning.anchors import ANCHORS
from unsee.unlearning.moments import PROMPTS_PER_CALL
from unsee.unlearning.pictures import NUM_TRIALS, TRIALS_PER_CALL

_NUM_EXAMPLES = 3


@dataclass(frozen=True)
class Prompts:
    """`drawn` prompts from `distinct` written ones, and a few of those."""

    drawn: int
    distinct: int
    examples: tuple[str, ...]


@dataclass(frozen=True)
class Stage:
    """The most forward passes that a stage makes; `denoiser_gradients` of them go backward too."""

    name: str
    denoiser_calls: int
    encoder_calls: int
    denoiser_gradients: int = 0


@dataclass(frozen=True)
class Plan:
    """What would be done; `anchors` are the candidates, `images` the files or their prompts.

    `steps` is the most that would be taken, `trained_values` the number of float32 values in
    `trained_tensors` tensors that would be learned, `outlook` a word on the output folder.
    """

    concept: Concept
    base: str
    mode: str
    seed: int
    forget: Prompts
    keep: Prompts
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
            f"  forget   {_prompts_in_words(self.forget)}",
            f"  keep     {_prompts_in_words(self.keep)}",
        ]
        if self.anchors:
            lines.append(f"  show     {' or '.join(map(_anchor_in_words, self.anchors))} instead")
        lines += [
            f"  images   {self.num_images} {self.image_source}: {_listed(self.images)}",
            f"  train    {self.trained_values:,} values in {self.trained_tensors} tensors, "
            f"at most {self.steps} steps, seed {self.seed}",
            *(f"  {stage.name:<8} at most {_cost_in_words(stage)}" for stage in self.stages),
            f"  output   {self.output}: {self.outlook}",
        ]
        return "\n".join(lines)


def make_plan(job: UnlearnJob, folder: Path, *, force: bool) -> Plan:
    """What `run_job` would do with the same arguments.

    Raises what it would raise on a base, images or names that cannot be used; that another delta
    lies in `folder` is told as the plan's `outlook`.
    """
    check_encoder(job.base)
    given = given_images(job)
    generated = few_shot_prompts(job.base, job.concept, job.settings.shots)
    forget, keep = _prompts(job)
    tensors, values = _trained(job)
    steps = _steps(job)
    return Plan(
        concept=job.concept,
        base=job.base.name,
        mode=job.settings.method,
        seed=job.seed,
        forget=forget,
        keep=keep,
        anchors=_anchors(job),
        num_images=job.settings.shots,
        image_source="to be generated" if given is None else f"from {job.images_dir}",
        images=generated if job.images_dir is None else _names(job.images_dir, job.settings.shots),
        trained_tensors=tensors,
        trained_values=values,
        steps=steps,
        stages=(*([] if given else [_images_stage(job)]), _learning_stage(job, steps)),
        output=folder,
        outlook=_outlook(job, folder, force=force),
    )


def _prompts(job: UnlearnJob) -> tuple[Prompts, Prompts]:
    templates = tuple(fitting_prompts(job.base, training_prompts(job.concept)))
    if isinstance(job.settings, PaperMode):
        drawn = job.settings.epochs * job.settings.shots
        return _drawn(drawn, templates), _drawn(0, ())
    asked = job.base.prompts()
    naming = [prompt for prompt in asked if split_at_name(prompt, job.concept)]
    others = [prompt for prompt in asked if prompt not in set(naming)]
    return (
        _drawn(job.settings.prompts_to_forget, (*templates, *naming)),
        _drawn(job.settings.prompts_to_keep, others),
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
    text_encoder = job.base.text_encoder()
    if isinstance(job.settings, PaperMode):
        parameters = paper_parameters(text_encoder).values()
        return len(parameters), sum(parameter.numel() for parameter in parameters)
    size = text_encoder.config.hidden_size
    rank = min(job.settings.rank, size)
    return 3, 2 * size * rank + rank


def _steps(job: UnlearnJob) -> int:
    settings = job.settings
    if isinstance(settings, PaperMode):
        return settings.epochs * math.ceil(settings.shots / settings.batch_size)
    return max(settings.attackers, 1)


def _images_stage(job: UnlearnJob) -> Stage:
    clip = job.base.spec.clip
    prompts_per_image = 2 if clip.guidance_scale > 1 else 1
    return Stage(
        "generate",
        denoiser_calls=job.settings.shots * clip.num_inference_steps,
        encoder_calls=job.settings.shots * prompts_per_image,
    )


def _learning_stage(job: UnlearnJob, steps: int) -> Stage:
    if isinstance(job.settings, PaperMode):
        return Stage("learn", steps, steps, denoiser_gradients=steps)
    return _anchored_stage(job.settings, len(_anchors(job)))


def _anchored_stage(settings: AnchoredMode, num_anchors: int) -> Stage:
    """The yardstick and the moments; then each attacker, its counterexamples, and looks at the
    held-out trials."""
    gradients = settings.attackers * settings.attack_steps
    looks = settings.attackers
    measured = 1 + num_anchors
    counterexamples = 2 * math.ceil(NUM_COUNTEREXAMPLES / PROMPTS_PER_CALL)
    kept, forgotten = (
        math.ceil(count / PROMPTS_PER_CALL)
        for count in (settings.prompts_to_keep, settings.prompts_to_forget)
    )
    moments = 1 + kept + 2 * forgotten
    return Stage(
        "learn",
        denoiser_calls=measured * math.ceil(NUM_TRIALS / TRIALS_PER_CALL)
        + gradients
        + looks * math.ceil(NUM_HELD_OUT / TRIALS_PER_CALL),
        encoder_calls=measured + moments + gradients + settings.attackers * (1 + counterexamples),
        denoiser_gradients=gradients,
    )


def _outlook(job: UnlearnJob, folder: Path, *, force: bool) -> str:
    if not folder.exists():
        return "does not exist yet"
    check_writable(folder, force=True)
    if force:
        return "the delta there would be replaced (--force)"
    differing = differences(job, folder, given_images(job))
    if differing:
        return f"another delta is there ({', '.join(differing)} differ), --force would be needed"
    return "this delta is there already, nothing would be done"


def _prompts_in_words(prompts: Prompts) -> str:
    if prompts.drawn == 0:
        return "no prompts: this mode keeps nothing on purpose"
    if prompts.distinct == 0:
        return f"{prompts.drawn} prompts of random words: the base names no prompts file"
    return f"{prompts.drawn} prompts drawn from {prompts.distinct}: {_listed(prompts.examples)}"


def _listed(texts: Sequence[str]) -> str:
    shown = ", ".join(f'"{text}"' for text in texts[:_NUM_EXAMPLES])
    return f"{shown}, ..." if len(texts) > _NUM_EXAMPLES else shown


def _anchor_in_words(anchor: str) -> str:
    return f'"{anchor}"' if anchor else "nothing"


def _cost_in_words(stage: Stage) -> str:
    gradients = f" ({stage.denoiser_gradients:,} with gradients)" * bool(stage.denoiser_gradients)
    return (
        f"{stage.denoiser_calls:,} denoiser calls{gradients}, {stage.encoder_calls:,} encoder calls"
    )
