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
from encoder_fakes import clip_tokenizer, new_clip
from tokenizers import AddedToken
from transformers import CLIPTextModel, CLIPTokenizer

LATENT_CHANNELS = 4
_NO_CHECKER = {
    "feature_extractor": [None, None],
    "image_encoder": [None, None],
    "requires_safety_checker": False,
    "safety_checker": [None, None],
}


def write_tiny_base(folder: Path, *, seed: int = 0, prediction_type: str = "v_prediction") -> Path:
    """Write `base.yaml`, `t2i/` and `t2v/` into `folder` and return `folder`.

    Frames are 64x64 (8x8 latents of 4 channels), the embeddings [48, 32] per prompt. `t2v/` shares
    tokenizer, text encoder and VAE with `t2i/` through relative links. Every tensor of the UNets
    and the VAE is random, those that diffusers starts at zero too, so that no branch is dead. Equal
    arguments write equal weights.
    """
    shared, image_unet, video_unet = _parts(seed)
    own = {"scheduler": _scheduler(prediction_type)}
    images, videos = own | shared | {"unet": image_unet}, own | shared | {"unet": video_unet}

    t2i, t2v = folder / "t2i", folder / "t2v"
    for name, component in images.items():
        component.save_pretrained(t2i / name)
    for name in own | {"unet": video_unet}:
        videos[name].save_pretrained(t2v / name)
    for name in shared:
        (t2v / name).symlink_to(Path("../t2i") / name, target_is_directory=True)
    _write_index(t2i, images, _class_name="StableDiffusionPipeline", **_NO_CHECKER)
    _write_index(t2v, videos, _class_name="TextToVideoSDPipeline")
    spec = {"name": "tiny", "t2i": "t2i", "t2v": "t2v"}
    spec |= clips(64, 8, num_frames=4, num_inference_steps=3, guidance_scale=3.5)
    spec |= {"unlearn": {"paper": {"learning_rate": 1.0e-3, "epochs": 2}}}
    (folder / "base.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))
    return folder


@functools.cache
def _parts(seed: int) -> tuple[dict[str, Any], Any, Any]:
    """What both pipelines share, and the UNet of each; to be saved only."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        shared = {"tokenizer": clip_tokenizer(), "text_encoder": new_clip(), "vae": alive(_vae())}
        image_unet = alive(_unet(UNet2DConditionModel, "2D"))
        return shared, image_unet, alive(_unet(UNet3DConditionModel, "3D"))


def alive(module: Any) -> Any:
    """`module` with no tensor of it zero, to be evaluated."""
    for parameter in module.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    return module.eval()


def clips(side: int, most_frames: int, **clip: Any) -> dict[str, Any]:
    """`clip` and `limits` of a `base.yaml` of square clips, of a size that cannot be chosen."""
    return {
        "clip": {"height": side, "width": side, "fps": 8, **clip},
        "limits": {
            "num_frames": most_frames,
            "height": [side, side],
            "width": [side, side],
            "num_inference_steps": 5,
            "guidance_scale": 20.0,
        },
    }


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


def _unet(kind: type[Any], dimensions: str) -> Any:
    return kind(
        sample_size=8,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=(16, 32),
        down_block_types=(f"CrossAttnDownBlock{dimensions}", f"DownBlock{dimensions}"),
        up_block_types=(f"UpBlock{dimensions}", f"CrossAttnUpBlock{dimensions}"),
        layers_per_block=1,
        cross_attention_dim=32,
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


def _write_index(folder: Path, components: dict[str, Any], **fields: Any) -> None:
    kinds = {name: type(one) for name, one in components.items()}
    index = {name: [one.__module__.partition(".")[0], one.__name__] for name, one in kinds.items()}
    (folder / "model_index.json").write_text(json.dumps(fields | index, indent=2) + "\n")


def add_words(folder: Path, *words: str) -> None:
    """Give the base's tokenizer a token more for each word, and its text encoder a row."""
    tokenizer = CLIPTokenizer.from_pretrained(folder / "t2i/tokenizer")
    tokenizer.add_tokens([AddedToken(word, single_word=True, normalized=True) for word in words])
    tokenizer.save_pretrained(folder / "t2i/tokenizer")
    encoder = CLIPTextModel.from_pretrained(folder / "t2i/text_encoder")
    encoder.resize_token_embeddings(len(tokenizer))
    encoder.save_pretrained(folder / "t2i/text_encoder")


def change_json(file: Path, **fields: Any) -> None:
    """Set fields of the object in a JSON file."""
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def change_yaml(file: Path, **fields: Any) -> None:
    """Set fields of the mapping in a YAML file."""
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | fields))
