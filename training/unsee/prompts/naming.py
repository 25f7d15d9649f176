"""Where a prompt names a concept, as the tokenizer reads both.

Tokenizers normalise before they split: some make every kind of space one, compose accents and
lower letters; some pipelines clean a prompt before that. A name is looked for in all cases, with
either apostrophe and with its accents composed or not, whether or not they do. A *near name* is
what a person would take for the name and the tokenizer does not: a plural, a possessive, letters of
another width or alphabet, a soft hyphen in between.

A name is a whole word where its writing has spaces between words. Chinese, Japanese, Thai and
others have none, nor has a foreign name among their signs.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from unsee.core.errors import InputError
from unsee.core.policy import Concept
from unsee.models.base import Base
from unsee.models.quiet import quiet_libraries

Read = Callable[[str], str]

_CONFUSABLE = str.maketrans(
    {
        **dict(zip("аеорсхуіјѕһкмтвнԁԛԝԍ", "aeopcxyijshkmtbhdqwg", strict=True)),  # Cyrillic
        **dict(zip("αορντυικχεβηγζ", "aopvtuikxebnyz", strict=True)),  # Greek
        **{"ı": "i", "ℓ": "l", "ɑ": "a", "ɡ": "g", "ɩ": "i", "ո": "n", "օ": "o", "ս": "u"},
        **{"0": "o", "3": "e", "5": "s", "$": "s", "@": "a", "4": "a", "8": "b"},
    }
)
_ONE = ("l", "i")
"""What a 1, a bar or an exclamation mark may stand for."""
_FEWEST_SPREAD = 4
"""Shorter names are not looked for with signs between their letters."""
_UNSPACED = (
    r"\u0e00-\u0eff"  # Thai, Lao
    r"\u1000-\u109f\u1780-\u17ff"  # Burmese, Khmer
    r"\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9f"  # Japanese
    r"\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Chinese
    r"\u1100-\u11ff\uac00-\ud7a3"  # Korean, whose particles follow a noun without one
)
_SPACED = rf"[^\W{_UNSPACED}]"
"""A letter of a writing that has spaces between words."""
_NOTHING = r"[^\s\S]"


@dataclass(frozen=True)
class Names:
    """The names of `concept`, in texts that are first made what the tokenizer reads (`read`)."""

    concept: Concept
    read: Read

    @classmethod
    def of(cls, base: Base, concept: Concept) -> "Names":
        """As the tokenizer of `base` reads them, in all cases that it tells apart."""
        return cls(in_all_cases(base, concept), reader(base))

    def split(self, prompt: str) -> tuple[str, str, str] | None:
        """The text before the first name, the name, and the text after, as they are read.

        None if the prompt does not name the concept.
        """
        text = self.read(prompt)
        named = next(self._found(text), None)
        if named is None:
            return None
        return text[: named.start()], named.group(), text[named.end() :]

    def around(self, prompt: str) -> tuple[str, str]:
        """The text before and after the first name; further names are cut out.

        A prompt without one is ("", prompt).
        """
        parts = self.split(prompt)
        if parts is None:
            return "", prompt
        before, _, after = parts
        for name in reversed(list(self._found(after))):
            after = after[: name.start()] + after[name.end() :]
        return before, after

    def near(self, prompt: str) -> str | None:
        """The first near name in a prompt that does not name the concept; None without one."""
        text = self.read(prompt)
        if next(self._found(text), None) is not None:
            return None
        for fold in (_folded(text, one) for one in _ONE):
            found = self._near.search(fold)
            if found is not None:
                return found.group().strip()
        return None

    def check_unnamed(self, prompts: Iterable[str]) -> None:
        """Raise `InputError` if a prompt names the concept."""
        for prompt in prompts:
            parts = self.split(prompt)
            if parts is not None:
                raise InputError(
                    f"the prompt {prompt!r} was to be without {self.concept.name!r} but names it "
                    f"({parts[1]!r}); give one that does not"
                )

    def _found(self, text: str) -> Iterator[re.Match[str]]:
        """The names in a text as it is read; a dotless i, say, is not an i in another case."""
        lowered = {name.lower() for name in self._all}
        return (name for name in self._exact.finditer(text) if name.group().lower() in lowered)

    @cached_property
    def _all(self) -> tuple[str, ...]:
        names = {self.read(name) for name in (self.concept.name, *self.concept.aliases)}
        names |= {unicodedata.normalize("NFD", name) for name in names}
        return tuple(sorted(names, key=lambda name: (-len(name), name)))

    @cached_property
    def _exact(self) -> re.Pattern[str]:
        return re.compile(rf"(?:{as_words(self._all)})(?!['’]s?\b)", re.IGNORECASE)

    @cached_property
    def _near(self) -> re.Pattern[str]:
        folds = sorted({_folded(name, one) for name in self._all for one in _ONE})
        return re.compile("|".join(_apart(fold, _near_pattern(fold), _SPACED) for fold in folds))


def as_words(names: Iterable[str]) -> str:
    """The regular expression that finds any of `names` where it is a word, or signs of a writing
    without spaces; a single such sign is a word where nothing stands beside it."""
    return "|".join(
        _apart(name, re.escape(name), _SPACED if len(name) > 1 else r"\w") for name in names
    )


def reader(base: Base) -> Read:
    """The function that makes of a text what the tokenizer of `base` splits into tokens."""
    normalizer, frame = base.tokenizer().backend_tokenizer.normalizer, base.prompt_frame()

    def read(text: str) -> str:
        given = frame.text(text)
        normal = normalizer.normalize_str(given) if normalizer is not None else given
        return " ".join(normal.split())

    return read


def in_all_cases(base: Base, concept: Concept) -> Concept:
    """`concept`, also by its names in small and in capital letters and with either apostrophe,
    where the tokenizer of `base` tells these apart."""
    names, read = (concept.name, *concept.aliases), reader(base)
    spelled = {
        other: None
        for name in names
        for typed in (name, name.replace("’", "'"), name.replace("'", "’"))
        for other in (typed, typed.lower(), typed.upper(), typed.title())
    }
    seen, kept = set(), []
    for name in spelled:
        if read(name) not in seen:
            seen.add(read(name))
            kept.append(name)
    return concept.model_copy(update={"aliases": tuple(kept[1:])})


def check_known(base: Base, concept: Concept) -> None:
    """Raise `InputError` if the tokenizer of `base` reads a name as nothing but unknown tokens.

    An edit by that name would be one of every unknown word.
    """
    tokenizer = base.tokenizer()
    for name in (concept.name, *concept.aliases):
        with quiet_libraries():
            ids = tokenizer(name, add_special_tokens=False).input_ids
        known = [one for one in ids if one != tokenizer.unk_token_id]
        if not any(tokenizer.decode([one]).strip() for one in known):
            raise InputError(
                f"the tokenizer of the base {base.name!r} knows no part of the name {name!r}, so "
                "no prompt can ask for it by that; leave the name out"
            )


def parted(
    prompts: Sequence[str], names: Sequence[Names]
) -> tuple[list[str], list[str], list[str]]:
    """Prompts that name the first concept, that have a near name of any, and that have none.

    Prompts that name another of the concepts are in none of the three.
    """
    own, near, others = [], [], []
    for prompt in prompts:
        if names[0].split(prompt) is not None:
            own.append(prompt)
        elif any(one.split(prompt) is not None for one in names[1:]):
            continue
        elif any(one.near(prompt) is not None for one in names):
            near.append(prompt)
        else:
            others.append(prompt)
    return own, near, others


def _folded(text: str, one: str) -> str:
    """`text` in plain Latin letters: width, accents, look-alikes and invisible signs taken away."""
    plain = "".join(
        sign
        for sign in unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text))
        if unicodedata.category(sign) not in ("Cf", "Mn")
    )
    letters = plain.casefold().translate(_CONFUSABLE)
    return re.sub(r"(?<=\w)[1|!](?=\w)|(?<!\w)[1|](?=\w)", one, letters)


def _apart(name: str, pattern: str, signs: str) -> str:
    """`pattern`, which finds `name`, with none of `signs` before or after it."""
    return f"(?<!{_beside(name[:1], signs)})(?:{pattern})(?!{_beside(name[-1:], signs)})"


def _beside(edge: str, signs: str) -> str:
    """Which of `signs` may not stand beside the name's `edge`: none where it has no spaces."""
    return _NOTHING if signs == _SPACED and re.match(f"[{_UNSPACED}]", edge) else signs


def _near_pattern(name: str) -> str:
    """The name in its plural or possessive, and with signs between the letters of a longer one."""
    letters = [sign for sign in name if sign.isalnum()]
    if len(letters) >= _FEWEST_SPREAD:
        spread = r"[\W_]{0,2}".join(map(re.escape, letters))
    else:
        spread = re.escape(name)
    plural = rf"|{spread[:-1]}ies" if name.endswith("y") and len(name) > 1 else ""
    return rf"{spread}(?:e?s)?(?:['’]s?)?{plural}"
