"""Which clips `unsee generate` asks for, and how their files are called.

Every prompt under every policy is one clip. Knows neither server nor pixels.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unsee.core.errors import InputError

NUMBER, POLICY = "{n}", "{policy}"
"""What a file's name may hold: the number of the prompt and the name of the policy."""
MAX_DRAWN_SEED = 2**31


@dataclass(frozen=True)
class ClipWish:
    """One clip to ask for; None is the server's choice."""

    prompt: str
    policy: str | None
    seed: int | None
    files: tuple[Path, ...]


def wanted_clips(
    prompts: Sequence[str],
    policies: Sequence[str],
    seed: int | None,
    outputs: Sequence[Path],
) -> list[ClipWish]:
    """Every prompt under every policy, prompt by prompt.

    Without a `seed` several policies get one that is drawn for the prompt, so that they can be
    compared. Without `outputs` the files are called clip.mp4, with what tells them apart.

    Raises:
        InputError: two clips would be written to one file, or a prompt is empty.
    """
    if not all(prompt.strip() for prompt in prompts):
        raise InputError("the prompt is empty; say what the clip should show")
    names = [str(path) for path in outputs] or [_usual_name(len(prompts) > 1, len(policies) > 1)]
    width = len(str(len(prompts)))
    wishes = []
    for number, prompt in enumerate(prompts, start=1):
        common = secrets.randbelow(MAX_DRAWN_SEED) if seed is None and len(policies) > 1 else seed
        for policy in policies or (None,):
            files = [_filled(name, f"{number:0{width}}", policy) for name in names]
            wishes.append(ClipWish(prompt, policy, common, tuple(map(Path, files))))
    _check_apart(wishes, names)
    return wishes


def read_prompts(file: Path) -> list[str]:
    """A prompt for each line of a text file; empty lines and those that start with # are skipped.

    Raises:
        InputError: the file cannot be read or holds no prompt.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise InputError(f"cannot read the prompts in {file}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{file} is not a text file in UTF-8; give one prompt a line") from error
    prompts = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if not prompts:
        raise InputError(f"{file} holds no prompt; write one a line")
    return prompts


def _usual_name(several_prompts: bool, several_policies: bool) -> str:
    return "-".join(
        ["clip", *([NUMBER] if several_prompts else []), *([POLICY] if several_policies else [])]
    ) + (".mp4")


def _filled(name: str, number: str, policy: str | None) -> str:
    return name.replace(NUMBER, number).replace(POLICY, policy or "default")


def _check_apart(wishes: Sequence[ClipWish], names: Sequence[str]) -> None:
    files = [file for wish in wishes for file in wish.files]
    twice = next((file for file in files if files.count(file) > 1), None)
    if twice is None:
        return
    several_prompts = len({wish.prompt for wish in wishes}) > 1
    several_policies = len({wish.policy for wish in wishes}) > 1
    usual = Path(_usual_name(several_prompts, several_policies)).stem
    raise InputError(
        f"{len(wishes)} clips cannot all be written to {twice}; tell them apart with "
        f"{NUMBER} (of the prompt) and {POLICY}, such as -o {usual}{twice.suffix}"
        if len(wishes) > 1
        else f"{twice} is named twice; name it once"
    )
