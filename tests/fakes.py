"""Writes a complete, loadable base of tiny random-weight models, for tests only.

It knows diffusers' folder layout and nothing of Unsee: what it writes is an ordinary
`StableDiffusionPipeline` folder and an ordinary `TextToVideoSDPipeline` folder beside a
`base.yaml`. The images that such a base makes mean nothing; everything else is real.
"""

import functools
import json
from pathlib import Path
from typing import Any

import torch
import yaml
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel, UNet3DConditionModel
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

HIDDEN_SIZE = 32
LATENT_CHANNELS = 4
MODEL_MAX_LENGTH = 48


def write_tiny_base(
    folder: Path,
    *,
    seed: int = 0,
    prediction_type: str = "v_prediction",
    num_hidden_layers: int = 2,
) -> Path:
    """Write `base.yaml`, `t2i/` and `t2v/` into `folder` and return `folder`.

    Frames are 64x64 (8x8 latents of 4 channels), the embeddings [48, 32] per prompt. `t2v/` shares
    tokenizer, text encoder and VAE with `t2i/` through relative links. Every tensor of the UNets
    and the VAE is random, those that diffusers starts at zero too, so that no branch is dead. Equal
    arguments write equal weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tokenizer = _tokenizer()
        text_encoder = tiny_text_encoder(num_hidden_layers=num_hidden_layers, tokenizer=tokenizer)
        components = {
            "text_encoder": text_encoder,
            "vae": _randomised(_vae()),
            "unet": _randomised(_image_unet()),
        }
        video_unet = _randomised(_video_unet())
    scheduler = _scheduler(prediction_type)

    t2i, t2v = folder / "t2i", folder / "t2v"
    for name, component in components.items():
        component.save_pretrained(t2i / name)
    tokenizer.save_pretrained(t2i / "tokenizer")
    scheduler.save_pretrained(t2i / "scheduler")
    video_unet.save_pretrained(t2v / "unet")
    scheduler.save_pretrained(t2v / "scheduler")
    for name in ("tokenizer", "text_encoder", "vae"):
        (t2v / name).symlink_to(Path("../t2i") / name, target_is_directory=True)
    _write_json(t2i / "model_index.json", _t2i_index())
    _write_json(t2v / "model_index.json", _t2v_index())
    (folder / "base.yaml").write_text(yaml.safe_dump(_base_yaml(), sort_keys=False))
    return folder


def tiny_text_encoder(
    *, num_hidden_layers: int = 2, tokenizer: CLIPTokenizer | None = None
) -> CLIPTextModel:
    """A random `CLIPTextModel` of the given depth, from torch's global generator."""
    tokenizer = tokenizer or _tokenizer()
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=HIDDEN_SIZE,
        intermediate_size=2 * HIDDEN_SIZE,
        projection_dim=HIDDEN_SIZE,
        num_hidden_layers=num_hidden_layers,
        num_attention_heads=4,
        max_position_embeddings=tokenizer.model_max_length,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModel(config).eval()


@functools.cache
def _tokenizer() -> CLIPTokenizer:
    symbols = sorted(ByteLevel.alphabet())
    tokens = [*symbols, *(f"{symbol}</w>" for symbol in symbols)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=MODEL_MAX_LENGTH)


def _vae() -> AutoencoderKL:
    return AutoencoderKL(
        sample_size=64,
        latent_channels=LATENT_CHANNELS,
        block_out_channels=(8, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        norm_num_groups=4,
        scaling_factor=0.5,
    )


def _image_unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=(16, 32),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=HIDDEN_SIZE,
        attention_head_dim=8,
        norm_num_groups=8,
    )


def _video_unet() -> UNet3DConditionModel:
    return UNet3DConditionModel(
        sample_size=8,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=(16, 32),
        down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
        up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
        layers_per_block=1,
        cross_attention_dim=HIDDEN_SIZE,
        attention_head_dim=8,
        norm_num_groups=8,
    )


def _scheduler(prediction_type: str) -> DDIMScheduler:
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        prediction_type=prediction_type,
        rescale_betas_zero_snr=prediction_type == "v_prediction",
        timestep_spacing="trailing",
        steps_offset=1,
    )


def _randomised(module: torch.nn.Module) -> Any:
    for parameter in module.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    return module.eval()


def _t2i_index() -> dict[str, object]:
    return {
        "_class_name": "StableDiffusionPipeline",
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
        "requires_safety_checker": False,
        "safety_checker": [None, None],
        "scheduler": ["diffusers", "DDIMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }


def _t2v_index() -> dict[str, object]:
    return {
        "_class_name": "TextToVideoSDPipeline",
        "scheduler": ["diffusers", "DDIMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet3DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }


def _base_yaml() -> dict[str, object]:
    return {
        "name": "tiny",
        "t2i": "t2i",
        "t2v": "t2v",
        "clip": {
            "num_frames": 4,
            "height": 64,
            "width": 64,
            "fps": 8,
            "num_inference_steps": 3,
            "guidance_scale": 3.5,
        },
        "limits": {
            "num_frames": 8,
            "height": [64, 64],
            "width": [64, 64],
            "num_inference_steps": 5,
            "guidance_scale": 20.0,
        },
        "unlearn": {"paper": {"learning_rate": 1.0e-3, "epochs": 2}},
    }


def change_json(file: Path, **fields: Any) -> None:
    """Set fields of the object in a JSON file."""
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def change_yaml(file: Path, **fields: Any) -> None:
    """Set fields of the mapping in a YAML file."""
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | fields))


def _write_json(path: Path, content: dict[str, object]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")
