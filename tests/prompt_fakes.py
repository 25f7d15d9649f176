"""The tokenizer of a base as `text_to_video` has it."""

import json
from dataclasses import asdict
from pathlib import Path

from record_fakes import base_record
from text_to_video.base import read_base
from text_to_video.tokens import PromptTokenizer
from unsee.export.text_to_video.assets import prompt_record, tokenizer_json
from unsee.models.base import Base


def served_tokenizer(base: Base, folder: Path) -> PromptTokenizer:
    """The base's tokenizer as `text_to_video` has it; its files are written into `folder`."""
    (folder / "tokenizer.json").write_text(tokenizer_json(base.tokenizer()))
    frame = base.prompt_frame()
    prompt, limits = asdict(prompt_record(frame)), {"prompt_tokens": frame.length}
    (folder / "base.json").write_text(json.dumps(base_record(prompt=prompt, limits=limits)))
    return PromptTokenizer(folder / "tokenizer.json", read_base(folder / "base.json"))
