"""Several concepts at once: the edit that a joint solution finds, for comparison with composition.

It is one projection along the directions of all concepts, measured against prompts that name none
of them, without attackers or images.
"""

from collections.abc import Iterator, Mapping, Sequence

import torch

from unsee.core.policy import Concept
from unsee.core.unlearning_settings import AnchoredMode
from unsee.deltas.edit import Edit
from unsee.models.base import Base
from unsee.unlearning.contexts import contexts_of, word_ids
from unsee.unlearning.moments import ForgetMoments, StateReader, forget_moments, keep_moments
from unsee.unlearning.projection import fitted, readouts, removable


def joint_edit(
    base: Base, anchors: Mapping[Concept, str], settings: AnchoredMode, seed: int
) -> Edit:
    """The edit that shows each concept's anchor in its place.

    What is kept are prompts that name none of the concepts, which composition cannot know.
    """
    generator = torch.Generator().manual_seed(seed)
    reader = StateReader(base.text_encoder(), base.prompt_frame())
    concepts = list(anchors)
    contexts = [contexts_of(base, concept, concepts) for concept in concepts]
    keep = keep_moments(reader, contexts[0].draw_kept(settings.prompts_to_keep, generator))
    nothing = ForgetMoments.none(len(keep.mean))
    fits = []
    for concept, own in zip(concepts, contexts, strict=True):
        namings = own.draw_named(settings.prompts_to_forget, generator)
        anchor = word_ids(base, anchors[concept])
        forget = forget_moments(reader, namings, anchor, keep.mean, own.frame)
        fits.append(fitted(forget, nothing, keep, settings.kept_at_least, settings.rank))
    ranked = torch.stack(list(_in_turn([fit.edit.up.double().T for fit in fits])))
    up, _ = removable(ranked, keep.covariance, (1 - settings.kept_at_least) * len(fits))
    down = readouts(up, keep.covariance)
    return Edit(up.float(), down.float(), (down @ keep.mean).float())


def _in_turn(rows: Sequence[torch.Tensor]) -> Iterator[torch.Tensor]:
    """The first row of each, then the second of each, as long as there are any."""
    for place in range(max(len(each) for each in rows)):
        yield from (each[place] for each in rows if place < len(each))
