"""Opening a base: what it loads, and one clear sentence for everything that can be wrong."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from huggingface_hub.errors import LocalEntryNotFoundError

from fakes import write_tiny_base
from unsee.core.errors import BaseFolderError
from unsee.models.base import Base, load_base
from unsee.models.spec import BaseSpec

LIMITS = {
    "num_frames": 8,
    "height": [32, 64],
    "width": [32, 64],
    "num_inference_steps": 5,
    "guidance_scale": 20.0,
}


def test_components_are_frozen_float32_and_kept(base: Base) -> None:
    for load in (base.text_encoder, base.vae, base.denoiser, base.t2v_denoiser):
        module = load()
        assert module is load()
        assert not module.training
        for parameter in module.parameters():
            assert parameter.dtype == torch.float32
            assert not parameter.requires_grad
    assert base.t2v_vae() is base.vae()
    assert base.scheduler().config.prediction_type == "v_prediction"
    base.check_shared_text_encoder()


def test_digest_follows_the_weights(base: Base, tmp_path: Path) -> None:
    same = load_base(write_tiny_base(tmp_path / "same") / "base.yaml")
    other = load_base(write_tiny_base(tmp_path / "other", seed=1))
    assert base.digest().startswith("sha256:")
    assert same.digest() == base.digest() != other.digest()


def test_different_text_encoders_are_refused(own_base_dir: Path, tmp_path: Path) -> None:
    (own_base_dir / "t2v" / "text_encoder").unlink()
    other = write_tiny_base(tmp_path / "other", seed=1) / "t2i" / "text_encoder"
    shutil.copytree(other, own_base_dir / "t2v" / "text_encoder")
    with pytest.raises(BaseFolderError, match="different text encoders"):
        load_base(own_base_dir).check_shared_text_encoder()


@pytest.mark.parametrize(
    ("damage", "load", "words"),
    [
        ("rm t2i/vae", Base.vae, "has no vae: .*t2i/vae is missing"),
        ("rm t2v/unet", Base.t2v_denoiser, "has no unet: .*t2v/unet is missing"),
        (
            "rm t2i/unet/diffusion_pytorch_model.safetensors",
            Base.denoiser,
            "t2i/unet holds no diffusion_pytorch_model.safetensors: there are no weights at all",
        ),
        (
            "cut t2i/text_encoder/model.safetensors",
            Base.text_encoder,
            "text_encoder/.* cannot be read",
        ),
        ("cut t2i/tokenizer/tokenizer.json", Base.tokenizer, "tokenizer in .* cannot"),
        ("rm t2i/model_index.json", Base.vae, "has no model_index.json"),
        ("cut t2i/model_index.json", Base.vae, "model_index.json of .* cannot be read"),
        ("rm t2i", Base.denoiser, "t2i is not a diffusers model folder"),
    ],
)
def test_a_damaged_folder_is_named_in_one_sentence(
    own_base_dir: Path, damage: str, load: object, words: str
) -> None:
    action, _, name = damage.partition(" ")
    path = own_base_dir / name
    if action == "cut":
        path.write_bytes(path.read_bytes()[:40])
    elif path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    assert callable(load)
    with pytest.raises(BaseFolderError, match=words) as raised:
        load(load_base(own_base_dir))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "entry",
    [
        ["diffusers", "DiffusionPipeline"],
        ["diffusers", "__version__"],
        ["transformers", "AutoTokenizer"],
        ["transformers", "pipeline"],
    ],
)
def test_what_is_no_component_is_not_loaded(own_base_dir: Path, entry: list[str]) -> None:
    index = own_base_dir / "t2i" / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"scheduler": entry}))
    with pytest.raises(BaseFolderError, match=f"scheduler as {entry[1]}, which is no class of"):
        load_base(own_base_dir).scheduler()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"clip": None}, "clip"),
        ({"t2i": ""}, "t2i"),
        ({"judge": "~nobody-here/x"}, "judge: '~nobody-here/x' cannot be a path"),
        ({"unlearn": {"paper": {"learning_rate": -1.0}}}, "unlearn.paper.learning_rate"),
        ({"unlearn": {"anchored": {"momentum": 1.0}}}, "unlearn.anchored.momentum"),
        ({"colour": "red"}, "colour"),
        ({"t2i": None, "schedulers": {"t2i": {"beta_end": 0.1}}}, "there is no t2i"),
        ({"limits": LIMITS | {"height": [64, 32]}}, "limits: height is from 64 to 32; give the"),
        ({"limits": LIMITS | {"guidance_scale": float("nan")}}, "guidance_scale: .*finite number"),
        ({"limits": LIMITS | {"guidance_scale": -1.0}}, "guidance_scale: this must be 0.0 or more"),
        ({"limits": LIMITS | {"guidance_scale": 3.0}}, "clip.guidance_scale is 3.5 and limits"),
        ({"limits": LIMITS | {"num_inference_steps": 2}}, "steps is 3 and .* would be refused"),
    ],
)
def test_a_wrong_field_is_named(
    base_dir: Path, tmp_path: Path, change: dict[str, object], words: str
) -> None:
    content = yaml.safe_load((base_dir / "base.yaml").read_text())
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(content | change))
    with pytest.raises(BaseFolderError, match=f"base.yaml: .*{words}"):
        load_base(tmp_path)


PLACES = ("t2i", "t2v", "motion_adapter", "judge", "evaluation", "prompts")


@pytest.mark.parametrize("field", PLACES)
def test_a_place_in_the_home_folder_is_found(
    base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, field: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    content = base.spec.model_dump()
    for given, read in (("~/a b/é", f"{tmp_path}/a b/é"), ("org/~name", "org/~name")):
        assert getattr(BaseSpec.model_validate(content | {field: given}), field) == read


def test_a_base_whose_parts_are_in_the_home_folder_opens(
    own_base_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(own_base_dir))
    (own_base_dir / "asked.txt").write_text("a dog")
    content = yaml.safe_load((own_base_dir / "base.yaml").read_text())
    there = {"t2i": "~/t2i", "t2v": "~/t2v", "prompts": "~/asked.txt"}
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(content | there))
    opened = load_base(tmp_path)
    assert opened.pipeline().is_served
    assert opened.prompts() == ("a dog",)


def test_a_folder_that_is_none_is_not_said_to_lack_a_file(
    own_base_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*arguments: object) -> None:
        raise LocalEntryNotFoundError("cannot reach the hub")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", offline)
    file = own_base_dir / "base.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | {"t2v": "models/wan"}))
    words = "no folder models/wan beside base.yaml, and the hub .*: cannot reach the hub; name the"
    with pytest.raises(BaseFolderError, match=words):
        load_base(own_base_dir).pipeline()


def test_the_hub_s_cache_is_told_from_its_snapshot(own_base_dir: Path) -> None:
    snapshot = own_base_dir / "models--my--wan" / "snapshots" / "0123"
    snapshot.parent.mkdir(parents=True)
    (own_base_dir / "t2v").rename(snapshot)
    file = own_base_dir / "base.yaml"
    content = yaml.safe_load(file.read_text()) | {"t2v": "models--my--wan"}
    file.write_text(yaml.safe_dump(content))
    with pytest.raises(BaseFolderError, match=r"no model_index.json; name the folder .*/0123$"):
        load_base(own_base_dir).pipeline()


def _asked(base: Base, prompts: Path | str) -> Base:
    return replace(base, spec=base.spec.model_copy(update={"prompts": str(prompts)}))


def test_prompts_are_the_lines_once_each(base: Base, tmp_path: Path) -> None:
    assert base.prompts() == ()
    file = tmp_path / "prompts.txt"
    file.write_text("a red house\n\n  two dogs \r\n\t\ncafé\na red house\n", encoding="utf-8-sig")
    assert _asked(base, file).prompts() == ("a red house", "two dogs", "café")


def test_a_prompts_file_is_found_beside_base_yaml(base_dir: Path, tmp_path: Path) -> None:
    content = yaml.safe_load((base_dir / "base.yaml").read_text()) | {"prompts": "asked.txt"}
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(content))
    (tmp_path / "asked.txt").write_text("a boat")
    assert load_base(tmp_path).prompts() == ("a boat",)


def test_a_prompts_file_that_cannot_be_read_is_named(base: Base, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_bytes(b"caf\xe9")
    for name in ("prompts.txt", "nowhere.txt"):
        with pytest.raises(BaseFolderError, match=f"prompts file .*{name} cannot") as raised:
            _asked(base, tmp_path / name).prompts()
        assert "\n" not in str(raised.value)


def test_no_base_and_no_yaml(tmp_path: Path) -> None:
    with pytest.raises(BaseFolderError, match=r"no base at .*nowhere"):
        load_base(tmp_path / "nowhere")
    with pytest.raises(BaseFolderError, match="no base at"):
        load_base(tmp_path)
    (tmp_path / "base.yaml").write_text("name: [")
    with pytest.raises(BaseFolderError, match="is not valid YAML") as raised:
        load_base(tmp_path)
    assert "\n" not in str(raised.value)


def test_an_encoder_in_half_precision_may_be_exported(base: Base) -> None:
    spec = base.spec.model_copy(update={"encoder_precision": "bfloat16"})
    half = replace(base, spec=spec, _loaded={})
    assert {each.dtype for each in half.text_encoder().parameters()} == {torch.bfloat16}
    half.check_exportable()
