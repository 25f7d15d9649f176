"""Amounts in words: the unit fits, and two that are compared never look the same."""

import re
import shutil
from types import SimpleNamespace

import pytest

from unsee.core.errors import RepositoryError
from unsee.core.files import check_space
from unsee.core.sizes import both_in_words, in_words


@pytest.mark.parametrize(
    ("num_bytes", "words"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (999, "999 bytes"),
        (49_152, "49.2 KB"),
        (999_999, "1.00 MB"),
        (25_165_824, "25.2 MB"),
        (18_700_000_000, "18.7 GB"),
        (999_900_000_000, "1.00 TB"),
        (5e15, "5,000 TB"),
    ],
)
def test_the_unit_fits(num_bytes, words):
    assert in_words(num_bytes) == words


def test_two_that_differ_look_different():
    assert both_in_words(49_152, 24_448) == ("49.2 KB", "24.4 KB")
    assert both_in_words(1_000_000_001, 1_000_000_000) == (
        "1,000,000,001 bytes",
        "1,000,000,000 bytes",
    )


def test_a_small_want_on_a_full_disk_is_said_in_its_own_unit(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=24_448))
    with pytest.raises(RepositoryError, match=re.escape("needs 49.2 KB in")) as raised:
        check_space(tmp_path, 49_152, "a revision")
    assert "where 24.4 KB are free" in str(raised.value)
