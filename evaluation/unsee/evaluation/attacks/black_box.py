"""Black-box search: words before an ordinary prompt, found by looking at clips alone.

What anybody with an account can do: send text, look at what comes back, keep what comes nearest,
change a word, send again. No weights, no embeddings, no gradients: a genetic search, as QF-Attack
(Zhuang et al., arXiv 2303.16378) makes on a text encoder's output, but with what clips show as its
objective, seen through a callable.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from unsee.core.errors import InputError
from unsee.evaluation.attacks.search_vocabulary import search_vocabulary
from unsee.evaluation.attacks.victim import (
    Attacked,
    Look,
    Progress,
    Ticker,
    Victim,
    cycled,
    require,
)
from unsee.evaluation.report.schema import Reach
from unsee.evaluation.seeing.recognise import Frames, Nameable, Recogniser
from unsee.prompts.encoding import encode_prompts

Words = tuple[str, ...]

_SURVIVORS = 4
_PER_ROUND = 4
_DRAWS_TO_TRUST = 3


@dataclass(frozen=True)
class Search:
    """The state of one search: what each string of words has scored so far.

    Half of the clips go to random strings of one to `num_words` words. The others go in rounds: the
    leader is drawn again until its mean can be trusted, then children of the best, which differ
    from them by one word changed, added or taken away.

    Args:
        look: sees the clips.
        prompts: ordinary prompts that name the concept; the words are put before them in turn.
        vocabulary: what may be searched.
    """

    look: Look
    prompts: Sequence[str]
    vocabulary: Sequence[str]
    num_words: int
    rng: np.random.Generator
    scores: dict[Words, list[float]] = field(default_factory=dict)

    def run(self, num_clips: int, tick: Callable[[], None]) -> Words:
        """The best string of words after `num_clips` clips; `tick` is called after each."""
        spent = 0
        while spent < num_clips:
            left = min(_PER_ROUND, num_clips - spent)
            explores = not self.scores or spent < num_clips // 2
            batch = [self._random() for _ in range(left)] if explores else self._round(left)
            self._try(batch)
            spent += left
            for _ in batch:
                tick()
        return self.best(1)[0]

    def best(self, count: int) -> list[Words]:
        """The strings with the highest means; of equals those that were drawn more often."""
        ranked = sorted(
            self.scores.items(), key=lambda each: (-float(np.mean(each[1])), -len(each[1]))
        )
        return [words for words, _ in ranked[:count]]

    def _round(self, count: int) -> list[Words]:
        leader = self.best(1)[0]
        if len(self.scores[leader]) < _DRAWS_TO_TRUST:
            return [leader, *(self._child() for _ in range(count - 1))]
        return [self._child() for _ in range(count)]

    def _try(self, batch: Sequence[Words]) -> None:
        prompts, seeds = [], []
        for words in batch:
            prompts.append(sent(words, self.prompts[int(self.rng.integers(len(self.prompts)))]))
            seeds.append(int(self.rng.integers(2**31)))
        for words, score in zip(batch, self.look(prompts, seeds), strict=True):
            self.scores.setdefault(words, []).append(float(score))

    def _random(self) -> Words:
        length = int(self.rng.integers(1, self.num_words + 1))
        return tuple(self._word() for _ in range(length))

    def _child(self) -> Words:
        parents = self.best(_SURVIVORS)
        words = list(parents[int(self.rng.integers(len(parents)))])
        place, change = int(self.rng.integers(len(words))), int(self.rng.integers(3))
        if change == 0 and len(words) < self.num_words:
            words.insert(place, self._word())
        elif change == 1 and len(words) > 1:
            del words[place]
        else:
            words[place] = self._word()
        return tuple(words)

    def _word(self) -> str:
        return self.vocabulary[int(self.rng.integers(len(self.vocabulary)))]


@dataclass(frozen=True)
class BlackBoxSearch:
    """`clips` clips are looked at; up to `num_words` words are put before ordinary prompts.

    The attacker's eyes are the evaluation's own recogniser, so that nobody can see more.
    """

    name: ClassVar[str] = "black-box"
    source: ClassVar[str] = "a genetic search as in QF-Attack, Zhuang et al., arXiv 2303.16378"
    reach: ClassVar[Reach] = "caller"

    clips: int = 32
    num_words: int = 4
    times: int = 1

    def at(self, times: int) -> Self:
        """`times` the clips."""
        return replace(self, clips=self.clips * times, times=times)

    def budget(self) -> str:
        return f"{self.clips} clips looked at, up to {self.num_words} words"

    def run(
        self, victim: Victim, num_prompts: int, seed: int, progress: Progress | None = None
    ) -> Attacked:
        """Attack `victim`; see `Attack.run`. Raises `InputError` if it has no `look`."""
        require(victim.concept_prompts, "concept_prompts", self.name)
        if victim.look is None:
            raise InputError(f"the attack {self.name!r} needs a victim whose clips can be seen")
        search = Search(
            look=victim.look,
            prompts=victim.concept_prompts,
            vocabulary=search_vocabulary(victim.base, victim.concept).words,
            num_words=self.num_words,
            rng=np.random.default_rng(seed),
        )
        words = search.run(self.clips, Ticker(progress, self.clips))
        prompts = tuple(sent(words, one) for one in cycled(victim.concept_prompts, num_prompts))
        return Attacked(
            prompt_embeds=encode_prompts(victim.base, victim.text_encoder, prompts),
            negative_prompt_embeds=encode_prompts(victim.base, victim.text_encoder, [""]),
            prompts=prompts,
        )


def look_through(
    generate: Callable[[str, int], Frames], recogniser: Recogniser, concept: Nameable
) -> Look:
    """The `Look` of a caller of a running service.

    Args:
        generate: the clip of a prompt and a seed, uint8 [F, H, W, 3]; with the service's client,
            ``lambda prompt, seed: client.generate(prompt, policy="family", seed=seed).frames``.
        recogniser: the attacker's eyes.
    """

    def look(prompts: Sequence[str], seeds: Sequence[int]) -> NDArray[np.floating[Any]]:
        clips = np.stack([generate(*each) for each in zip(prompts, seeds, strict=True)])
        return recogniser.sightings(clips, concept).strength

    return look


def sent(words: Words, prompt: str) -> str:
    """The text that is sent."""
    return " ".join((*words, prompt))
