"""The page of reliability: a row per record's figure, made of the records that are there."""

import importlib
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
FAULTS = {
    "clients": 4,
    "deadline_s": 30.0,
    "faults": [
        {"fault": "video_unet", "healthy_after_s": 1.94, "clips": 9, "refused": 3}
        | {"failed_after_a_step": 2, "slowest_error_s": 1.2, "hung": 0},
        {"fault": "SIGTERM", "exited_after_s": 4.06, "clips": 5, "refused": 8}
        | {"failed_after_a_step": 0, "slowest_error_s": 0.1, "hung": 1},
    ],
    "left_in_shared_memory": ["/dev/shm/left"],
}
MALFORMED = {
    "outcomes": {"grpc INVALID_ARGUMENT": 70, "http 400": 30},
    "bad_answers": ["http 500: Traceback"],
    "slowest_s": 0.012,
    "seconds": 9.0,
    "rss_before_mib": 80.0,
    "rss_after_mib": 81.5,
}


@pytest.fixture
def pages(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("reliability_page")


def test_every_record_that_is_there_has_its_part(pages, tmp_path):
    pages.write_page("faults", FAULTS, tmp_path)
    alone = (tmp_path / "reliability.md").read_text()
    assert "| video_unet | 1.9 s | 9 | 3 | 2 | 1.2 s | 0 |" in alone
    assert "| SIGTERM | exit after 4.1 s | 5 | 8 | 0 | 0.1 s | 1 |" in alone
    assert "Left in shared memory at the end: 1." in alone
    pages.write_page("malformed", MALFORMED, tmp_path)
    both = (tmp_path / "reliability.md").read_text()
    assert both.startswith(alone.rstrip())
    assert "| http 400 | 30 |" in both
    assert "Bad answers: 1. The gateway's memory went from 80.0 to 81.5 MiB" in both


def test_a_record_of_another_name_is_refused(pages, tmp_path):
    with pytest.raises(KeyError):
        pages.write_page("load", {}, tmp_path)
    assert not list(tmp_path.iterdir())
