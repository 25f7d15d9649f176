"""Deltas of tensors that a test made up, without any learning."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import pytest
from cryptography.hazmat.primitives import serialization as pem
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from unsee.core.errors import DeltaDamaged
from unsee.core.policy import Concept
from unsee.core.unlearning_settings import PaperMode

if TYPE_CHECKING:  # a quick run imports nothing of PyTorch
    import torch

    from unsee.deltas.delta import Delta
    from unsee.deltas.edit import Edit
    from unsee.models.base import Base

PrivateKey: TypeAlias = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey
BLIMBO = Concept(name="Blimbo", category="character", aliases=("Blimby",))


def delta_of(base: Base, tensors: dict[str, torch.Tensor], **card: object) -> Delta:
    """A delta of paper mode against Blimbo, unless `card` has other fields."""
    from unsee.deltas.delta import Card, Delta
    from unsee.models.digest import tensors_digest

    fields: dict[str, object] = {
        "base": base.name,
        "base_digest": base.digest(),
        "concept": BLIMBO,
        "method": "paper",
        "settings": PaperMode(),
        "seed": 0,
        "image_source": "given",
        "images_digest": "sha256:0",
        "prompts": (),
        "losses": (-1.0,),
        "stopped": "all 1 steps were taken",
        "versions": {},
        "seconds": {},
        "created_at": datetime(2026, 1, 1, tzinfo=UTC),
        "tensors_digest": tensors_digest(tensors),
    }
    return Delta(card=Card.model_validate(fields | card), tensors=tensors)


def random_edit(seed: int = 0, rank: int = 3, width: int = 32) -> Edit:
    """An edit of random directions, large enough to be seen; nearly a projection."""
    import torch

    from unsee.deltas.edit import Edit

    generator = torch.Generator().manual_seed(seed)
    up = torch.linalg.qr(torch.randn(width, rank, generator=generator)).Q.contiguous()
    down = up.T + 0.1 * torch.randn(rank, width, generator=generator)
    return Edit(up, down, torch.randn(rank, generator=generator))


def write_key_pair(
    folder: Path, name: str = "key", key: PrivateKey | None = None, password: str | None = None
) -> tuple[Path, Path]:
    """Write a private key, by default a new one, and its public key as PEM; the two files."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    locked = pem.BestAvailableEncryption(password.encode()) if password else pem.NoEncryption()
    private, public = folder / f"{name}.pem", folder / f"{name}.public.pem"
    private.write_bytes(key.private_bytes(pem.Encoding.PEM, pem.PrivateFormat.PKCS8, locked))
    content = key.public_key().public_bytes(pem.Encoding.PEM, pem.PublicFormat.SubjectPublicKeyInfo)
    public.write_bytes(content)
    return private, public


def write_manifest(folder: Path) -> None:
    """Write `manifest.json` as version 0.1 did: the digests of all files, the card's among them."""
    files = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = path.read_bytes()
        entry = {"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}
        files[path.relative_to(folder).as_posix()] = entry
    lines = "".join(f"{e['sha256']} {e['size_bytes']} {name}\n" for name, e in files.items())
    digest = f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}"
    manifest = {"schema_version": 1, "files": files, "digest": digest}
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")


def assert_flipped_bits_are_found(
    folder: Path, read: Callable[[Path], object], examples: int
) -> None:
    """`read` refuses `folder`, naming the file, whichever bit of whichever of its files changes."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())

    @given(st.data())
    @settings(max_examples=examples, deadline=None)
    def check(data: st.DataObject) -> None:
        file = data.draw(st.sampled_from(files))
        content = file.read_bytes()
        position = data.draw(st.integers(0, len(content) - 1))
        changed = bytes([content[position] ^ 1 << data.draw(st.integers(0, 7))])
        file.write_bytes(content[:position] + changed + content[position + 1 :])
        try:
            with pytest.raises(DeltaDamaged) as refusal:
                read(folder)
        finally:
            file.write_bytes(content)
        assert str(refusal.value).startswith(f"{file} ")

    check()
    read(folder)
