"""How some pipelines clean a prompt before its tokenizer reads it.

`text_to_video` can import nothing of Unsee, so this file lies beside it and needs the standard
library alone; `unsee.core.prompt_text` is a link to it.
"""

from __future__ import annotations

import html
import re

_SPACE = re.compile(r"[^\S\x1c-\x1f]+")
"""White space as Unicode has it; Python counts four separators of files and records too."""


def cleaned(prompt: str) -> str:
    """`prompt` with HTML's character references resolved, twice, and white space as one space.

    As diffusers' `WanPipeline` cleans it where the library ftfy is not installed; with ftfy it also
    mends misread encodings and curly quotes, which would make tokens depend on what is installed.
    """
    return _SPACE.sub(" ", html.unescape(html.unescape(prompt)).strip()).strip()
