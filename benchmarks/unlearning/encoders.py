"""Where a name leaves its mark in the states of a text encoder, and what an edit takes out.

For every concept, over prompts that name it: how much of the squared change that the anchor makes,
|z* - z|^2, lies in the states before the name, at it, at the words after it, and at the end of the
prompt (its end mark and the padding); and the default mode's edit.

    python -m benchmarks.unlearning.encoders
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from statistics import fmean
from typing import Any

import click
import torch

from benchmarks.measuring.bases import BASES_DIR, PLAYGROUND_WAN
from benchmarks.measuring.record import as_json, say
from unsee.deltas.edit import Edit
from unsee.models.base import Base, load_base
from unsee.playground.experiments.own_base import UNLEARNABLE, policy_concept
from unsee.playground.training.program import exit_code_of
from unsee.unlearning.anchored_mode import learn_edit
from unsee.unlearning.anchors import ANCHORS, Naming, anchored, anchored_positions
from unsee.unlearning.contexts import contexts_of, word_ids
from unsee.unlearning.moments import PROMPTS_PER_CALL, StateReader

NUM_PROMPTS = 64
SEED = 0
PLACES = ("before", "name", "after", "end")


def place_of(position: int, naming: Naming, first: int) -> str:
    """Where a position of a framed prompt lies; the framing's start is `before`."""
    ends = [first + len(naming.before)]
    for part in (naming.name, naming.after):
        ends.append(ends[-1] + len(part))
    return next((PLACES[i] for i, end in enumerate(ends) if position < end), PLACES[-1])


@torch.no_grad()
def change_by_place(
    reader: StateReader, namings: Sequence[Naming], anchor: Sequence[int], base: Base
) -> dict[str, float]:
    """The share of the squared change of the states that the denoiser reads in each place."""
    frame = base.prompt_frame()
    found = dict.fromkeys(PLACES, 0.0)
    for start in range(0, len(namings), PROMPTS_PER_CALL):
        batch = namings[start : start + PROMPTS_PER_CALL]
        named = torch.tensor([frame.framed([*n.before, *n.name, *n.after]) for n in batch])
        wanted = torch.tensor([anchored(n, anchor, frame) for n in batch])
        taken = torch.tensor([anchored_positions(n, anchor, frame) for n in batch])
        both = reader.counts(named) & reader.counts(wanted).gather(1, taken)
        states, target = reader.states(named), reader.states(wanted)
        target = target.gather(1, taken[..., None].expand_as(states))
        changes = (target - states).square().sum(-1)
        for row, position in both.nonzero().tolist():
            place = place_of(position, batch[row], frame.first)
            found[place] += float(changes[row, position])
    total = sum(found.values())
    return {place: size / total for place, size in found.items()}


def measured(base: Base) -> dict[str, Any]:
    """Means over all concepts, and the range of the edits' ranks."""
    reader = StateReader(base.text_encoder(), base.prompt_frame())
    settings = base.spec.unlearn.anchored
    shares, ranks, erased, kept, tokens, read = [], [], [], [], [], []
    for one in UNLEARNABLE:
        concept = policy_concept(one, base)
        generator = torch.Generator().manual_seed(SEED)
        contexts = contexts_of(base, concept)
        namings = contexts.draw_named(NUM_PROMPTS, generator)
        anchor = word_ids(base, ANCHORS[concept.category])
        shares.append(change_by_place(reader, namings, anchor, base))
        frame = contexts.frame
        rows = [frame.framed([*n.before, *n.name, *n.after]) for n in namings]
        read.append(float(reader.counts(torch.tensor(rows)).sum(1).double().mean()))
        tokens.append(fmean(len(naming.name) for naming in namings))
        learned = learn_edit(base, concept, (), settings, generator, None, None)
        ranks.append(Edit.of(learned.tensors).rank)
        erased.append(learned.erased or 0.0)
        kept.append(learned.kept or 0.0)
    return {
        "base": base.name,
        "concepts": len(shares),
        "tokens_of_a_name": fmean(tokens),
        "states_read_of_a_prompt": fmean(read),
        "change": {place: fmean(one[place] for one in shares) for place in PLACES},
        "rank": {"mean": fmean(ranks), "least": min(ranks), "most": max(ranks)},
        "erased": fmean(erased),
        "kept": fmean(kept),
    }


@click.command()
@click.option(
    "--base", "names", multiple=True, default=("playground", PLAYGROUND_WAN), show_default=True
)
def encoders(names: Sequence[str]) -> None:
    """Compare what the encoders of embedded bases say of their concepts; print it as JSON."""
    found = {}
    for name in names:
        say(f"{name}: {len(UNLEARNABLE)} concepts")
        found[name] = measured(load_base(BASES_DIR / name))
    click.echo(as_json(found), nl=False)


if __name__ == "__main__":
    sys.exit(exit_code_of(encoders))
