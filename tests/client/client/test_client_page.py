"""docs/guide/client.md: its Python runs, and its test passes."""

import re
from pathlib import Path

import pytest

from unsee.client import client as client_module
from unsee.client.client import ClientBase
from unsee.client.options import Options
from unsee.client.testing import FakeServer

PAGE = Path(__file__).parents[3] / "docs" / "guide" / "client.md"
SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def everything_is_fake(monkeypatch):
    """Whatever address a snippet names, a server in memory answers."""
    server = FakeServer()
    plain = ClientBase.__init__

    def connected_to_it(self, *args, **options):
        plain(self, *args, **{"transport": server} | options)

    monkeypatch.setattr(ClientBase, "__init__", connected_to_it)
    return server


@pytest.mark.process
def test_the_snippets_run_one_after_the_other(everything_is_fake, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"prompts": ["a cat", {"prompt": "a dog", "seed": 7}]}
    for snippet in SNIPPETS:
        if "signer" not in snippet:  # it needs a certificate: test_provenance.py
            exec(compile(snippet, PAGE.name, "exec"), names)
    names["test_a_full_server_is_asked_again"]()
    saved = sorted(path.name for path in tmp_path.iterdir())
    assert saved == ["0.mp4", "1.mp4", "cat.mp4", "river.mp4"]
    assert len(everything_is_fake.requests) == 7


def test_every_option_of_waiting_is_on_the_page():
    text = PAGE.read_text(encoding="utf-8")
    for name in ("timeout_s", "idle_timeout_s", "connect_timeout_s", "retries"):
        assert f"`{name}`" in text
    assert {"timeout_s", "idle_timeout_s", "retries"} <= set(Options.__annotations__)
    assert client_module.DEFAULT_URL in text
