"""Requests and prompts: defaults filled in, every bad value refused in one sentence."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from tokenizers import Tokenizer

from record_fakes import base_record
from text_to_video.acceleration import PACES
from text_to_video.base import read_base
from text_to_video.refusal import Refusal
from text_to_video.request import parse_request
from text_to_video.tokens import PromptTokenizer

LENGTH = 48


@pytest.fixture(scope="module")
def assets(fake_repository):
    return fake_repository / "text_to_video" / "assets"


@pytest.fixture(scope="module")
def base(assets):
    return read_base(assets / "base.json")


def tensors(**values):
    dtypes = {"guidance_scale": np.float32, "seed": np.int64, "revision": np.int64}
    return {
        name: np.array([value], np.object_ if isinstance(value, bytes) else dtypes.get(name, "i4"))
        for name, value in values.items()
    }


@pytest.fixture
def in_fours(base):
    """A base whose latent frames stand for four frames each."""
    limits = dataclasses.replace(base.limits, num_frames=(1, 82))
    latents = dataclasses.replace(base.latents, frames_per_latent=4)
    return dataclasses.replace(base, limits=limits, latents=latents)


def test_what_is_absent_gets_the_default(base):
    request = parse_request(tensors(prompt="ein Bär".encode()), base)
    assert request.prompt == "ein Bär"
    assert request.negative_prompt == ""
    assert (request.policy, request.revision) == (None, None)
    assert (request.num_frames, request.height, request.width) == (2, 16, 16)
    assert (request.scheduler, request.num_inference_steps) == ("DDIMScheduler", 4)
    assert request.guidance_scale == 3.5
    assert request.acceleration == "none"
    assert request.stream_frames is False
    assert 0 <= request.seed < 2**32


def test_what_is_given_is_taken_exactly(base):
    given = {"num_frames": 3, "height": 32, "width": 24, "num_inference_steps": 2}
    request = parse_request(tensors(prompt=b"x", seed=2**62, guidance_scale=7.1, **given), base)
    assert (request.seed, request.guidance_scale) == (2**62, 7.1)
    assert {name: getattr(request, name) for name in given} == given


@pytest.mark.parametrize("wanted", [True, False])
def test_frames_are_streamed_as_asked(base, wanted):
    given = tensors(prompt=b"x") | {"stream_frames": np.array([wanted])}
    assert parse_request(given, base).stream_frames is wanted


def test_every_acceleration_can_be_asked_for(base):
    for name in PACES:
        request = parse_request(tensors(prompt=b"x", acceleration=name.encode()), base)
        assert request.acceleration == name


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({}, "prompt is missing"),
        ({"prompt": b""}, "prompt is empty"),
        ({"prompt": b" \n"}, "prompt is empty"),
        ({"prompt": b"\xff"}, "prompt is not text in UTF-8"),
        ({"prompt": b"x", "seed": -1}, "seed must be 0 or more, not -1"),
        ({"prompt": b"x", "height": 20}, "height must be a multiple of 8, not 20"),
        ({"prompt": b"x", "width": 40}, "width must be between 16 and 32, not 40"),
        ({"prompt": b"x", "num_frames": 0}, "num_frames must be between 1 and 6, not 0"),
        ({"prompt": b"x", "guidance_scale": np.nan}, "guidance_scale must be .*, not nan"),
        ({"prompt": b"x", "num_inference_steps": 13}, "num_inference_steps must be .*, not 13"),
        ({"prompt": b"x", "acceleration": b"fasst"}, "no acceleration 'fasst'; .* none, bal"),
        ({"prompt": b"x", "scheduler": b"A\n"}, r"no scheduler 'A\\n'; this server has DDIM"),
    ],
)
def test_a_bad_value_is_refused_in_one_sentence(base, values, sentence):
    with pytest.raises(Refusal, match=sentence) as caught:
        parse_request(tensors(**values), base)
    assert caught.value.status == "INVALID_ARGUMENT"
    assert "\n" not in str(caught.value)


def tokenizer_of(folder, **prompt):
    """The tokenizer of a base whose section `prompt` has these fields."""
    content = base_record(prompt=prompt, limits={"prompt_tokens": LENGTH})
    (folder / "base.json").write_text(json.dumps(content))
    return PromptTokenizer(folder / "tokenizer.json", read_base(folder / "base.json"))


@pytest.fixture
def folder(assets, tmp_path):
    shutil.copy(assets / "tokenizer.json", tmp_path)
    return tmp_path


def test_prompts_are_padded_to_the_encoders_length(folder):
    tokens = tokenizer_of(folder, masks_padding=True).encode(negative_prompt="", prompt="ab")
    ids, mask = tokens.input_ids, tokens.attention_mask
    assert ids.shape == mask.shape == (2, LENGTH)
    assert ids.dtype == mask.dtype == np.int64
    assert ids[0].tolist() == [256] + [257] * (LENGTH - 1)
    assert ids[1, 3:].tolist() == [257] * (LENGTH - 3)
    assert mask.sum(1).tolist() == [2, 4], "start, text and end"
    assert mask[1, :4].tolist() == [1] * 4
    last = tokens.last()
    assert last.input_ids.tolist() == ids[1:].tolist()
    assert last.attention_mask.tolist() == mask[1:].tolist()


def test_without_a_mask_of_the_padding_every_position_is_seen(folder):
    tokens = tokenizer_of(folder, masks_padding=False).encode(prompt="ab")
    assert tokens.attention_mask.tolist() == [[1] * LENGTH]


def test_where_nobody_reads_the_padding_the_longest_prompt_has_none(folder):
    tokenizer = tokenizer_of(folder, masks_padding=True, padding="zeros")
    tokens = tokenizer.encode(negative_prompt="abcde", prompt="ab")
    assert tokens.input_ids.shape == (2, 7)
    assert tokens.attention_mask.tolist() == [[1] * 7, [1] * 4 + [0] * 3]
    full = tokenizer.encode(prompt="x" * (LENGTH - 2))
    assert full.input_ids.shape == (1, LENGTH)
    with pytest.raises(Refusal, match="prompt has 47 tokens; at most 46 fit"):
        tokenizer.encode(prompt="x" * (LENGTH - 1))


@pytest.mark.parametrize(("cleans", "read"), [(True, "a & b"), (False, " a  &amp;amp;\tb\n")])
def test_a_prompt_is_cleaned_where_the_pipeline_does_so(folder, cleans, read):
    row = tokenizer_of(folder, cleans=cleans).encode(prompt=" a  &amp;amp;\tb\n").input_ids[0]
    assert row.tolist() == tokenizer_of(folder).encode(prompt=read).input_ids[0].tolist()


@pytest.mark.parametrize("pad_id", [0, None])
def test_the_padding_token_is_the_files_own(folder, pad_id):
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    if pad_id is not None:
        tokenizer.enable_padding(pad_id=pad_id, length=5)
    tokenizer.enable_truncation(4)
    tokenizer.save(str(folder / "tokenizer.json"))
    (row,) = tokenizer_of(folder).encode(prompt="abcd").input_ids
    assert row[6:].tolist() == [257 if pad_id is None else pad_id] * (LENGTH - 6)
    assert row[5] == 257, "nothing is truncated"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("x" * 47, "prompt has 47 tokens; at most 46 fit"), ("x" * 9999, "has 9999 characters")],
)
def test_a_prompt_that_does_not_fit_is_refused_with_counts(folder, text, sentence):
    with pytest.raises(Refusal, match=sentence):
        tokenizer_of(folder).encode(prompt=text)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda text: text.replace('"schema_version": 3', '"schema_version": 9'), "not 3"),
        (lambda text: text.replace('"digest"', '"digests"'), "lacks the field 'digest'"),
        (lambda text: text.replace('"fps"', '"hz"'), "defaults (lacks|has a field)"),
    ],
)
def test_a_base_record_that_does_not_fit_is_named(assets, tmp_path, change, sentence):
    file = tmp_path / "base.json"
    file.write_text(change((assets / "base.json").read_text()))
    with pytest.raises(ValueError, match=sentence):
        read_base(file)


@pytest.mark.parametrize("num_frames", [1, 5, 17, 81])
def test_frames_that_fill_latent_frames_are_taken(in_fours, num_frames):
    request = parse_request(tensors(prompt=b"x", num_frames=num_frames), in_fours)
    assert request.num_frames == num_frames


@pytest.mark.parametrize(
    ("num_frames", "nearest"),
    [(16, "are 13 and 17"), (2, "are 1 and 5"), (82, "are 77 and 81"), (15, "are 13 and 17")],
)
def test_other_numbers_of_frames_are_refused_with_the_nearest(in_fours, num_frames, nearest):
    words = f"num_frames must be one more than a multiple of 4, not {num_frames}; the nearest "
    with pytest.raises(Refusal, match=words + nearest) as caught:
        parse_request(tensors(prompt=b"x", num_frames=num_frames), in_fours)
    assert caught.value.status == "INVALID_ARGUMENT"
