"""Where a prompt names a concept. Knows neither models nor what is done with the prompt."""

import re
from collections.abc import Sequence

from unsee.core.errors import InputError
from unsee.core.policy import Concept


def split_at_name(prompt: str, concept: Concept) -> tuple[str, str, str] | None:
    """The text before the first name of `concept`, the name as it is written, and the text after.

    None if the prompt does not name the concept.
    """
    named = _names(concept).search(prompt)
    if named is None:
        return None
    return prompt[: named.start()], named.group(), prompt[named.end() :]


def around_name(prompt: str, concept: Concept) -> tuple[str, str]:
    """The text before and after the first name or alias of `concept`, as a word, in any case.

    Further names are cut out. A prompt without one is ("", prompt).
    """
    pattern = _names(concept)
    named = pattern.search(prompt)
    if named is None:
        return "", prompt
    return prompt[: named.start()], pattern.sub("", prompt[named.end() :])


def check_unnamed(prompts: Sequence[str], concept: Concept) -> None:
    """Raise `InputError` if a prompt contains a name or alias of `concept` as a word."""
    pattern = _names(concept)
    for prompt in prompts:
        named = pattern.search(prompt)
        if named is not None:
            raise InputError(
                f"the prompt {prompt!r} was to be without {concept.name!r} but names it "
                f"({named.group()!r}); give one that does not"
            )


def _names(concept: Concept) -> re.Pattern[str]:
    longest_first = sorted((concept.name, *concept.aliases), key=len, reverse=True)
    names = "|".join(re.escape(name) for name in longest_first)
    return re.compile(rf"(?<!\w)(?:{names})(?!\w)", re.IGNORECASE)
