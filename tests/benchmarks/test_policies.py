"""The benchmark of policies: what its record keeps."""

import json
from pathlib import Path

import pytest

from benchmarks.policies import memory
from engine_fakes import machine


def test_figures_of_other_encoders_are_kept_from_this_machine_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "this_machine", machine)
    facts = memory._facts()
    assert memory._kept(facts, tmp_path) == {}
    (tmp_path / "performance").mkdir()
    file = tmp_path / f"{memory.RECORD}.json"
    file.write_text(json.dumps(facts | {"encoders": {"clip-l": {"tokens": 77}}}))
    assert memory._kept(memory._facts(), tmp_path) == {"clip-l": {"tokens": 77}}
    assert memory._kept(facts | {"rank": 8}, tmp_path) == {}
