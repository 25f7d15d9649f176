"""The search for paper mode's learning rate on this base, on concepts that no result shows.

The five backgrounds can be unlearned like objects but are in no table of results, so the rate
is chosen on them: images only, the harmonic mean of what was forgotten and what was kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from unsee.core.policy import Concept
from unsee.deltas.composition import compose
from unsee.evaluation.asking.evaluation_set import EvaluationSet
from unsee.evaluation.asking.questions import QuestionMaker
from unsee.evaluation.seeing.encode import PromptEncoder
from unsee.evaluation.seeing.frame_store import FrameStore
from unsee.evaluation.seeing.generate import FrameMaker, GenerationSettings
from unsee.evaluation.seeing.measures import Observation
from unsee.evaluation.seeing.observe import Encoder, Observer
from unsee.evaluation.seeing.recognisers import open_recogniser
from unsee.images.few_shot import generate_few_shot_images
from unsee.models.base import Base
from unsee.playground.world.world import Concept as WorldConcept
from unsee.playground.world.world import concepts_in
from unsee.unlearning.unlearn import unlearn

RATES = (1e-5, 3e-4, 1e-3, 1.5e-3, 2e-3, 3e-3, 5e-3)
PROMPTS_PER_WORDING = 4
PROMPTS_PER_SIBLING = 3
NUM_OTHERS = 24


@dataclass(frozen=True)
class RateTrial:
    """One learning rate, averaged over the backgrounds; all are shares of images.

    ``kept`` is what the tuned encoder still shows of what the base showed, the other
    backgrounds and everything else weighing the same.
    """

    learning_rate: float
    still_seen: float
    siblings_kept: float
    others_kept: float

    @property
    def score(self) -> float:
        """The harmonic mean of forgetting and keeping."""
        forgotten, kept = 1 - self.still_seen, (self.siblings_kept + self.others_kept) / 2
        return 2 * forgotten * kept / (forgotten + kept) if forgotten + kept else 0.0


def search(
    base: Base, known: EvaluationSet, frames_dir: Path, seed: int, rates: Sequence[float] = RATES
) -> list[RateTrial]:
    """Tries every rate on every background; the trials are in the order of ``rates``."""
    recogniser = open_recogniser(None, base, known.concepts)
    maker = FrameMaker(base, FrameStore(frames_dir), GenerationSettings.of(base))
    usual = base.spec.unlearn.paper
    images = {
        background: generate_few_shot_images(base, as_object(background), 4, seed)
        for background in concepts_in("background")
    }
    trials = []
    for rate in rates:
        seen: list[list[Observation]] = []
        for background in images:
            settings = replace(usual, learning_rate=rate)
            delta = unlearn(base, as_object(background), images[background], settings, seed)
            tuned = compose(base.text_encoder(), [delta])
            observer = Observer(
                Encoder(tuned, base), Encoder(base.text_encoder(), base), maker, recogniser
            )
            erased = known.find(background.name)
            if erased is None:
                raise ValueError(f"the background {background.name!r} is not in the evaluation set")
            fits = PromptEncoder(base.text_encoder(), base).fits
            questions = QuestionMaker(known, (erased,), seed, fits)
            asked = [
                *questions.about_erased(erased, PROMPTS_PER_WORDING),
                *questions.about_siblings(PROMPTS_PER_SIBLING),
                *questions.about_others(NUM_OTHERS),
            ]
            seen.append(observer.observe(asked, "image"))
        trials.append(summarised(rate, seen))
    return trials


def as_object(background: WorldConcept) -> Concept:
    """Prompts of training treat a background like an object."""
    return Concept(name=background.name, category="object", aliases=background.aliases)


def summarised(rate: float, observations: Sequence[Sequence[Observation]]) -> RateTrial:
    """Means over concepts, each of the share over its own images."""
    groups = {kind: [share(each, kind) for each in observations] for kind in ("sibling", "other")}
    still = [
        mean([o.tuned.whole for o in each if o.question.kind == "erased"]) for each in observations
    ]
    return RateTrial(rate, mean(still), mean(groups["sibling"]), mean(groups["other"]))


def share(observations: Sequence[Observation], kind: str) -> float:
    """What is kept of what the base shows."""
    known = [o.tuned.whole for o in observations if o.question.kind == kind and o.base.whole]
    return mean(known)


def mean(values: Sequence[float] | Sequence[bool]) -> float:
    """0 without values."""
    return sum(map(float, values)) / len(values) if values else 0.0


def best(trials: Sequence[RateTrial]) -> RateTrial:
    """The trial of the highest score; the smaller rate of two equals."""
    return max(trials, key=lambda trial: (trial.score, -trial.learning_rate))
