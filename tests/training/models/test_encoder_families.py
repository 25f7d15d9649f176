"""What every family of text encoders must do, at every pipeline's rules for prompts."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from delta_fakes import random_edit
from encoder_fakes import KINDS, LAYERS, LENGTH, WIDTH, Kind

from fakes import change_json
from unsee.core.errors import BaseFolderError
from unsee.deltas.edit import edited
from unsee.models.base import Base, load_base
from unsee.models.encoders.check import check_encoder, check_single
from unsee.models.encoders.clip import check_carries
from unsee.models.encoders.families import family_named, family_of, known_classes
from unsee.models.encoders.family import EncoderFamily
from unsee.models.encoders.frame import PromptFrame, PromptRules
from unsee.models.encoders.reading import prompt_mask, read_as_framed, read_positions
from unsee.models.pipelines.classes import PIPELINES
from unsee.prompts.encoding import SlottedPrompts, encode_ids, encode_vectors, token_table
from unsee.prompts.tokens import parted_ids
from unsee.unlearning.anchors import Naming, anchored, anchored_positions

RULES = {
    "all is read": PromptRules(),
    "masked": PromptRules(gives_mask=True),
    "masked, then zeros": PromptRules(gives_mask=True, reads_padding=False),
    "not masked, but zeros": PromptRules(reads_padding=False),
}
PROMPTS = ("", "Blimbo", "a photo of Blimbo", "a photo of Blimbo, in a very quiet wood of birches")
pytestmark = pytest.mark.torch


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


@pytest.fixture(params=RULES)
def rules(request: pytest.FixtureRequest) -> PromptRules:
    return RULES[request.param]


@pytest.fixture
def family(kind: Kind) -> EncoderFamily:
    return family_of(kind.made())


def _frame(kind: Kind, rules: PromptRules) -> PromptFrame:
    encoder = kind.made()
    return family_of(encoder).frame(kind.tokenizer(), encoder.config, rules)


def _ids(kind: Kind, prompts: tuple[str, ...] = PROMPTS) -> torch.Tensor:
    rows = kind.tokenizer()(list(prompts), padding="max_length", truncation=True)
    return torch.tensor(rows.input_ids)


def _words(kind: Kind, text: str) -> list[int]:
    return list(kind.tokenizer()(text, add_special_tokens=False).input_ids)


@torch.no_grad()
def _as_a_pipeline_does(encoder: Any, ids: torch.Tensor, frame: PromptFrame) -> torch.Tensor:
    """diffusers' `encode_prompt`: the mask or none, and rows of zeros from the mask's end on."""
    mask = prompt_mask(ids, frame)
    states = encoder(ids, attention_mask=mask if frame.gives_mask else None).last_hidden_state
    if frame.reads_padding:
        return torch.as_tensor(states)
    cut = [row[: int(ones.sum())] for row, ones in zip(states, mask, strict=True)]
    rows = [torch.cat([row, row.new_zeros(LENGTH - len(row), WIDTH)]) for row in cut]
    return torch.stack(rows)


def test_every_class_has_one_family() -> None:
    assert set(known_classes()) == set(KINDS)
    assert len(set(known_classes())) == len(known_classes())
    for name, kind in KINDS.items():
        assert family_named(name) is family_of(kind.made())


def test_special_tokens_frame_a_prompt_as_the_tokenizer_does(kind: Kind) -> None:
    frame = _frame(kind, PromptRules())
    for prompt, row in zip(PROMPTS, _ids(kind).tolist(), strict=True):
        assert frame.framed(_words(kind, prompt)) == row
    long = _words(kind, "many words " * LENGTH)
    assert frame.framed(long) == _ids(kind, ("many words " * LENGTH,))[0].tolist()
    assert frame.framed(long)[-1] == frame.eos
    assert frame.room == LENGTH - len(frame.start) - 1
    free = frame.free(3)
    assert len(free) == 3
    mask = prompt_mask(torch.tensor([frame.framed(free)]), frame)
    assert mask.sum() == len(frame.start) + 3 + 1


@pytest.mark.parametrize(
    "parts",
    [
        ("", "Blimbo", ""),
        ("", "Blimbo", " on the sea"),
        ("a photo of ", "Blimbo", ""),
        ("a photo of ", "Blimbo", ", painted"),
        ("a photo of ", "Blimbo", "'s house and Blimbo"),
        ("a very long text that goes on and on about ", "Blimbo", " on the sea, quite far out"),
    ],
    ids=["alone", "before", "after", "sign after", "repeated", "truncated"],
)
@pytest.mark.parametrize("anchor", ["", "cat", "cartoon creature"])
def test_the_name_has_its_place_among_the_tokens(
    kind: Kind, parts: tuple[str, str, str], anchor: str
) -> None:
    frame, tokenizer = _frame(kind, PromptRules()), kind.tokenizer()
    naming = Naming(*parted_ids(_reading(tokenizer), *parts))
    whole = _words(kind, "".join(parts))
    assert [*naming.before, *naming.name, *naming.after] == whole
    assert tokenizer.decode(naming.name).strip().lower() == "blimbo"
    ids = _words(kind, anchor)
    named, shown = frame.framed(whole), anchored(naming, ids, frame)
    positions = anchored_positions(naming, ids, frame)
    start = frame.first + len(naming.before)
    end = start + len(naming.name)
    assert positions == sorted(positions)
    assert [shown[one] for one in positions[: min(start, LENGTH - 1)]] == named[:start][
        : LENGTH - 1
    ]
    taken = [shown[one] for one in positions[start : min(end, LENGTH)]]
    if anchor and len(shown) > start + len(ids) and start + len(ids) < LENGTH:
        assert taken[: len(ids)] == ids[: len(taken)]
    is_cut = max(len(whole), len(whole) - len(naming.name) + len(ids)) > frame.room
    if not is_cut:
        follows = range(end, frame.first + len(whole) + 1)
        assert [shown[positions[one]] for one in follows] == [named[one] for one in follows]


def _reading(tokenizer: Any) -> Any:
    return SimpleNamespace(tokenizer=lambda: tokenizer)


def test_the_mask_is_the_tokenizer_s(kind: Kind, rules: PromptRules) -> None:
    frame, ids = _frame(kind, rules), _ids(kind)
    rows = kind.tokenizer()(list(PROMPTS), padding="max_length", truncation=True)
    mask = prompt_mask(ids, frame)
    assert mask.tolist() == rows.attention_mask
    expected = torch.ones_like(mask) if rules.reads_padding else mask
    assert torch.equal(read_positions(ids, frame), expected)


def test_ids_alone_are_read_as_a_pipeline_lets_them(kind: Kind, rules: PromptRules) -> None:
    encoder, frame, ids = kind.made(), _frame(kind, rules), _ids(kind)
    expected = _as_a_pipeline_does(encoder, ids, frame)
    reading = read_as_framed(copy.deepcopy(encoder), frame)
    for reader in (reading, copy.deepcopy(reading)):
        with torch.no_grad():
            found = reader(ids).last_hidden_state
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
        is_read = read_positions(ids, frame) > 0
        assert found[~is_read].abs().sum() == 0
        assert found[is_read].abs().sum(-1).min() > 0


def test_what_a_pipeline_gives_is_left_alone(kind: Kind, rules: PromptRules) -> None:
    frame, ids = _frame(kind, rules), _ids(kind)
    reader = read_as_framed(kind.made(), frame)
    mask = torch.ones_like(ids)
    mask[:, LENGTH // 2 :] = 0
    with torch.no_grad():
        expected = kind.made()(ids, mask).last_hidden_state
        found = reader(ids, mask).last_hidden_state
    kept = mask > 0
    assert torch.equal(found[kept], expected[kept])


def test_a_prompt_s_states_do_not_depend_on_its_neighbours(kind: Kind, rules: PromptRules) -> None:
    frame, ids = _frame(kind, rules), _ids(kind)
    reader = read_as_framed(kind.made(), frame)
    with torch.no_grad():
        together = reader(ids).last_hidden_state
        alone = torch.cat([reader(row[None]).last_hidden_state for row in ids])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_an_edit_never_touches_rows_of_zeros(kind: Kind, rules: PromptRules) -> None:
    frame, ids = _frame(kind, rules), _ids(kind)
    reader = read_as_framed(kind.made(), frame)
    with torch.no_grad():
        said, changed = reader(ids), edited(reader, random_edit(4))(ids)
        alone = torch.cat(
            [edited(reader, random_edit(4))(row[None]).last_hidden_state for row in ids]
        )
    is_read = read_positions(ids, frame) > 0
    difference = (changed.last_hidden_state - said.last_hidden_state).abs().sum(-1)
    assert changed.last_hidden_state[~is_read].abs().sum() == 0
    assert difference[prompt_mask(ids, frame) > 0].min() > 1e-3
    torch.testing.assert_close(changed.last_hidden_state, alone, atol=1e-5, rtol=1e-5)
    if hasattr(said, "text_embeds"):
        assert (changed.text_embeds - said.text_embeds).abs().sum(-1).min() > 1e-4


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_an_edit_holds_in_half_precision(
    kind: Kind, rules: PromptRules, dtype: torch.dtype
) -> None:
    frame, ids = _frame(kind, rules), _ids(kind)
    exact = edited(read_as_framed(kind.made(), frame), random_edit(4))
    rough = edited(read_as_framed(kind.made(), frame).to(dtype), random_edit(4))
    with torch.no_grad():
        wanted, found = encode_ids(exact, ids), encode_ids(rough, ids)
    assert found.dtype == torch.float32
    assert float((found - wanted).norm() / wanted.norm()) < 0.05
    assert found[read_positions(ids, frame) == 0].abs().sum() == 0


def test_vectors_stand_where_tokens_would(kind: Kind, rules: PromptRules) -> None:
    frame = _frame(kind, rules)
    reader = read_as_framed(kind.made(), frame).requires_grad_(False)
    before, name, after = (_words(kind, text) for text in ("a photo of", "Blimbo", "here"))
    named = torch.tensor([frame.framed([*before, *name, *after])])
    free = torch.tensor([frame.framed([*before, *frame.free(len(name)), *after])])
    slots = frame.first + len(before) + torch.arange(len(name))[None]
    vectors = token_table(reader)[torch.tensor(name)].requires_grad_(True)
    found = encode_vectors(reader, SlottedPrompts(free, slots), vectors)
    torch.testing.assert_close(found, encode_ids(reader, named), atol=1e-5, rtol=1e-5)
    found.square().sum().backward()
    assert vectors.grad is not None
    assert (vectors.grad.abs().sum(1) > 0).all()


def test_a_pooled_output_is_still_there() -> None:
    kind = KINDS["CLIPTextModelWithProjection"]
    encoder, ids = kind.made(), _ids(kind)
    reader = read_as_framed(copy.deepcopy(encoder), _frame(kind, RULES["masked, then zeros"]))
    mask = prompt_mask(ids, _frame(kind, PromptRules()))
    with torch.no_grad():
        expected = encoder(ids, attention_mask=mask).text_embeds
        torch.testing.assert_close(reader(ids).text_embeds, expected, atol=1e-5, rtol=1e-5)


def test_paper_mode_trains_every_mlp_and_the_last_self_attention(kind: Kind) -> None:
    for depth in (1, 3):
        name = "num_layers" if family_of(kind.made()).start(kind.tokenizer()) == () else None
        encoder = kind.made(**{name or "num_hidden_layers": depth})
        family = family_of(encoder)
        trained = family.paper_parameters(encoder)
        own = dict(encoder.named_parameters())
        assert all(own[name] is parameter for name, parameter in trained.items())
        in_mlps = [name for name in trained if ".mlp." in name or ".DenseReluDense." in name]
        in_attention = [name for name in trained if name not in in_mlps]
        assert len({name.split(".mlp.")[0].split(".layer.")[0] for name in in_mlps}) == depth
        assert all(".self_attn." in name or ".SelfAttention." in name for name in in_attention)
        assert len({name.split(".self_attn.")[0].split(".layer.")[0] for name in in_attention}) == 1
        assert family.num_layers(encoder.config) == depth


def test_full_size_counts_as_published(kind: Kind, family: EncoderFamily) -> None:
    with torch.device("meta"):
        encoder = kind.new(**kind.full_size)
    total = sum(parameter.numel() for parameter in encoder.parameters())
    trained = sum(parameter.numel() for parameter in family.paper_parameters(encoder).values())
    assert (round(total / 1e6, 1), round(trained / 1e6, 1)) == (
        kind.millions,
        kind.trained_millions,
    )
    width = kind.full_size.get("hidden_size", kind.full_size.get("d_model"))
    assert family.width(encoder.config) == width == token_table(encoder).shape[1]
    assert family.num_layers(encoder.config) > LAYERS


def test_the_prompt_is_as_long_as_the_pipeline_makes_it(kind: Kind, family: EncoderFamily) -> None:
    tokenizer = copy.deepcopy(kind.tokenizer())
    tokenizer.model_max_length = 10**30
    config = kind.made().config
    positions = family.most_tokens(config)
    for pipeline in PIPELINES:
        asked = pipeline.prompts.length
        if asked is not None:
            found = family.length([tokenizer], config, pipeline.prompts)
            assert found == (asked if positions is None else min(asked, positions))
    tokenizer.model_max_length = 40
    assert family.length([tokenizer, kind.tokenizer()], config, PromptRules()) == 40
    tokenizer.model_max_length = 2
    with pytest.raises(BaseFolderError, match="only 2 tokens, by model_max_length"):
        family.length([tokenizer], config, PromptRules())


def test_others_have_no_family_and_no_stack(family: EncoderFamily) -> None:
    model = torch.nn.Linear(2, 2)
    model.config = KINDS["CLIPTextModel"].made().config
    with pytest.raises(BaseFolderError, match="a Linear cannot be edited; known are CLIP"):
        family_of(model)
    with pytest.raises(BaseFolderError, match="Linear has no stack of"):
        family.paper_parameters(model)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"hidden_act": "tanh"}, "activation 'tanh' cannot carry an edit"),
        ({"intermediate_size": WIDTH}, f"MLPs have {WIDTH} neurons for {WIDTH} values"),
    ],
)
def test_what_cannot_carry_a_layer_is_named(config: dict[str, Any], words: str) -> None:
    with pytest.raises(BaseFolderError, match=words):
        check_carries(KINDS["CLIPTextModel"].made(**config))


@pytest.fixture
def hollow(base_dir: Path, tmp_path: Path) -> Path:
    """The base without a single weight: what it is made of is all that is left."""
    folder = tmp_path / "hollow"
    for model in ("t2i", "t2v"):
        (folder / model).mkdir(parents=True)
        shutil.copy(base_dir / model / "model_index.json", folder / model)
    shutil.copy(base_dir / "base.yaml", folder)
    return folder


def _with(folder: Path, model: str, **components: object) -> Base:
    change_json(folder / model / "model_index.json", **components)
    return load_base(folder)


@pytest.mark.parametrize("class_name", KINDS)
def test_every_family_passes_without_weights(hollow: Path, class_name: str) -> None:
    _with(hollow, "t2v", text_encoder=["transformers", class_name])
    base = _with(hollow, "t2i", text_encoder=["transformers", class_name])
    assert base.family() is family_named(class_name)


@pytest.mark.parametrize("model", ["t2i", "t2v"])
def test_an_unknown_encoder_is_refused_by_name(hollow: Path, model: str) -> None:
    base = _with(hollow, model, text_encoder=["transformers", "LlamaModel"])
    words = f"{hollow / model} reads prompts with a LlamaModel, .*choose a base with one of CLIP"
    with pytest.raises(BaseFolderError, match=words) as caught:
        base.family()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("empty", [[None, None], None])
def test_a_second_encoder_that_is_left_out_does_not_count(hollow: Path, empty: object) -> None:
    assert _with(hollow, "t2i", text_encoder_2=empty).family() is family_named("CLIPTextModel")


@pytest.mark.parametrize("second", ["CLIPTextModelWithProjection", "T5EncoderModel", "LlamaModel"])
def test_a_second_encoder_is_refused_by_name(hollow: Path, second: str) -> None:
    base = _with(hollow, "t2i", text_encoder_2=["transformers", second])
    words = rf"second text encoder \(text_encoder_2, a {second}\)"
    with pytest.raises(BaseFolderError, match=words):
        base.family()


def test_no_encoder_at_all_is_refused(hollow: Path) -> None:
    with pytest.raises(BaseFolderError, match="has no text_encoder"):
        _with(hollow, "t2i", text_encoder=[None, None]).family()


def test_the_checks_name_base_and_place() -> None:
    with pytest.raises(BaseFolderError, match=r"base 'mine': here/t2v reads prompts with a Gemma"):
        check_encoder("mine", "here/t2v", "GemmaModel")
    with pytest.raises(BaseFolderError, match=r"base 'mine': here has a second text encoder"):
        check_single("mine", "here", {"text_encoder_3": ["transformers", "T5EncoderModel"]})


@pytest.mark.parametrize(
    ("components", "words"),
    [
        (
            {"unet": None, "transformer": ["diffusers", "MochiTransformer3DModel"]},
            "gives transformer as MochiTransformer3DModel, which nothing here can make pictures",
        ),
        (
            {
                "_class_name": "WanImageToVideoPipeline",
                "unet": None,
                "transformer": ["diffusers", "WanTransformer3DModel"],
            },
            "is a WanImageToVideoPipeline, and of the pipelines with a WanTransformer3DModel",
        ),
        (
            {
                "_class_name": "WanPipeline",
                "unet": None,
                "transformer": ["diffusers", "WanTransformer3DModel"],
                "transformer_2": ["diffusers", "WanTransformer3DModel"],
            },
            r"has a second denoiser \(transformer_2, a WanTransformer3DModel\)",
        ),
        ({"unet": ["diffusers", "UNetSpatioTemporalConditionModel"]}, "gives unet as UNetSpatio"),
        ({"unet": [None, None]}, "has no unet and no transformer"),
    ],
)
def test_other_pipelines_are_refused_before_anything_is_loaded(
    hollow: Path, components: dict[str, Any], words: str
) -> None:
    base = _with(hollow, "t2v", **components)
    with pytest.raises(BaseFolderError, match=words) as caught:
        base.pipeline()
    assert str(hollow / "t2v") in str(caught.value)
    assert "\n" not in str(caught.value)
