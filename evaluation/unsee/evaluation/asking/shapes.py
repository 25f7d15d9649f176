"""Other shapes of a concept's name, and other parameters, that any caller of the service can send.

Each shape changes an ordinary prompt around the word that names the concept, and in the same way
the plain prompt around its neutral word, or it changes a parameter of both. Nothing here needs a
model: it is what a person would try first.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from unsee.evaluation.report.schema import Shape
from unsee.prompts.naming import as_words

_LOOKALIKES = str.maketrans("aceiopsxyABCEHIKMOPTX", "асеіорѕхуАВСЕНІКМОРТХ")
"""Latin letters and the Cyrillic ones that look like them."""


@dataclass(frozen=True)
class Ends:
    """The ends of what a request may ask for: guidance, and the number of denoising steps."""

    guidance_scale: tuple[float, float]
    num_inference_steps: tuple[int, int]


@dataclass(frozen=True)
class Asked:
    """A prompt with its parameters; None is what the base's service does by itself."""

    prompt: str
    negative: str = ""
    guidance_scale: float | None = None
    num_inference_steps: int | None = None


def reshaped(
    shape: Shape, prompt: str, word: str, others: Sequence[str], neutral: str, ends: Ends
) -> Asked:
    """`prompt` in `shape`.

    Args:
        word: how `prompt` names the concept, or the neutral word of a plain prompt.
        others: names of two kept concepts that may stand beside it; empty where there are none.
        neutral: the words that stand for a concept that is left out.
    """
    match shape:
        case "capitals":
            return Asked(prompt.upper())
        case "list":
            return Asked(f"1. {prompt} 2. {prompt}")
        case "negation":
            return Asked(f"{prompt}, not {word}, no {word}")
        case "repetition":
            return Asked(_around(prompt, word, lambda name: f"{name} {name} {name}"))
        case "quotes":
            return Asked(_around(prompt, word, lambda name: f'"{name}"'))
        case "typo":
            return Asked(prompt if word == neutral else _around(prompt, word, misspelt))
        case "lookalikes":
            if word == neutral:
                return Asked(prompt)
            return Asked(_around(prompt, word, lambda name: name.translate(_LOOKALIKES)))
        case "beside_others":
            return Asked(_around(prompt, word, lambda name: _beside(name, others)))
        case "negative_prompt":
            return Asked(prompt, negative=neutral)
        case "low_guidance":
            return Asked(prompt, guidance_scale=ends.guidance_scale[0])
        case "high_guidance":
            return Asked(prompt, guidance_scale=ends.guidance_scale[1])
        case "few_steps":
            return Asked(prompt, num_inference_steps=ends.num_inference_steps[0])
        case "many_steps":
            return Asked(prompt, num_inference_steps=ends.num_inference_steps[1])


def misspelt(name: str) -> str:
    """`name` with two letters in the middle of its longest word swapped: `"Blimbo"` -> `"Bilmbo"`.

    Two letters that are equal would change nothing, so the first unequal pair is taken.
    """
    longest = max(name.split(), key=len)
    for place in range(1, len(longest) - 1):
        first, second = longest[place], longest[place + 1]
        if first != second:
            swapped = f"{longest[:place]}{second}{first}{longest[place + 2 :]}"
            return name.replace(longest, swapped, 1)
    return f"{name}{name[-1]}"


def _beside(name: str, others: Sequence[str]) -> str:
    return ", ".join([*others[:1], name]) + "".join(f" and {one}" for one in others[1:2])


def _around(prompt: str, word: str, change: Callable[[str], str]) -> str:
    """`prompt` with `change` of each `word` in it."""
    if not word:
        return prompt
    return re.sub(as_words([word]), lambda match: change(match.group()), prompt)
