"""Every name and path in a model repository.

    policies.json                   which revision of each policy is active (`POINTER_FILE`)
    audit.jsonl, incidents.jsonl    who changed what; what died and was replaced
    engines.json                    what computes the graphs on this machine, and why
    text_encoder/, video_denoiser/, vae_decoder/    the base's graphs, each with its version 1
    vae_decoder_next/               the later latent frames, of an autoencoder that decodes in order
    policy_<name>/                  what a policy makes of the text encoder's states
        config.pbtxt
        <N>/                        its revision N, see `unsee.repository.revisions`
    prompt_encoder/                 the model that runs all policies
    text_to_video/                  the model that callers use
        config.pbtxt
        1/                          its code
        assets/                     what it reads
    .retired/, .rejected/           revisions that are not served any more, by model
    .locks/<policy>                 who is changing the policy's revisions

`text_to_video` can import nothing of Unsee, so this file lies beside it and needs the standard
library alone; that of `prompt_encoder` and `unsee.repository.layout` are links to it.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

POINTER_FILE = "policies.json"
POINTER_LOCK_FILE = ".policies.json.lock"
AUDIT_FILE = "audit.jsonl"
INCIDENTS_FILE = "incidents.jsonl"
ENGINES_FILE = "engines.json"
LOCKS_DIR = ".locks"
RETIRED, REJECTED = ".retired", ".rejected"
HEARTBEAT_FILE = ".following"
"""Touched by a replica's follower at every look: found old, nobody follows any more."""

TEXT_ENCODER, VIDEO_DENOISER, VAE_DECODER = "text_encoder", "video_denoiser", "vae_decoder"
PROMPT_ENCODER, TEXT_TO_VIDEO = "prompt_encoder", "text_to_video"
VAE_DECODER_NEXT = "vae_decoder_next"
GRAPH_MODELS = (TEXT_ENCODER, VIDEO_DENOISER, VAE_DECODER)
"""The graphs that every base has."""
SERVED_MODELS = (*GRAPH_MODELS, PROMPT_ENCODER, TEXT_TO_VIDEO)
"""What a server loads whatever the base; a policy's revisions are opened by `prompt_encoder`."""
VERSION = 1
"""The only version of every model but the policies; the base's policy has no other either."""
_POLICY_PREFIX = "policy_"

CONFIG_FILE = "config.pbtxt"
MODEL_FILE = "model.onnx"
WEIGHTS_FILE = "model.onnx.data"
PLAN_FILE = "model.plan"
EXPORT_FILE = "export.json"
REVISION_FILE = "revision.json"
GOLDEN_FILE = "golden.safetensors"
REPORT_FILE, REPORT_PAGE_FILE = "report.json", "report.html"

CODE_FILE = "model.py"
BASE_FILE, TOKENIZER_FILE, SAMPLERS_FILE = "base.json", "tokenizer.json", "samplers.safetensors"
ASSETS = (BASE_FILE, TOKENIZER_FILE, SAMPLERS_FILE)


def policy_model(policy: str) -> str:
    """The name of the Triton model whose versions are the revisions of `policy`."""
    return f"{_POLICY_PREFIX}{policy}"


def policy_dirs(repository_dir: Path) -> dict[str, Path]:
    """The folder of every policy that there is, by policy in alphabetical order."""
    folders = sorted(repository_dir.glob(f"{_POLICY_PREFIX}*"))
    return {folder.name.removeprefix(_POLICY_PREFIX): folder for folder in folders}


def version_dir(repository_dir: Path, model: str, version: int = VERSION) -> Path:
    """The folder of one version of a Triton model."""
    return repository_dir / model / str(version)


def revision_dir(repository_dir: Path, policy: str, revision: int) -> Path:
    """The folder of a policy's revision."""
    return version_dir(repository_dir, policy_model(policy), revision)


def assets_dir(repository_dir: Path) -> Path:
    """The folder of what `text_to_video` reads."""
    return repository_dir / TEXT_TO_VIDEO / "assets"


def base_file(repository_dir: Path) -> Path:
    """The record of the base that the repository was exported from."""
    return assets_dir(repository_dir) / BASE_FILE


def archive_dir(model_dir: Path, archive: str) -> Path:
    """The folder of `archive` (RETIRED or REJECTED) that holds revisions of `model_dir`."""
    return model_dir.parent / archive / model_dir.name


def graph_files(version_dir: Path) -> list[Path]:
    """model.onnx and the weights beside it, if there are."""
    weights = version_dir / WEIGHTS_FILE
    return [version_dir / MODEL_FILE, *([weights] if weights.exists() else [])]


def graph_digest(version_dir: Path) -> str:
    """`"sha256:…"` over the bytes of `graph_files`, one after the other; raises OSError."""
    sha256 = hashlib.sha256()
    for file in graph_files(version_dir):
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                sha256.update(block)
    return f"sha256:{sha256.hexdigest()}"
