from pathlib import Path

from unsee.playground.quality.prompts_file import PROMPTS_FILE, write


def test_the_file_is_what_the_command_writes(tmp_path: Path) -> None:
    write(tmp_path / "prompts.txt")
    assert (tmp_path / "prompts.txt").read_bytes() == PROMPTS_FILE.read_bytes()
