"""The table of the subcommands: where each lives, what it is for, which extra it needs.

Imports none of their modules.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from unsee.core.errors import InputError


@dataclass(frozen=True)
class Subcommand:
    """Where a subcommand lives, its line in `unsee --help`, and the extra that it needs."""

    module: str
    summary: str
    extra: str | None = None


GROUPS: Mapping[str, Mapping[str, Subcommand]] = {
    "Learn": {
        "unlearn": Subcommand(
            "unsee.jobs.cli",
            "Learn to unsee concepts: write a delta for each.",
            "train",
        ),
        "base": Subcommand(
            "unsee.jobs.base_cli", "Check a base's folder, or convert its weights.", "train"
        ),
        "delta": Subcommand(
            "unsee.jobs.delta_cli", "Show what a delta is, or check its files.", "train"
        ),
        "apply": Subcommand(
            "unsee.jobs.apply_cli", "Write a whole text encoder for other programs.", "train"
        ),
    },
    "Measure": {
        "evaluate": Subcommand(
            "unsee.evaluation.cli",
            "Measure what a policy forgot and what it kept.",
            "evaluate",
        ),
    },
    "Serve": {
        "export": Subcommand(
            "unsee.export.cli", "Export a base once, into a Triton model repository.", "export"
        ),
        "serve": Subcommand("unsee.serving.cli", "Start Triton on a model repository.", "serve"),
        "publish": Subcommand(
            "unsee.policies.cli", "Build a policy's next revision and try it.", "export"
        ),
        "promote": Subcommand(
            "unsee.policies.cli", "Make a revision the one that new requests use."
        ),
    },
    "Operate": {
        "policies": Subcommand("unsee.policies.cli", "List policies and their revisions."),
        "status": Subcommand("unsee.gateway.status_cli", "Show a service on one screen."),
        "history": Subcommand("unsee.policies.revision_cli", "Show who changed what, and why."),
        "rollback": Subcommand("unsee.policies.cli", "Go back to the revision before."),
        "retire": Subcommand(
            "unsee.policies.revision_cli", "Take an old revision out of the service."
        ),
        "repair": Subcommand("unsee.policies.revision_cli", "Put right what a crash has left."),
        "gateway": Subcommand(
            "unsee.gateway.cli",
            "Stand between callers and Triton: policies, limits, metrics.",
            "gateway",
        ),
        "follow": Subcommand(
            "unsee.policies.following.cli",
            "Keep one of several servers in step with a shared store.",
            "serve",
        ),
    },
    "Use": {
        "generate": Subcommand("unsee.cli.generate", "Ask the server for clips."),
    },
    "This command": {
        "completion": Subcommand("unsee.cli.completion", "Print a shell's completion."),
        "version": Subcommand("unsee.cli.version", "Say what is installed."),
    },
}
"""In the order of the work."""

SUBCOMMANDS = {name: found for group in GROUPS.values() for name, found in group.items()}

EXTRA_OF_MODULE = {
    "accelerate": "train",
    "diffusers": "train",
    "huggingface_hub": "train",
    "safetensors": "train",
    "tokenizers": "train",
    "torch": "train",
    "transformers": "train",
    "jinja2": "evaluate",
    "markupsafe": "evaluate",
    "matplotlib": "evaluate",
    "onnx": "export",
    "onnx_ir": "export",
    "onnxruntime": "export",
    "onnxscript": "export",
    "openvino": "export",
    "pytriton": "serve",
    "h11": "gateway",
    "prometheus_client": "gateway",
    "python_multipart": "gateway",
    "starlette": "gateway",
    "uvicorn": "gateway",
    "cryptography": "sign",
    "model_signing": "sign",
    "tensorboardX": "tensorboard",
    "c2pa": "provenance",
}
"""The extra that brings a package, if the subcommand names none of its own."""

OWN_EXTRAS = ("sign", "tensorboard", "provenance")
"""What only an option of a subcommand needs: the subcommand's own extra does not bring it."""


def missing_extra(module: str, subcommand: str) -> InputError | None:
    """The sentence that says which install brings `module`; None when it is not one of ours."""
    package = module.partition(".")[0]
    if package not in EXTRA_OF_MODULE:
        return None
    extra = EXTRA_OF_MODULE[package]
    known = SUBCOMMANDS.get(subcommand)
    if known is not None and known.extra is not None:
        extra = f"{known.extra},{extra}" if extra in OWN_EXTRAS else known.extra
    return InputError(
        f'this command needs {package}; install it with: pip install "unsee[{extra}]"'
    )


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean X?` for the nearest of `known`, or nothing when none is near."""
    nearest = get_close_matches(word, list(known), n=1)
    return f"; did you mean {nearest[0]}?" if nearest else ""
