"""The files that say what our bases are asked are what their commands write."""

from __future__ import annotations

from pathlib import Path

import pytest

from unsee.playground.quality import evaluation_file
from unsee.playground.quality.prompts_file import PROMPTS_FILE, SPOKEN, write
from unsee.playground.training.wan import stages


@pytest.mark.parametrize("folder", SPOKEN, ids=lambda folder: folder.name)
def test_the_prompts_are_what_the_command_writes(folder: Path, tmp_path: Path) -> None:
    write(tmp_path / PROMPTS_FILE, SPOKEN[folder])
    assert (tmp_path / PROMPTS_FILE).read_bytes() == (folder / PROMPTS_FILE).read_bytes()


def test_the_second_evaluation_set_is_what_the_command_writes(tmp_path: Path) -> None:
    file = tmp_path / "evaluation.yaml"
    evaluation_file.write(file)
    assert file.read_bytes() == (stages.BASE_DIR / "evaluation.yaml").read_bytes()
