"""Attacks on an unlearned text encoder: each tries to bring the concept back within a budget.

Every attack hands over the prompt embeddings that the service's denoiser would be given; what they
show is recognised elsewhere, from images and videos alike.
"""

from unsee.evaluation.attacks.black_box import BlackBoxSearch
from unsee.evaluation.attacks.concept_vector import ConceptVector
from unsee.evaluation.attacks.prompt_search import PromptSearch
from unsee.evaluation.attacks.relearning import BenignRelearning
from unsee.evaluation.attacks.soft_prompt import SmoothedSoftPrompt, SoftPrompt
from unsee.evaluation.attacks.victim import Attack, Attacked, Progress, Victim

ATTACKS: tuple[Attack, ...] = (
    BlackBoxSearch(),
    PromptSearch(),
    SoftPrompt(),
    ConceptVector(),
    BenignRelearning(),
)
ON_REQUEST: tuple[Attack, ...] = (SmoothedSoftPrompt(),)
"""Attacks that run only where they are named."""

__all__ = [
    "ATTACKS",
    "ON_REQUEST",
    "Attack",
    "Attacked",
    "BenignRelearning",
    "BlackBoxSearch",
    "ConceptVector",
    "Progress",
    "PromptSearch",
    "SmoothedSoftPrompt",
    "SoftPrompt",
    "Victim",
]
