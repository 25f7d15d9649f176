"""Requests of many policies in one batch: one call of the text encoder, each its own answer."""

import numpy as np
import pytest

from prompt_encoder.batch import encode_batch
from prompt_encoder.refusal import Refusal
from prompt_encoder.request import PromptRequest, parse_request

LENGTH = 5


class Times:
    """A graph that multiplies states; one of kind "encoder" makes them of ids itself."""

    def __init__(self, factor, kind="edit"):
        self.factor, self.kind = factor, kind

    def run(self, first, attention_mask):
        if self.factor is None:
            raise ValueError("the graph gives float64")
        states = first if self.kind == "edit" else encoded(first)
        return states * self.factor


class Graphs:
    """Graphs by policy."""

    def __init__(self, **graphs):
        self.graphs = graphs

    def graph(self, policy, revision):
        if policy not in self.graphs:
            raise Refusal("NOT_FOUND", f"the policy {policy} has no revision {revision} here")
        return self.graphs[policy]


def encoded(ids):
    return np.repeat(ids[..., None], 2, axis=2).astype(np.float32)


class Encoder:
    """A text encoder that notes its calls, and refuses those in which the id 13 is."""

    def __init__(self):
        self.rows, self.lengths = [], []

    def __call__(self, ids, mask):
        assert ids.shape == mask.shape
        assert not ids[mask == 0].any()
        self.rows.append(len(ids))
        self.lengths.append(ids.shape[1])
        if (ids == 13).any():
            raise Refusal("UNAVAILABLE", "the text encoder cannot be used at the moment")
        return encoded(ids)


def request(policy, first, rows=2, length=LENGTH):
    ids = np.full((rows, length), first)
    return PromptRequest(ids, np.ones_like(ids), policy, 1)


@pytest.fixture
def encoder():
    return Encoder()


@pytest.fixture
def graphs():
    return Graphs(a=Times(1), b=Times(10), tuned=Times(100, "encoder"), broken=Times(None))


def test_policies_share_one_call_of_the_text_encoder(encoder, graphs):
    batch = [request("a", 3, rows=1), request("tuned", 4), request("b", 5), request("a", 6)]
    answers = encode_batch(batch, graphs, encoder)
    assert encoder.rows == [5], "the tuned encoder needs none of it"
    assert [answer.shape for answer in answers] == [(n, LENGTH, 2) for n in (1, 2, 2, 2)]
    assert [answer[0, 0, 0] for answer in answers] == [3, 400, 50, 6]


def test_prompts_of_about_one_length_share_a_call_and_get_their_own_length_back(encoder, graphs):
    batch = [request("a", 3, length=12), request("tuned", 4, length=40), request("b", 5, length=7)]
    answers = encode_batch(batch, graphs, encoder)
    assert (encoder.rows, encoder.lengths) == ([4], [12])
    assert [answer.shape for answer in answers] == [(2, length, 2) for length in (12, 40, 7)]
    assert [answer.min() for answer in answers] == [answer.max() for answer in answers]
    assert [answer[0, 0, 0] for answer in answers] == [3, 400, 50]


def test_no_prompt_is_padded_to_twice_its_length(encoder, graphs):
    lengths = (3, 500, 6, 9, 260, 11, 250)
    batch = [request("a", first, length=length) for first, length in enumerate(lengths, start=1)]
    answers = encode_batch(batch, graphs, encoder)
    assert list(zip(encoder.lengths, encoder.rows, strict=True)) == [
        (500, 4),
        (250, 2),
        (11, 6),
        (3, 2),
    ]
    assert [answer.shape[1] for answer in answers] == list(lengths)
    assert [answer[0, 0, 0] for answer in answers] == [1, 2, 3, 4, 5, 6, 7]


def test_ids_that_are_refused_fail_alone_whatever_the_others_lengths(encoder, graphs):
    batch = [request("a", 3, length=8), request("b", 13, length=7)]
    first, bad = encode_batch(batch, graphs, encoder)
    assert encoder.lengths == [8, 8, 7], "alone, each has its own length"
    assert first[0, 0, 0] == 3
    assert bad.status == "UNAVAILABLE"


def test_what_cannot_be_answered_fails_alone(encoder, graphs):
    batch = [request("a", 3), request("studio", 4), request("broken", 5), request("b", 6)]
    first, missing, broken, last = encode_batch(batch, graphs, encoder)
    assert (first[0, 0, 0], last[0, 0, 0]) == (3, 60)
    assert missing.status == "NOT_FOUND"
    assert (broken.status, str(broken)) == ("INTERNAL", "the server failed; its log says why")


def test_ids_that_the_text_encoder_refuses_fail_alone(encoder, graphs):
    first, bad, last = encode_batch(
        [request("a", 3), request("b", 13), request("b", 6)], graphs, encoder
    )
    assert encoder.rows == [6, 2, 2, 2], "after the call for all failed, each has its own"
    assert (first[0, 0, 0], last[0, 0, 0]) == (3, 60)
    assert bad.status == "UNAVAILABLE"


def test_nothing_to_edit_needs_no_text_encoder(encoder, graphs):
    assert encode_batch([], graphs, encoder) == []
    (answer,) = encode_batch([request("tuned", 4)], graphs, encoder)
    assert answer[0, 0, 0] == 400
    assert encoder.rows == []


def tensors(**changes):
    ids = np.full((2, LENGTH), 7)
    given = {
        "input_ids": ids,
        "attention_mask": np.ones_like(ids),
        "policy": np.full((2, 1), b"family", np.object_),
        "revision": np.full((2, 1), 3),
    }
    return {name: value for name, value in (given | changes).items() if value is not None}


def test_a_whole_request_is_read():
    parsed = parse_request(tensors())
    assert (parsed.policy, parsed.revision) == ("family", 3)
    assert parsed.input_ids.tolist() == [[7] * LENGTH] * 2


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"policy": None}, "policy is missing"),
        ({"policy": np.array([[b""]], np.object_)}, "'' is no name of a policy"),
        ({"policy": np.array([[b"../base"]], np.object_)}, "'../base' is no name of a policy"),
        ({"policy": np.array([[b"\xff"]], np.object_)}, "policy is not text in UTF-8"),
        ({"policy": np.array([[b"a"], [b"b"]], np.object_)}, "must be the same in all rows"),
        ({"revision": np.array([[1], [2]])}, "must be the same in all rows"),
        ({"revision": np.array([[0]])}, "revision must be 1 or more, not 0"),
        ({"attention_mask": np.ones((2, 4), int)}, r"input_ids \[2, 5\] and attention_mask \[2, 4"),
        ({"attention_mask": np.full((2, LENGTH), 2)}, "attention_mask may hold 0 and 1 only"),
    ],
)
def test_a_bad_request_is_refused_in_one_sentence(changes, sentence):
    with pytest.raises(Refusal, match=sentence) as caught:
        parse_request(tensors(**changes))
    assert caught.value.status == "INVALID_ARGUMENT"
    assert "\n" not in str(caught.value)
