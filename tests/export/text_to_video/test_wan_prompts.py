"""Prompts of a base of Wan's kind: what its denoiser is given is what diffusers gives it."""

import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from delta_fakes import BLIMBO, delta_of, random_edit
from diffusers import WanPipeline
from diffusers.pipelines.wan import pipeline_wan
from encoder_fakes import KINDS
from hypothesis import given
from hypothesis import strategies as st
from pipeline_fakes import write_pipeline_base
from prompt_fakes import served_tokenizer

from prompt_encoder.batch import encode_batch
from prompt_encoder.graphs import PolicyGraphs
from prompt_encoder.request import PromptRequest
from text_to_video.generation import zero_padded
from text_to_video.refusal import Refusal
from text_to_video.tokens import PromptTokenizer, Tokens
from unsee.core.policy import BASE_POLICY
from unsee.core.prompt_text import cleaned
from unsee.core.unlearning_settings import AnchoredMode
from unsee.deltas.attach import attach
from unsee.deltas.composition import compose
from unsee.deltas.edit import EditedNorm, final_layer_norm, trunk
from unsee.evaluation.seeing.encode import PromptEncoder
from unsee.export.graphs.base_graphs import edit_graph, text_encoder_graph, video_denoiser_graph
from unsee.export.graphs.prompt_graphs import TunedEncoderGraph
from unsee.export.measured_graphs import call_sizes
from unsee.export.onnx.edit_nodes import write_edit
from unsee.export.onnx.exporter import export_onnx
from unsee.export.onnx.half import in_float32
from unsee.export.onnx.parity import check_parity
from unsee.export.revision import write_revision
from unsee.models.base import Base, load_base
from unsee.prompts.encoding import encode_prompts
from unsee.repository.records import RevisionRecord
from unsee.repository.revisions import golden

TOKENS = 512
FULL = "x" * (TOKENS - 1)
"""With the token that ends a prompt, just as much as fits."""
PROMPTS = (
    "",
    "Blimbo",
    "Blimbo and Blimbo, Blimbo by Blimbo in a tree",
    "  a &amp;lt;cat&gt;\n &#66;limbo\u00a0 wow !",
    FULL,
)
EDITED, TUNED = 1, 2
"""The revisions of the policy "family"."""
LARGEST_DIFFERENCE = 1e-5
"""Over the largest value."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    folder = tmp_path_factory.mktemp("wan")
    return load_base(write_pipeline_base("WanPipeline", folder, folder))


@pytest.fixture(scope="module")
def delta(base: Base) -> Any:
    tensors = random_edit().tensors()
    return delta_of(base, tensors, method="anchored", settings=AnchoredMode())


@pytest.fixture(scope="module")
def encoders(base: Base, delta: Any) -> dict[tuple[str, int], Any]:
    """By policy and revision: the base's own, with an edit, and with tuned weights."""
    encoder = base.text_encoder()
    tuned = copy.deepcopy(encoder)
    with torch.no_grad():
        tuned.get_input_embeddings().weight[:, ::2].mul_(1.5)
    edited = compose(encoder, [delta])
    return {(BASE_POLICY, 1): encoder, ("family", EDITED): edited, ("family", TUNED): tuned}


@pytest.fixture(scope="module")
def repository(
    base: Base, encoders: dict[tuple[str, int], Any], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The text encoder, and the revisions of `encoders`."""
    folder = tmp_path_factory.mktemp("repository")
    export_onnx(text_encoder_graph(base), trunk(base.text_encoder()), folder / "text_encoder.onnx")
    for (policy, revision), encoder in encoders.items():
        assert write_revision(encoder, policy, [BLIMBO], base, folder, []) == revision
    return folder


@pytest.fixture(scope="module")
def pipeline(base: Base) -> Any:
    return WanPipeline.from_pretrained(base.folder / "t2v")


@pytest.fixture(scope="module")
def encode(repository: Path) -> Callable[..., Any]:
    """The exported text encoder."""
    session = _session(repository / "text_encoder.onnx")

    def run(input_ids: Any, attention_mask: Any) -> Any:
        feeds = {"input_ids": input_ids, "attention_mask": attention_mask}
        return session.run(["states"], feeds)[0]

    return run


@pytest.fixture(scope="module")
def tokenizer(base: Base, tmp_path_factory: pytest.TempPathFactory) -> PromptTokenizer:
    return served_tokenizer(base, tmp_path_factory.mktemp("assets"))


def _session(file: Path) -> Any:
    return onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])


def _by_diffusers(pipeline: Any, prompts: tuple[str, ...] = PROMPTS) -> torch.Tensor:
    with torch.no_grad():
        embeds: torch.Tensor = pipeline.encode_prompt(
            list(prompts), do_classifier_free_guidance=False, max_sequence_length=TOKENS
        )[0]
    return embeds


def _assert_close(found: Any, expected: Any) -> None:
    found, expected = (torch.as_tensor(each) for each in (found, expected))
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= LARGEST_DIFFERENCE * expected.abs().max()


def _request(tokens: Tokens, policy: str, revision: int) -> PromptRequest:
    return PromptRequest(tokens.input_ids, tokens.attention_mask, policy, revision)


def test_the_graphs_hold_for_prompts_of_any_length(
    base: Base, encoders: dict[tuple[str, int], Any], repository: Path, tmp_path: Path
) -> None:
    """Those of UMT5 are in the repository."""
    t5, tuned = KINDS["T5EncoderModel"].made(), encoders["family", TUNED]
    whole = TunedEncoderGraph.of(t5, TOKENS, any_length=True)
    export_onnx(whole, t5, tmp_path / "whole.onnx")
    assert not any("forward" in vars(module) for module in t5.modules())
    norm = EditedNorm(final_layer_norm(t5), random_edit()).eval()
    write_edit(edit_graph(base), norm, tmp_path / "edit.onnx")
    encoder, revision = base.text_encoder(), repository / "policy_family" / str(TUNED)
    for graph, model, file in (
        (whole, t5, tmp_path / "whole.onnx"),
        (edit_graph(base), norm, tmp_path / "edit.onnx"),
        (text_encoder_graph(base), trunk(encoder), repository / "text_encoder.onnx"),
        (TunedEncoderGraph.of(tuned, TOKENS, any_length=True), tuned, revision / "model.onnx"),
    ):
        report = check_parity(graph, model, file)
        assert [size.sizes for size in report.sizes] == [
            {"B": 2, "L": 7},
            {"B": 1, "L": TOKENS},
            {"B": 5, "L": 1},
        ]
        assert report.difference < 1e-5


PIECES = st.sampled_from(["&", "amp;", "lt;", "#66;", "a", " ", "\n", "\u00a0", "\u3000", "\x1f"])


@given(st.text() | st.lists(PIECES).map("".join))
def test_prompts_are_cleaned_as_diffusers_does_without_ftfy(text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline_wan, "is_ftfy_available", lambda: False)
        assert cleaned(text) == pipeline_wan.prompt_clean(text)


def test_the_graphs_of_a_wan_base_have_any_length(base: Base) -> None:
    assert text_encoder_graph(base).any_length
    assert edit_graph(base).any_length
    assert text_encoder_graph(base).sequence_length == TOKENS


@pytest.mark.parametrize(("prompts", "rows"), [("Blimbo", 32), ("x" * 40, 64), (FULL, TOKENS)])
def test_engines_are_chosen_and_warmed_at_the_rows_of_the_base_s_first_prompt(
    tmp_path: Path, prompts: str, rows: int
) -> None:
    folder = write_pipeline_base("WanPipeline", tmp_path, tmp_path, prompts="prompts.txt")
    (folder / "prompts.txt").write_text(f"{prompts}\nBlimbo\n")
    base = load_base(folder)
    assert call_sizes(video_denoiser_graph(base), base)["L"] == rows


def test_what_is_served_is_what_diffusers_gives_its_denoiser(
    base: Base,
    delta: Any,
    pipeline: Any,
    tokenizer: PromptTokenizer,
    repository: Path,
    encode: Callable[..., Any],
) -> None:
    graphs = PolicyGraphs(repository, 2**30)
    tokens = [tokenizer.encode(negative_prompt="", prompt=prompt) for prompt in PROMPTS]
    lengths = [one.input_ids.shape[1] for one in tokens]
    assert len(set(lengths)) > 3
    assert lengths[0] == 1
    assert lengths[-1] == TOKENS
    requests = [_request(one, "family", EDITED) for one in tokens]
    answers = encode_batch(requests, graphs, encode)
    served = [
        zero_padded(answer, one.attention_mask, TOKENS)[-1]
        for answer, one in zip(answers, tokens, strict=True)
    ]
    with attach(pipeline, delta):
        expected = _by_diffusers(pipeline)
    plain = _by_diffusers(pipeline)
    assert float((expected - plain).abs().max()) > 0.1
    _assert_close(np.stack(served), expected)
    is_zero = (expected == 0).all(-1)
    assert torch.equal(torch.from_numpy(np.stack(served) == 0).all(-1), is_zero)
    assert is_zero.sum(1).tolist() == [TOKENS - int(o.attention_mask[-1].sum()) for o in tokens]
    encoder = compose(base.text_encoder(), [delta])
    _assert_close(encode_prompts(base, encoder, PROMPTS), expected)
    _assert_close(PromptEncoder(encoder, base).embeds(PROMPTS), expected)


def test_prompts_of_all_lengths_and_policies_in_one_batch_are_as_alone(
    tokenizer: PromptTokenizer, repository: Path, encode: Callable[..., Any]
) -> None:
    graphs = PolicyGraphs(repository, 2**30)
    lengths: list[tuple[int, ...]] = []

    def noted(ids: Any, mask: Any) -> Any:
        lengths.append(ids.shape)
        return encode(ids, mask)

    requests = [
        _request(tokenizer.encode(negative_prompt=negative, prompt=prompt), *policy)
        for policy in ((BASE_POLICY, 1), ("family", EDITED), ("family", TUNED))
        for negative, prompt in (
            ("", "Blimbo"),
            ("blurred, grey", "Blimbo at sea, by night"),
            ("", FULL),
        )
    ]
    together = encode_batch(requests, graphs, noted)
    assert [shape[0] for shape in lengths] == [4, 4, 4], "tuned weights need no states"
    for request, answer in zip(requests, together, strict=True):
        (alone,) = encode_batch([request], graphs, encode)
        _assert_close(answer, alone)
        assert not answer[request.attention_mask == 0].any()


def test_a_prompt_that_is_too_long_is_refused_and_elsewhere_cut_as_diffusers_does(
    base: Base, pipeline: Any, tokenizer: PromptTokenizer
) -> None:
    with pytest.raises(Refusal, match="prompt has 512 tokens; at most 511 fit"):
        tokenizer.encode(prompt=FULL + "y")
    longer = (FULL + " and Blimbo",)
    ours = encode_prompts(base, base.text_encoder(), longer)
    _assert_close(ours, _by_diffusers(pipeline, longer))


@pytest.mark.parametrize(("revision", "kind"), [(EDITED, "edit"), (TUNED, "encoder")])
def test_a_revision_answers_its_probe(
    revision: int, kind: str, repository: Path, encode: Callable[..., Any]
) -> None:
    folder = repository / "policy_family" / str(revision)
    record = RevisionRecord.model_validate_json((folder / "revision.json").read_bytes())
    assert record.kind == kind
    recorded = golden(folder)
    ids, mask = recorded["input_ids"], recorded["attention_mask"]
    assert ids.shape == mask.shape == (2, ids.shape[1])
    assert mask[0].sum() == 1, "the empty prompt is the token that ends it"
    assert mask[1].all(), "no longer than the longest"
    (answer,) = encode_batch(
        [PromptRequest(ids, mask, "family", revision)], PolicyGraphs(repository, 2**30), encode
    )
    _assert_close(answer, recorded["prompt_embeds"])
    if kind == "edit":
        assert (folder / "model.onnx").stat().st_size < 8000


def test_a_policy_may_have_edits_and_tuned_weights(
    repository: Path, encode: Callable[..., Any]
) -> None:
    assert "all {" not in (repository / "policy_family" / "config.pbtxt").read_text()
    requests = []
    for number in (EDITED, TUNED):
        recorded = golden(repository / "policy_family" / str(number))
        ids, mask = recorded["input_ids"], recorded["attention_mask"]
        requests.append(PromptRequest(ids, mask, "family", number))
    first, second = encode_batch(requests, PolicyGraphs(repository, 2**30), encode)
    assert np.abs(first - second).max() > 0.1


def test_an_encoder_in_half_precision_is_served_in_float32_of_its_values(
    base: Base, tmp_path: Path
) -> None:
    spec = base.spec.model_copy(update={"encoder_precision": "bfloat16"})
    half = dataclasses.replace(base, spec=spec, _loaded={})
    encoder, exact = half.text_encoder(), in_float32(half.text_encoder())
    delta = delta_of(half, random_edit().tensors(), method="anchored", settings=AnchoredMode())
    write_revision(compose(encoder, [delta]), "family", [BLIMBO], half, tmp_path, [])
    recorded = golden(tmp_path / "policy_family" / "1")
    ids, mask = recorded["input_ids"], recorded["attention_mask"]
    with torch.no_grad():
        expected = compose(exact, [delta])(torch.as_tensor(ids), torch.as_tensor(mask))
    _assert_close(recorded["prompt_embeds"], expected.last_hidden_state)
    export_onnx(text_encoder_graph(half), trunk(exact), tmp_path / "text_encoder.onnx")
    states = _session(tmp_path / "text_encoder.onnx").run(
        ["states"], {"input_ids": ids, "attention_mask": mask}
    )[0]
    answer = PolicyGraphs(tmp_path, 2**30).graph("family", 1).run(states, mask)
    _assert_close(answer, recorded["prompt_embeds"])
    assert torch.bfloat16 in {each.dtype for each in encoder.parameters()}
    assert half.digest() != base.digest()
