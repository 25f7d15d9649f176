"""The swap benchmark's own judgement: which revision a request may have, and what is a copy."""

import math

import pytest

from benchmarks.reliability import swap
from benchmarks.reliability.revisions import copy_revision
from publish_fakes import write_repository
from unsee.playground.training.program import exit_code_of
from unsee.repository.revisions import check_files


def test_a_folder_that_is_no_repository_is_one_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["swap", "--repository", str(tmp_path)])
    assert exit_code_of(swap.swap) == 2
    assert f"error: {tmp_path} is no model repository" in capsys.readouterr().err


def test_a_revision_is_wrong_if_it_was_not_active_while_the_request_began(tmp_path):
    service = swap.Service(tmp_path, "host:1", "family")
    service.activity = [(1, 0.0, 0.0), (2, 10.0, 10.5), (1, 20.0, 20.5)]
    assert service.was_active(1, 1.0, 2.0)
    assert service.was_active(2, 10.2, 10.3)
    assert service.was_active(1, 10.2, 10.3)
    assert not service.was_active(1, 10.6, 19.9)
    assert not service.was_active(2, 1.0, 9.9)
    assert not service.was_active(2, 20.6, 30.0)
    assert service.was_active(1, 25.0, 26.0)


def test_failed_and_wrong_requests_are_counted(tmp_path):
    service = swap.Service(tmp_path, "host:1", "family")
    service.activity = [(1, 0.0, 0.0), (2, 10.0, 10.5)]
    requests = [
        swap.Request(1.0, 1.1, 2.0, 1),
        swap.Request(11.0, 11.1, 12.0, 2),
        swap.Request(11.0, 11.1, 13.0, 1),
        swap.Request(1.0, 2.0, 2.0, None),
    ]
    windows = [(True, 10.0, 20.0), (False, 0.0, 10.0)]
    figures = swap._swap_figures(service, requests, windows, [0.01])
    assert (figures["failed_requests"], figures["wrong_revision_requests"]) == (1, 1)
    assert figures["latency_p99_ratio"] == pytest.approx(2, abs=0.02)


def test_a_copied_revision_is_a_whole_one(tmp_path):
    repository = write_repository(tmp_path / "repository", family=2)
    assert copy_revision(repository, "family", 2) == 3
    check_files(repository, "family", 3)


def test_growth_is_the_slope_over_the_cycles():
    assert swap._slope([[n, 100.0 + 2 * n, 50.0, 3] for n in range(10)]) == pytest.approx(2)
    assert math.isclose(swap._slope([[1, 5.0, 5.0, 2]]), 0)
