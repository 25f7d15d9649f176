"""How some pipelines clean a prompt before its tokenizer reads it.

`text_to_video` can import nothing of Unsee and has a copy of this file beside it, so this module
needs the standard library alone.
"""

from __future__ import annotations

import html
import re


def cleaned(prompt: str) -> str:
    """`prompt` with HTML's character references resolved, twice, and white space as one space.

    As diffusers' `WanPipeline` cleans it where the library ftfy is not installed; with ftfy it also
    mends misread encodings and curly quotes, which would make tokens depend on what is installed.
    """
    return re.sub(r"\s+", " ", html.unescape(html.unescape(prompt)).strip()).strip()
