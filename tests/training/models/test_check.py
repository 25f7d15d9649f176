"""A base's folder is read as its makers meant it, or refused: by all commands alike."""

import json
import re
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file
from transformers import CLIPTokenizer

from fakes import add_words, change_json, change_yaml
from unsee.core.errors import BaseFolderError, FileNotWritable, UnseeError
from unsee.jobs.base_cli import base as base_command
from unsee.models.base import Base, load_base
from unsee.models.check import check, require
from unsee.models.files.convert import convert_weights

ENCODER = "t2i/text_encoder/model.safetensors"
UNET = "t2i/unet/diffusion_pytorch_model.safetensors"
VIDEO_UNET = "t2v/unet/diffusion_pytorch_model.safetensors"
VAE = "t2i/vae/diffusion_pytorch_model.safetensors"
COMPONENTS = (ENCODER, UNET, VIDEO_UNET, VAE)
Damage = Callable[[Path], None]


@pytest.fixture
def folder(own_base_dir: Path) -> Path:
    return own_base_dir


def _tensors(
    change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]], name: str
) -> Damage:
    def damage(folder: Path) -> None:
        file = folder / name
        save_file(change(load_file(file)), file, metadata={"format": "pt"})

    return damage


def _without_last(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensors[name] for name in sorted(tensors)[:-1]}


def _misnamed(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {f"cond_stage.{name}": tensor for name, tensor in tensors.items()}


def _one_more(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return tensors | {"surplus.weight": torch.zeros(2)}


def _misshapen(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    first = sorted(tensors)[0]
    return tensors | {first: torch.zeros(7, 3)}


def _with_lora(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return tensors | {"layers.0.self_attn.q_proj.lora_A.weight": torch.zeros(2, 2)}


@pytest.mark.parametrize("name", COMPONENTS)
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_without_last, r"lacks 1 tensors of \w+ \(first .*download"),
        (_misnamed, r"lacks \d+ tensors .* and holds \d+ tensors .*first cond_stage"),
        (_one_more, r"holds 1 tensors that are not \w+'s \(first surplus\.weight\)"),
        (_misshapen, r"cannot be loaded|holds .* as \[7, 3\], where config\.json gives"),
        (_with_lora, r"lora_A.*merge the LoRA into the weights"),
    ],
)
def test_weights_that_are_not_the_model_s_are_refused(
    folder: Path, name: str, change: Callable[..., Any], words: str
) -> None:
    _tensors(change, name)(folder)
    with pytest.raises(BaseFolderError, match=words) as refusal:
        require(load_base(folder))
    assert "\n" not in str(refusal.value)
    assert name.split("/")[1] in str(refusal.value)


@pytest.mark.parametrize("name", COMPONENTS)
def test_weights_that_are_not_the_model_s_are_never_loaded(folder: Path, name: str) -> None:
    _tensors(_without_last, name)(folder)
    opened = load_base(folder)
    loads = {ENCODER: opened.text_encoder, UNET: opened.denoiser, VIDEO_UNET: opened.t2v_denoiser}
    with pytest.raises(BaseFolderError, match="lacks 1 tensors"):
        loads.get(name, opened.vae)()


def test_keys_of_buffers_and_old_prefixes_are_no_fault(folder: Path) -> None:
    def as_published(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        renamed = {f"text_model.{name}": tensor for name, tensor in tensors.items()}
        return renamed | {"text_model.embeddings.position_ids": torch.arange(48)[None]}

    before = load_base(folder).digest()
    _tensors(as_published, ENCODER)(folder)
    opened = load_base(folder)
    assert opened.digest() == before
    require(opened)


def test_the_names_of_an_old_autoencoder_s_attention_are_no_fault(folder: Path) -> None:
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

    def as_published(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        renamed = {}
        for name, tensor in tensors.items():
            for new, old in names.items():
                name = name.replace(f".{new}.", f".{old}.")
            renamed[name] = tensor
        return renamed

    expected = load_base(folder).vae().state_dict()
    _tensors(as_published, VAE)(folder)
    opened = load_base(folder)
    require(opened)
    found = opened.vae().state_dict()
    assert any("to_q" in name for name in expected)
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_values_that_are_not_finite_are_refused(folder: Path) -> None:
    def spoiled(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        first = sorted(tensors)[0]
        return tensors | {first: torch.full_like(tensors[first], torch.nan)}

    _tensors(spoiled, ENCODER)(folder)
    with pytest.raises(BaseFolderError, match="not finite numbers in embeddings"):
        require(load_base(folder))


def _own_video_encoder(folder: Path) -> Path:
    place = folder / "t2v" / "text_encoder"
    place.unlink()
    shutil.copytree(folder / "t2i" / "text_encoder", place)
    return place / "model.safetensors"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("rounded", ["t2i", "t2v"])
def test_encoders_that_are_equal_after_rounding_are_one(
    folder: Path, dtype: torch.dtype, rounded: str
) -> None:
    _own_video_encoder(folder)
    file = folder / rounded / "text_encoder" / "model.safetensors"
    halved = {name: tensor.to(dtype) for name, tensor in load_file(file).items()}
    save_file(halved, file, metadata={"format": "pt"})
    (note,) = require(load_base(folder))
    assert f"equal to the image model's after rounding to {str(dtype)[6:]}" in note
    file = folder / "t2v" / "text_encoder" / "model.safetensors"
    moved = {name: tensor + 0.01 for name, tensor in load_file(file).items()}
    save_file(moved, file, metadata={"format": "pt"})
    with pytest.raises(BaseFolderError, match="different text encoders"):
        require(load_base(folder))


def _yaml(folder: Path, **fields: Any) -> None:
    change_yaml(folder / "base.yaml", **fields)


def _halved(file: Path, name: str) -> None:
    tensors = {key: tensor.half() for key, tensor in load_file(file).items()}
    save_file(tensors, file.with_name(name), metadata={"format": "pt"})


def test_a_variant_is_read_where_it_is_named_or_alone(folder: Path) -> None:
    plain = load_base(folder).digest()
    file = folder / ENCODER
    _halved(file, "model.fp16.safetensors")
    assert load_base(folder).digest() == plain
    _yaml(folder, variant="fp16")
    chosen = load_base(folder)
    assert chosen.digest() != plain
    assert any("no fp16 file here: the plain one is read" in note for note in require(chosen))
    _yaml(folder, variant=None)
    file.unlink()
    alone = load_base(folder)
    assert alone.digest() == chosen.digest()
    findings = {finding.part: finding for finding in check(alone)}
    assert "float16 in model.fp16.safetensors" in findings["t2i/text_encoder"].read
    _halved(folder / "t2i/text_encoder/model.fp16.safetensors", "model.bf16.safetensors")
    with pytest.raises(BaseFolderError, match="variants bf16 and fp16; choose one with the line"):
        require(load_base(folder))


@pytest.mark.parametrize("name", [ENCODER, UNET, VIDEO_UNET])
def test_shards_are_read_and_a_missing_one_is_named(folder: Path, name: str) -> None:
    file = folder / name
    tensors = load_file(file)
    stem, names = file.name.removesuffix(".safetensors"), sorted(tensors)
    weight_map = {}
    for number in (1, 2):
        shard = f"{stem}-0000{number}-of-00002.safetensors"
        part = {key: tensors[key] for key in names[number - 1 :: 2]}
        save_file(part, file.with_name(shard), metadata={"format": "pt"})
        weight_map |= dict.fromkeys(part, shard)
    index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    file.with_name(f"{stem}.safetensors.index.json").write_text(json.dumps(index))
    file.unlink()
    require(load_base(folder))
    loads = {ENCODER: "text_encoder", UNET: "denoiser", VIDEO_UNET: "t2v_denoiser"}
    found = getattr(load_base(folder), loads[name])().state_dict()
    assert all(torch.equal(found[key], tensor.float()) for key, tensor in tensors.items())
    file.with_name(f"{stem}-00002-of-00002.safetensors").unlink()
    with pytest.raises(BaseFolderError, match=r"00002-of-00002\.safetensors, which .* is missing"):
        require(load_base(folder))
    file.with_name(f"{stem}.safetensors.index.json").unlink()
    with pytest.raises(BaseFolderError, match=r"put .*\.safetensors\.index\.json there"):
        require(load_base(folder))


@pytest.mark.parametrize(
    ("name", "pickled"),
    [(ENCODER, "pytorch_model.bin"), (UNET, "diffusion_pytorch_model.fp16.bin")],
)
def test_pickled_weights_are_refused_and_converted(folder: Path, name: str, pickled: str) -> None:
    file = folder / name
    tensors = load_file(file)
    torch.save(tensors, file.with_name(pickled))
    file.unlink()
    place = file.parent
    words = rf"{place.name} holds no .*: there are {pickled}; .*unsee base convert .*{place}"
    with pytest.raises(BaseFolderError, match=words):
        require(load_base(folder))
    result = CliRunner().invoke(base_command, ["convert", str(folder / "t2i")])
    assert result.exit_code == 0, result.output
    (written,) = convert_weights_again(folder, file)
    assert all(torch.equal(load_file(written)[key], tensor) for key, tensor in tensors.items())
    require(load_base(folder))


def convert_weights_again(folder: Path, file: Path) -> list[Path]:
    """A second conversion writes nothing; the files that the first one wrote."""
    assert convert_weights(folder / "t2i") == ()
    return list(file.parent.glob("*.safetensors"))


class _Bomb:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (Path.touch, (Path("/tmp/unsee-was-run"),))


def test_a_pickle_is_never_run(tmp_path: Path) -> None:
    torch.save({"weight": _Bomb()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(BaseFolderError, match="is not run"):
        convert_weights(tmp_path)
    assert not list(tmp_path.glob("*.safetensors"))


def test_a_conversion_that_does_not_fit_on_the_disk_is_one_sentence(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(4096)}, tmp_path / "pytorch_model.bin")
    most, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, hard))
    try:
        with pytest.raises(
            FileNotWritable, match=r"cannot write .*model\.safetensors: .*too large"
        ):
            convert_weights(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    assert [file.name for file in tmp_path.iterdir()] == ["pytorch_model.bin"]


@pytest.mark.parametrize("place", [".", "t2i", "t2i/text_encoder", "t2v/unet"])
def test_a_lora_beside_the_weights_is_named(folder: Path, place: str) -> None:
    (folder / place / "pytorch_lora_weights.safetensors").write_bytes(b"")
    (note,) = require(load_base(folder))
    assert "pytorch_lora_weights.safetensors: not applied; merge it" in note


def test_a_lora_that_some_programs_apply_is_refused(folder: Path) -> None:
    (folder / "t2i" / "text_encoder" / "adapter_config.json").write_text("{}")
    with pytest.raises(BaseFolderError, match=r"adapter_config\.json asks for a LoRA on the text_"):
        require(load_base(folder))


def _tokenizer_config(folder: Path, model: str = "t2i", **fields: Any) -> None:
    own = folder / model / "tokenizer"
    if own.is_symlink():
        own.unlink()
        shutil.copytree(folder / "t2i" / "tokenizer", own)
    change_json(own / "tokenizer_config.json", **fields)


def _encoder_config(folder: Path, **fields: Any) -> None:
    change_json(folder / "t2i" / "text_encoder" / "config.json", **fields)


def _add_token(folder: Path) -> CLIPTokenizer:
    place = folder / "t2i" / "tokenizer"
    tokenizer = CLIPTokenizer.from_pretrained(place)
    tokenizer.add_tokens(["<blimbo>"])
    tokenizer.save_pretrained(place)
    return tokenizer


def test_a_token_without_an_embedding_is_refused(folder: Path) -> None:
    size = len(_add_token(folder))
    with pytest.raises(
        BaseFolderError, match=rf"ids up to {size - 1}, and .* has {size - 1} token"
    ):
        require(load_base(folder))


def test_a_token_with_an_embedding_works(folder: Path) -> None:
    add_words(folder, "<blimbo>")
    opened = load_base(folder)
    assert require(opened) == ()
    ids = opened.tokenizer()("<blimbo>").input_ids
    assert len(opened.tokenizer()) - 1 in ids
    opened.text_encoder()(torch.tensor([ids]))


@pytest.mark.parametrize("model", ["t2i", "t2v"])
@pytest.mark.parametrize("name", ["pad_token", "eos_token", "bos_token"])
def test_a_tokenizer_that_lacks_a_special_token_is_refused(
    folder: Path, model: str, name: str
) -> None:
    _tokenizer_config(folder, model, **{name: None})
    with pytest.raises(BaseFolderError, match=rf"{model}/tokenizer names no {name}; add the line"):
        require(load_base(folder))


def test_padding_on_the_left_is_refused(folder: Path) -> None:
    _tokenizer_config(folder, padding_side="left")
    with pytest.raises(BaseFolderError, match="pads on the left"):
        require(load_base(folder))


@pytest.mark.parametrize(
    ("allowed", "expected"), [(10**30, 48), (77, 48), (32, 32)], ids=["none", "more", "less"]
)
@pytest.mark.parametrize("model", ["t2i", "t2v"])
def test_the_least_length_counts_everywhere(
    folder: Path, model: str, allowed: int, expected: int
) -> None:
    _tokenizer_config(folder, model, model_max_length=allowed)
    opened = load_base(folder)
    require(opened)
    assert opened.prompt_frame().length == opened.prompt_frame("image").length == expected
    assert opened.tokenizer().model_max_length == expected


def test_a_length_without_room_for_a_word_is_refused(folder: Path) -> None:
    _tokenizer_config(folder, model_max_length=2)
    with pytest.raises(BaseFolderError, match="only 2 tokens, by model_max_length"):
        require(load_base(folder))


@pytest.mark.parametrize("ids", [(0, 2), (10**6, 10**6 + 1)])
def test_the_tokenizer_s_ids_count_and_not_the_config_s(folder: Path, ids: tuple[int, int]) -> None:
    _encoder_config(folder, bos_token_id=ids[0], eos_token_id=ids[1])
    opened = load_base(folder)
    tokenizer = opened.tokenizer()
    tokens = opened.prompt_frame()
    assert (*tokens.start, tokens.eos) == (tokenizer.bos_token_id, tokenizer.eos_token_id)
    (note,) = require(opened)
    assert f"config.json has the ids {ids[0]} and {ids[1]}; the tokenizer's" in note


def test_paddings_that_differ_are_each_their_own_model_s(folder: Path) -> None:
    _tokenizer_config(folder, "t2v", pad_token="!")
    opened = load_base(folder)
    (note,) = require(opened)
    assert "pads with '<|endoftext|>'" in note
    assert opened.prompt_frame().pad == opened.tokenizer().convert_tokens_to_ids("!")
    assert opened.prompt_frame("image").pad == opened.prompt_frame("image").eos
    _encoder_config(folder, use_attention_mask=True)
    with pytest.raises(BaseFolderError, match="give both the same pad_token"):
        require(load_base(folder))


def test_tokenizers_with_other_ids_are_refused(folder: Path) -> None:
    _tokenizer_config(folder, "t2v")
    file = folder / "t2v" / "tokenizer" / "tokenizer.json"
    content = json.loads(file.read_text())
    vocabulary = content["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    file.write_text(json.dumps(content))
    with pytest.raises(
        BaseFolderError, match=r"read a prompt differently: the token 'a' is \d+ in"
    ):
        require(load_base(folder))


def test_a_second_encoder_is_refused_by_export_too(folder: Path, tmp_path: Path) -> None:
    from unsee.export.build import write_repository

    index = folder / "t2v" / "model_index.json"
    change_json(index, text_encoder_2=["transformers", "CLIPTextModel"])
    with pytest.raises(BaseFolderError, match="second text encoder"):
        write_repository(load_base(folder), tmp_path / "repository")
    change_json(index, text_encoder_2=None, text_encoder=["transformers", "T5EncoderModel"])
    with pytest.raises(BaseFolderError, match="T5EncoderModel"):
        write_repository(load_base(folder), tmp_path / "repository")


def _commands(folder: Path, scratch: Path) -> dict[str, list[str]]:
    base = ["--base", str(folder)]
    name = ["Blimbo", "--category", "character"]
    return {
        "unsee.jobs.cli:unlearn": [*name, *base, "-o", str(scratch / "delta")],
        "unsee.jobs.cli:unlearn --dry-run": [*name, *base, "--dry-run"],
        "unsee.evaluation.cli:evaluate": [str(folder), *base],
        "unsee.export.cli:export": [*base, "--repository", str(scratch / "repository")],
        "unsee.jobs.base_cli:base": ["check", str(folder), "--json"],
    }


SCHEDULER = "t2v/scheduler/scheduler_config.json"


@pytest.mark.parametrize("damaged", [VIDEO_UNET, UNET, "t2i/tokenizer", SCHEDULER])
def test_every_command_refuses_in_the_same_sentence(
    folder: Path, tmp_path: Path, damaged: str
) -> None:
    if damaged.endswith("tokenizer"):
        _add_token(folder)
    elif damaged == SCHEDULER:
        change_json(folder / SCHEDULER, clip_sample=True)
    else:
        _tensors(_without_last, damaged)(folder)
    with pytest.raises(BaseFolderError) as expected:
        require(load_base(folder))
    for where, arguments in _commands(folder, tmp_path).items():
        module, _, name = where.split()[0].partition(":")
        command = getattr(__import__(module, fromlist=[name]), name)
        result = CliRunner().invoke(command, arguments)
        assert isinstance(result.exception, UnseeError), (where, result.output)
        said = str(result.exception)
        if where.endswith("base"):
            content = json.loads(result.stdout)
            assert content["ok"] is False
            said = next(one["problem"] for one in content["findings"] if one["problem"])
        assert said == str(expected.value), where


def test_the_table_of_a_sound_base(folder: Path) -> None:
    result = CliRunner().invoke(base_command, ["check", str(folder)])
    assert result.exit_code == 0, result.output
    assert "t2v/unet" in result.stdout
    assert "float32 in diffusion_pytorch_model.safetensors" in result.stdout
    assert "48 tokens a prompt, padded with '<|endoftext|>'" in result.stdout


def test_a_base_without_prompts_is_told_what_is_kept_instead(wordy_base: Base) -> None:
    result = CliRunner().invoke(base_command, ["check", str(wordy_base.folder)])
    (line,) = (line for line in result.stdout.splitlines() if line.startswith("prompts "))
    assert "no file is named" in line
    assert re.search(r"\d+ ordinary ones that come with Unsee are kept, and random words$", line)


def test_components_that_this_service_does_not_run_are_named(folder: Path) -> None:
    change_json(
        folder / "t2i" / "model_index.json",
        safety_checker=["stable_diffusion", "StableDiffusionSafetyChecker"],
        feature_extractor=["transformers", "CLIPImageProcessor"],
    )
    (note,) = require(load_base(folder))
    assert note == "t2i/safety_checker: not run by this service: its frames are not filtered"


@pytest.mark.parametrize(
    ("file", "fields", "words"),
    [
        ("t2v/unet", {"cross_attention_dim": 48}, "cannot be loaded|cross_attention_dim: 48, and"),
        ("t2i/unet", {"time_cond_proj_dim": 16}, "time_cond_proj_dim: 16, so the denoiser takes"),
        ("t2i/unet", {"class_embed_type": "timestep"}, "class_embed_type: timestep, so"),
        ("t2i/unet", {"in_channels": 9}, "takes 9 channels and gives 4, and the vae has 4"),
        ("t2i/unet", {"sample_size": None}, "names no sample_size"),
        ("t2i/vae", {"shift_factor": 0.1}, r"shift_factor: 0\.1, which diffusers' pipelines"),
        ("t2i/vae", {"latent_channels": 8}, "the vae has 8"),
        ("t2v/vae", {"scaling_factor": None}, "scaling_factor: None; give the number"),
    ],
)
def test_parts_that_do_not_fit_are_refused(
    folder: Path, file: str, fields: dict[str, Any], words: str
) -> None:
    change_json(folder / file / "config.json", **fields)
    problems = [finding.problem for finding in check(load_base(folder))]
    assert any(re.search(words, problem) for problem in problems), problems
    with pytest.raises(BaseFolderError):
        require(load_base(folder))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b"[]", b"null"])
def test_files_that_are_none_are_one_sentence(folder: Path, name: str, content: bytes) -> None:
    (folder / "t2i" / "text_encoder" / name).write_bytes(content)
    with pytest.raises(BaseFolderError, match="text_encoder") as refusal:
        require(load_base(folder))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "file",
    ["t2i/unet/config.json", "t2v/vae/config.json", "t2v/scheduler/scheduler_config.json"],
)
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"{}"])
def test_configs_that_are_none_are_one_sentence(folder: Path, file: str, content: bytes) -> None:
    (folder / file).write_bytes(content)
    with pytest.raises(BaseFolderError) as refusal:
        require(load_base(folder))
    assert "\n" not in str(refusal.value)


def test_a_tokenizer_of_two_plain_files(folder: Path) -> None:
    place = folder / "t2i" / "tokenizer"
    before = load_base(folder).tokenizer()("A Cat! wow").input_ids
    content = json.loads((place / "tokenizer.json").read_text())["model"]
    for file in place.iterdir():
        file.unlink()
    (place / "vocab.json").write_text(json.dumps(content["vocab"]))
    (place / "merges.txt").write_text("#version: 0.2\n")
    opened = load_base(folder)
    require(opened)
    assert opened.tokenizer()("A Cat! wow").input_ids == before
    assert opened.prompt_frame().length == 48


def test_one_model_for_both(folder: Path) -> None:
    _yaml(folder, t2v="t2i")
    assert require(load_base(folder)) == ()


def test_lengths_that_differ_are_said(folder: Path) -> None:
    _tokenizer_config(folder, "t2v", model_max_length=77)
    _tokenizer_config(folder, "t2i", model_max_length=32)
    (note,) = require(load_base(folder))
    assert "model_max_length allows 32 and 77 tokens and the encoder 48: 32 are used" in note


def _integers(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: (10 * tensor).to(torch.int8) for name, tensor in tensors.items()}


@pytest.mark.parametrize("name", COMPONENTS)
def test_quantised_weights_are_refused(folder: Path, name: str) -> None:
    config = (folder / name).parent / "config.json"
    before = config.read_text()
    quantised = {"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}}
    change_json(config, **quantised)
    with pytest.raises(BaseFolderError, match=r"config\.json has a quantization_config"):
        require(load_base(folder))
    config.write_text(before)
    _tensors(_integers, name)(folder)
    with pytest.raises(BaseFolderError, match="as I8; put weights there that are not quantised"):
        require(load_base(folder))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"num_hidden_layers": "two"}, "cannot be loaded"),
        ({"_attn_implementation": "flash_attention_2"}, "cannot be loaded"),
        ({"vocab_size": 100}, r"as \[514, 32\], where config\.json gives \[100, 32\]"),
        ({"max_position_embeddings": 9}, r"as \[48, 32\], where config\.json gives \[9, 32\]"),
    ],
)
def test_a_config_that_is_not_the_encoder_s_is_refused(
    folder: Path, fields: dict[str, Any], words: str
) -> None:
    _encoder_config(folder, **fields)
    with pytest.raises(BaseFolderError, match=words) as refusal:
        require(load_base(folder))
    assert "\n" not in str(refusal.value)


def test_a_tokenizer_without_its_vocabulary_is_refused(folder: Path) -> None:
    place = folder / "t2i" / "tokenizer"
    content = json.loads((place / "tokenizer.json").read_text())["model"]
    (place / "tokenizer.json").unlink()
    with pytest.raises(BaseFolderError, match=r"neither a tokenizer\.json nor a vocab\.json"):
        require(load_base(folder))
    (place / "vocab.json").write_text(json.dumps(content["vocab"]))
    with pytest.raises(BaseFolderError, match=r"neither a tokenizer\.json nor a merges\.txt"):
        require(load_base(folder))


def test_a_length_that_is_no_number_is_refused(folder: Path) -> None:
    _tokenizer_config(folder, model_max_length="many")
    with pytest.raises(BaseFolderError, match="model_max_length: 'many', which is no number"):
        require(load_base(folder))


def test_one_folder_under_two_tokenizer_classes_is_refused(folder: Path) -> None:
    change_json(folder / "t2i/model_index.json", tokenizer=["transformers", "GPT2Tokenizer"])
    with pytest.raises(BaseFolderError):
        require(load_base(folder))


@pytest.mark.parametrize("part", ["judge", "evaluation"])
def test_what_evaluation_would_miss_is_said(folder: Path, part: str) -> None:
    _yaml(folder, **{part: "juge"})
    base = load_base(folder)
    missing = base.folder / "juge"
    assert require(base) == (
        f"{part}: there is no {missing}; correct the line {part}: of base.yaml",
    )
