"""The open graphs of a repository: opened once, opened again when replaced, closed for others."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

import prompt_encoder.graphs
from prompt_encoder.graphs import PolicyGraphs
from prompt_encoder.refusal import Refusal
from serving_fakes import HIDDEN_SIZE, PROMPT_TOKENS, write_fake_repository, write_fake_revision
from unsee.repository.layout import RETIRED, revision_dir
from unsee.repository.revisions import golden, put_away

MUCH = 2**30


@pytest.fixture
def repository(tmp_path):
    return write_fake_repository(tmp_path / "repository")


@pytest.fixture
def opened():
    """The folders that were opened, in order."""
    return []


def counting(opened):
    def open_graph(folder):
        opened.append((folder.parent.name, folder.name))
        return object()

    return open_graph


def test_a_graph_gives_what_its_revision_recorded(repository):
    recorded = golden(revision_dir(repository, "family", 2))
    states = np.random.default_rng(0).standard_normal((2, PROMPT_TOKENS, HIDDEN_SIZE), np.float32)
    mask = recorded["attention_mask"]
    graphs = PolicyGraphs(repository, MUCH)
    graph = graphs.graph("family", 2)
    assert graph.kind == "edit"
    assert graph.run(states, mask).shape == states.shape
    folder = write_fake_revision(repository, "tuned", 1, kind="encoder")
    tuned = graphs.graph("tuned", 1)
    assert tuned.kind == "encoder"
    recorded = golden(folder)
    np.testing.assert_allclose(
        tuned.run(recorded["input_ids"], mask), recorded["prompt_embeds"], atol=1e-5
    )


def test_a_graph_is_opened_once_and_again_when_its_file_was_replaced(repository, opened):
    graphs = PolicyGraphs(repository, MUCH, counting(opened))
    first = graphs.graph("family", 1)
    assert graphs.graph("family", 1) is first
    assert len(opened) == 1
    file = revision_dir(repository, "family", 1) / "model.onnx"
    shutil.copy(file, file.with_name("copy"))
    file.with_name("copy").replace(file)
    assert graphs.graph("family", 1) is not first
    assert len(opened) == 2
    assert graphs.count == 1


def test_what_opening_took_is_given_back_once_a_graph(repository, opened, monkeypatch):
    trimmed = []
    monkeypatch.setattr(prompt_encoder.graphs, "_LIBC", SimpleNamespace(malloc_trim=trimmed.append))
    graphs = PolicyGraphs(repository, MUCH, counting(opened))
    for revision in (1, 2, 1, 2):
        graphs.graph("family", revision)
    assert len(trimmed) == len(opened) == 2


def test_what_was_used_least_recently_is_closed_for_others(repository, opened):
    for policy in ("a", "b", "c"):
        write_fake_revision(repository, policy, 1)
    size = (revision_dir(repository, "a", 1) / "model.onnx").stat().st_size
    graphs = PolicyGraphs(repository, 2 * size, counting(opened))
    for policy in ("a", "b", "a", "c", "a", "b"):
        graphs.graph(policy, 1)
    assert [model for model, _ in opened] == ["policy_a", "policy_b", "policy_c", "policy_b"]
    assert graphs.count == 2
    crowded = PolicyGraphs(repository, 1, counting(opened))
    crowded.graph("a", 1)
    crowded.graph("b", 1)
    assert crowded.count == 1, "the last one used stays"


def test_a_retired_revision_is_still_there_for_who_chose_it_before(repository, opened):
    graphs = PolicyGraphs(repository, MUCH, counting(opened))
    held = graphs.graph("family", 1)
    for revision in (1, 2):
        put_away(revision_dir(repository, "family", revision), RETIRED)
    assert graphs.graph("family", 1) is held
    graphs.graph("family", 2)
    assert opened == [("policy_family", "1"), ("policy_family", "2")]


def test_what_is_retired_is_closed_when_the_next_one_is_opened(repository, opened):
    graphs = PolicyGraphs(repository, MUCH, counting(opened))
    graphs.graph("family", 1)
    for revision in range(10, 30):
        write_fake_revision(repository, "family", revision)
        graphs.graph("family", revision)
        put_away(revision_dir(repository, "family", revision), RETIRED)
    assert graphs.count == 2, "the one in service and the last one opened"
    graphs.graph("family", 10)
    assert opened.count(("policy_family", "10")) == 2, "who chose it before still gets it"


def test_one_that_is_retired_while_it_is_being_opened_is_opened_where_it_is(repository, opened):
    def moved_away(folder):
        opened.append(folder)
        if len(opened) == 1:
            put_away(folder, RETIRED)
            raise FileNotFoundError(folder)
        return object()

    PolicyGraphs(repository, MUCH, moved_away).graph("family", 1)
    assert [folder.parent.parent.name for folder in opened] == ["repository", RETIRED]


@pytest.mark.parametrize("name", ["model.onnx", "revision.json"])
@pytest.mark.parametrize("content", [b"rubbish", b"{}", b""])
def test_a_damaged_file_fails_its_own_requests_until_it_is_replaced(repository, name, content):
    graphs = PolicyGraphs(repository, MUCH)
    file = revision_dir(repository, "family", 1) / name
    whole = file.read_bytes()
    file.write_bytes(content)
    for _ in range(2):
        with pytest.raises(Refusal) as caught:
            graphs.graph("family", 1)
        assert caught.value.status == "UNAVAILABLE"
        assert str(caught.value) == (
            "revision 1 of the policy family cannot be opened; publish the policy again"
        )
    assert graphs.graph("family", 2).kind == "edit"
    file.write_bytes(whole)
    assert graphs.graph("family", 1).kind == "edit"


def test_a_graph_of_another_kind_than_its_record_is_not_opened(repository):
    file = write_fake_revision(repository, "tuned", 1, kind="encoder") / "revision.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"kind": "edit"}))
    with pytest.raises(Refusal, match="cannot be opened") as caught:
        PolicyGraphs(repository, MUCH).graph("tuned", 1)
    assert "takes ('input_ids', 'attention_mask')" in str(caught.value.__cause__)


def test_a_graph_that_its_record_does_not_name_is_not_opened(repository):
    folders = [revision_dir(repository, "family", revision) for revision in (1, 2)]
    graphs = PolicyGraphs(repository, MUCH)
    graphs.graph("family", 2)
    shutil.copy(folders[0] / "model.onnx", folders[1])
    with pytest.raises(Refusal, match="cannot be opened") as caught:
        graphs.graph("family", 2)
    assert "it was changed or damaged" in str(caught.value.__cause__)
    assert graphs.graph("family", 1).kind == "edit"
    (folders[0] / "model.onnx.data").write_bytes(b"weights of another")
    with pytest.raises(Refusal, match="cannot be opened"):
        PolicyGraphs(repository, MUCH).graph("family", 1)


@pytest.mark.parametrize(("policy", "revision"), [("studio", 1), ("family", 9)])
def test_what_is_not_there_is_not_found(repository, policy, revision):
    with pytest.raises(Refusal, match=f"the policy {policy} has no revision {revision} here") as no:
        PolicyGraphs(repository, MUCH).graph(policy, revision)
    assert no.value.status == "NOT_FOUND"
