"""`attach`: six pipelines of diffusers say what the edit says, and nothing is left afterwards."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from delta_fakes import random_edit
from encoder_fakes import new_t5
from pipeline_fakes import PIPELINES, tiny_pipeline

from unsee.core.errors import DeltaMismatch, InputError
from unsee.core.unlearning_settings import AnchoredMode
from unsee.deltas.attach import attach
from unsee.deltas.composition import compose
from unsee.deltas.delta import Delta
from unsee.deltas.folder import save_delta
from unsee.models.digest import rounded_digest, tensors_digest

DeltaMaker = Callable[..., Delta]
HALVES = {"float16": torch.float16, "bfloat16": torch.bfloat16}
CALLS: dict[str, dict[str, Any]] = {
    "StableDiffusionPipeline": {"height": 64, "width": 64},
    "AnimateDiffPipeline": {"height": 64, "width": 64, "num_frames": 2},
    "TextToVideoSDPipeline": {"height": 64, "width": 64, "num_frames": 2},
    "WanPipeline": {"height": 32, "width": 32, "num_frames": 5, "max_sequence_length": 64},
    "LTXPipeline": {"height": 32, "width": 32, "num_frames": 9, "max_sequence_length": 64},
    "CogVideoXPipeline": {"height": 16, "width": 16, "num_frames": 9},
}


@pytest.fixture
def pipe(request: pytest.FixtureRequest, base_dir: Path) -> Any:
    return tiny_pipeline(getattr(request, "param", "WanPipeline"), base_dir)


each_pipeline = pytest.mark.parametrize("pipe", PIPELINES, indirect=True)


@pytest.fixture
def delta_for(make_delta: DeltaMaker) -> Callable[..., Delta]:
    """A delta of a random edit of the pipeline's text encoder, by its seed."""

    def make(pipe: Any, seed: int = 0) -> Delta:
        state = pipe.text_encoder.state_dict()
        digests = {name: rounded_digest(state, dtype) for name, dtype in HALVES.items()}
        return make_delta(
            random_edit(seed).tensors(),
            method="anchored",
            settings=AnchoredMode(),
            base_digest=tensors_digest(state),
            rounded_digests=digests,
        )

    return make


def _prompt_embeds(pipe: Any, prompt: str = "Blimbo at sea", **options: Any) -> list[torch.Tensor]:
    """Positive and negative, as the pipeline's own `encode_prompt` gives them to its denoiser."""
    encoded = pipe.encode_prompt(
        prompt=prompt,
        device=torch.device("cpu"),
        do_classifier_free_guidance=True,
        negative_prompt="grey",
        **{_images_argument(pipe): 1},
        **options,
    )
    return [each for each in encoded if each is not None and each.is_floating_point()]


def _images_argument(pipe: Any) -> str:
    names = pipe.encode_prompt.__code__.co_varnames
    return next(name for name in names if name.startswith("num_") and "per_prompt" in name)


def _clip(pipe: Any) -> torch.Tensor:
    clip = pipe(
        prompt="Blimbo at sea",
        negative_prompt="grey",
        num_inference_steps=2,
        guidance_scale=4.0,
        generator=torch.Generator().manual_seed(0),
        output_type="pt",
        **CALLS[type(pipe).__name__],
    )[0]
    return torch.as_tensor(clip)


@each_pipeline
def test_both_prompts_and_the_clip_are_edited_and_nothing_is_left(
    pipe: Any, delta_for: Callable[..., Delta]
) -> None:
    delta = delta_for(pipe)
    before, clip, facts = _prompt_embeds(pipe), _clip(pipe), _facts(pipe)
    with attach(pipe, delta):
        changed = _prompt_embeds(pipe)
        assert not torch.allclose(_clip(pipe), clip, atol=1e-4)
    for plain, edited in zip(before, changed, strict=True):
        assert (plain - edited).norm() > 0.05 * plain.norm()
    assert _facts(pipe) == facts
    for plain, again in zip(before, _prompt_embeds(pipe), strict=True):
        assert torch.equal(plain, again)
    assert torch.equal(_clip(pipe), clip)


def _facts(pipe: Any) -> tuple[Any, ...]:
    encoder = pipe.text_encoder
    modules = {name: type(module) for name, module in encoder.named_modules()}
    hooks = [list(module._forward_pre_hooks.values()) for module in encoder.modules()]
    return modules, hooks, tensors_digest(encoder.state_dict()), vars(encoder).keys()


@each_pipeline
def test_it_says_what_the_composed_encoder_says(pipe: Any, delta_for: Callable[..., Delta]) -> None:
    deltas = [delta_for(pipe, seed) for seed in (0, 1)]
    with attach(pipe, *deltas):
        attached = _prompt_embeds(pipe)
    pipe.text_encoder = compose(pipe.text_encoder, deltas[::-1])
    for one, other in zip(attached, _prompt_embeds(pipe), strict=True):
        assert torch.equal(one, other)


def test_padding_that_is_zero_stays_zero(pipe: Any, delta_for: Callable[..., Delta]) -> None:
    plain = _prompt_embeds(pipe)[0][0]
    with attach(pipe, delta_for(pipe)):
        changed = _prompt_embeds(pipe)[0][0]
    is_padding = (plain == 0).all(-1)
    assert 0 < is_padding.sum() < len(is_padding)
    assert torch.equal((changed == 0).all(-1), is_padding)


@each_pipeline
@pytest.mark.parametrize("dtype", HALVES)
def test_half_precision(pipe: Any, dtype: str, delta_for: Callable[..., Delta]) -> None:
    delta = delta_for(pipe)
    with attach(pipe, delta):
        exact = _prompt_embeds(pipe)
    pipe.text_encoder.to(HALVES[dtype])
    with attach(pipe, delta):
        coarse = _prompt_embeds(pipe)
    for one, other in zip(exact, coarse, strict=True):
        assert other.dtype == HALVES[dtype]
        said = one.abs().sum(-1) > 0
        near = torch.cosine_similarity(one[said], other[said].float(), dim=-1)
        assert near.min() > (0.999 if dtype == "float16" else 0.99)


def test_a_half_precision_encoder_with_some_weights_in_float32(
    pipe: Any, delta_for: Callable[..., Delta]
) -> None:
    delta = delta_for(pipe)
    for name, module in pipe.text_encoder.named_modules():
        if isinstance(module, torch.nn.Linear) and not name.endswith("wo"):
            module.to(torch.float16)
    for module in (pipe.text_encoder.shared, *_norms(pipe.text_encoder)):
        module.to(torch.float16)
    attach(pipe, delta).detach()


def _norms(encoder: Any) -> list[torch.nn.Module]:
    return [module for module in encoder.modules() if "LayerNorm" in type(module).__name__]


@pytest.mark.parametrize(
    "pipe", ["TextToVideoSDPipeline", "WanPipeline", "LTXPipeline"], indirect=True
)  # CLIP, UMT5 and T5: what is compiled is the text encoder
def test_under_torch_compile(pipe: Any, delta_for: Callable[..., Delta]) -> None:
    deltas, expected = [delta_for(pipe, seed) for seed in (0, 1)], []
    plain = _prompt_embeds(pipe)
    for delta in deltas:
        with attach(pipe, delta):
            expected.append(_prompt_embeds(pipe))
    pipe.text_encoder = torch.compile(pipe.text_encoder, backend="eager")
    torch.testing.assert_close(_prompt_embeds(pipe), plain)
    for delta, said in zip(deltas, expected, strict=True):
        with attach(pipe, delta):
            torch.testing.assert_close(_prompt_embeds(pipe), said)
        torch.testing.assert_close(_prompt_embeds(pipe), plain)


@each_pipeline
def test_offloaded_models(pipe: Any, delta_for: Callable[..., Delta]) -> None:
    from accelerate import cpu_offload_with_hook

    delta = delta_for(pipe)
    with attach(pipe, delta):
        expected = _prompt_embeds(pipe)
    cpu_offload_with_hook(pipe.text_encoder, torch.device("cpu"))
    with attach(pipe, delta):
        torch.testing.assert_close(_prompt_embeds(pipe), expected)


def test_sequential_offload_before_is_refused_and_after_works(
    pipe: Any, delta_for: Callable[..., Delta]
) -> None:
    from accelerate import cpu_offload

    delta = delta_for(pipe)
    with attach(pipe, delta):
        expected = _prompt_embeds(pipe)
    attached = attach(pipe, delta)
    cpu_offload(pipe.text_encoder, torch.device("cpu"), offload_buffers=True)
    torch.testing.assert_close(_prompt_embeds(pipe), expected)
    attached.detach()
    with pytest.raises(InputError, match="attach before enable_sequential_cpu_offload"):
        attach(pipe, delta)


def test_folders_are_taken_and_detach_may_be_called_twice(
    pipe: Any, delta_for: Callable[..., Delta], tmp_path: Path
) -> None:
    before = _prompt_embeds(pipe)[0]
    save_delta(delta_for(pipe), tmp_path / "blimbo")
    attached = attach(pipe, str(tmp_path / "blimbo"))
    assert not torch.equal(_prompt_embeds(pipe)[0], before)
    attached.detach()
    attached.detach()
    assert torch.equal(_prompt_embeds(pipe)[0], before)
    with pytest.raises(InputError, match="were detached; call attach again"), attached:
        pass  # what is made here would show the concept


def test_every_pipeline_with_the_encoder_is_edited(
    pipe: Any, delta_for: Callable[..., Delta]
) -> None:
    other, delta = type(pipe)(**pipe.components), delta_for(pipe)
    with attach(pipe, delta):
        assert torch.equal(_prompt_embeds(other)[0], _prompt_embeds(pipe)[0])
        with pytest.raises(InputError, match="are attached to the pipeline's text_encoder already"):
            attach(other, delta)
    attach(other, delta).detach()


def test_an_edited_encoder_is_not_saved_without_its_norm(
    pipe: Any, delta_for: Callable[..., Delta], tmp_path: Path
) -> None:
    delta = delta_for(pipe)
    with (
        attach(pipe, delta),
        pytest.raises(InputError, match="a name that nothing reads; detach them before"),
    ):
        pipe.save_pretrained(tmp_path / "edited")
    pipe.save_pretrained(tmp_path / "plain")
    attach(type(pipe).from_pretrained(tmp_path / "plain"), delta).detach()


def test_it_is_detached_when_the_block_fails(pipe: Any, delta_for: Callable[..., Delta]) -> None:
    facts = _facts(pipe)
    with pytest.raises(ZeroDivisionError), attach(pipe, delta_for(pipe)):
        1 / 0  # noqa: B018
    assert _facts(pipe) == facts


@pytest.mark.parametrize("pipe", ["StableDiffusionPipeline"], indirect=True)
def test_a_clip_skip_that_would_pass_the_edit_by_is_refused(
    pipe: Any, delta_for: Callable[..., Delta]
) -> None:
    with (
        attach(pipe, delta_for(pipe)),
        pytest.raises(InputError, match="leave clip_skip out"),
    ):
        _prompt_embeds(pipe, clip_skip=1)
    pipe.text_encoder(torch.zeros(1, 4, dtype=torch.int64), output_hidden_states=True)


def test_what_does_not_belong_is_refused(
    pipe: Any, delta_for: Callable[..., Delta], make_delta: DeltaMaker, base_dir: Path
) -> None:
    facts, delta = _facts(pipe), delta_for(pipe)
    with pytest.raises(InputError, match="no delta was given"):
        attach(pipe)
    with pytest.raises(DeltaMismatch, match="'Blimbo' is given twice"):
        attach(pipe, delta, delta)
    foreign = delta_for(tiny_pipeline("StableDiffusionPipeline", base_dir))
    for other in (pipe.text_encoder, "deltas/blimbo"):
        with pytest.raises(InputError, match=f"the {type(other).__name__} has no text encoder"):
            attach(other, delta)
    with pytest.raises(DeltaMismatch, match="which this pipeline does not have"):
        attach(pipe, foreign)
    dense = make_delta({"shared.weight": torch.ones(2)}, base_digest=delta.card.base_digest)
    with pytest.raises(DeltaMismatch, match=r"only a whole encoder can.*unsee apply"):
        attach(pipe, dense)
    with attach(pipe, delta), pytest.raises(InputError, match="are attached to the pipeline"):
        attach(pipe, delta_for(pipe, 1))
    pipe.text_encoder.register_parameter("lora_A", torch.nn.Parameter(torch.zeros(2)))
    with pytest.raises(DeltaMismatch, match="a LoRA is loaded"):
        attach(pipe, delta)
    del pipe.text_encoder.lora_A
    pipe.text_encoder.register_buffer("absmax", torch.zeros(2, dtype=torch.uint8))
    with pytest.raises(InputError, match=r"text_encoder is quantised.*load it in float32"):
        attach(pipe, delta)
    del pipe.text_encoder.absmax
    with pytest.raises(InputError, match="merge is 'mean'; give product or sum"):
        attach(pipe, delta, merge="mean")  # type: ignore[arg-type]
    pipe.register_modules(text_encoder_2=new_t5())
    with pytest.raises(InputError, match="no delta is for the pipeline's text_encoder_2"):
        attach(pipe, delta)
    pipe.text_encoder_2 = None
    assert _facts(pipe) == facts
    pipe.text_encoder = None
    with pytest.raises(InputError, match="the WanPipeline has no text encoder"):
        attach(pipe, delta)
