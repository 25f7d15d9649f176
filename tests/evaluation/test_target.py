"""Policy, delta or encoder: three ways to name one tuned encoder."""

import shutil
from pathlib import Path

import pytest
import torch
import yaml
from delta_fakes import delta_of, random_edit
from encoder_fakes import new_clip

from unsee.core.errors import InputError
from unsee.core.policy import Concept
from unsee.core.unlearning_settings import AnchoredMode
from unsee.deltas.composition import compose
from unsee.deltas.delta import Delta
from unsee.deltas.encoder_folder import save_encoder
from unsee.deltas.folder import save_delta
from unsee.evaluation.target import open_target
from unsee.models.base import Base
from unsee.models.digest import tensors_digest


@pytest.fixture
def policy_file(delta_dir: Path, tmp_path: Path) -> Path:
    entry = {"concept": "Blimbo", "category": "character", "delta": str(delta_dir)}
    content = {"name": "family", "unsee": [entry], "thresholds": {"samples_at_least": 2}}
    file = tmp_path / "family.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


def test_three_ways_to_one_encoder(
    base: Base, delta: Delta, delta_dir: Path, policy_file: Path, blimbo: Concept, tmp_path: Path
) -> None:
    encoder = compose(base.text_encoder(), [delta])
    encoder.save_pretrained(tmp_path / "tuned")
    by_policy = open_target(policy_file, base)
    by_delta = open_target(delta_dir, base)
    by_encoder = open_target(tmp_path / "tuned", base, blimbo)
    digests = {one.encoder_digest for one in (by_policy, by_delta, by_encoder)}
    assert digests == {tensors_digest(encoder.state_dict())}
    assert (by_policy.kind, by_policy.name) == ("policy", "family")
    assert (by_delta.kind, by_delta.name) == ("delta", "blimbo")
    assert (by_encoder.kind, by_encoder.name) == ("encoder", "tuned")
    assert by_delta.concepts == by_encoder.concepts == (blimbo,)
    assert type(by_policy.concepts[0]) is Concept  # without the delta's folder
    assert by_policy.thresholds.samples_at_least == 2
    assert by_delta.thresholds.samples_at_least == 8


def test_what_is_said_twice_or_not_at_all(
    base: Base, delta_dir: Path, policy_file: Path, blimbo: Concept, tmp_path: Path
) -> None:
    for path in (delta_dir, policy_file):
        with pytest.raises(InputError, match="leave out --concept"):
            open_target(path, base, blimbo)
    base.text_encoder().save_pretrained(tmp_path / "encoder")
    with pytest.raises(InputError, match="add --concept NAME"):
        open_target(tmp_path / "encoder", base)


def test_what_is_no_target(base: Base, blimbo: Concept, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no .*nothing; give a policy file"):
        open_target(tmp_path / "nothing", base)
    with pytest.raises(InputError, match="neither a policy file, nor a delta folder"):
        open_target(tmp_path, base)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match="no CLIPTextModel that can be loaded"):
        open_target(tmp_path, base, blimbo)
    with torch.random.fork_rng(devices=[]):
        new_clip(num_hidden_layers=1).save_pretrained(tmp_path / "shallow")
    with pytest.raises(InputError, match="other tensors than that of the base 'tiny'"):
        open_target(tmp_path / "shallow", base, blimbo)


def test_a_policy_that_lists_a_delta_as_another_concept(base: Base, policy_file: Path) -> None:
    policy_file.write_text(policy_file.read_text().replace("Blimbo", "Zorpik"))
    with pytest.raises(InputError, match="the policy lists it as the character 'Zorpik'"):
        open_target(policy_file, base)


def test_a_composed_encoder_is_taken_where_its_delta_is(
    base: Base, blimbo: Concept, tmp_path: Path
) -> None:
    delta = delta_of(base, random_edit().tensors(), method="anchored", settings=AnchoredMode())
    save_delta(delta, tmp_path / "delta")
    save_encoder(base, [delta], tmp_path / "encoder")
    by_delta = open_target(tmp_path / "delta", base)
    by_encoder = open_target(tmp_path / "encoder", base)
    assert by_encoder.concepts == by_delta.concepts
    ids = torch.arange(12)[None]
    meant = by_delta.text_encoder(ids).last_hidden_state
    assert torch.allclose(by_encoder.text_encoder(ids).last_hidden_state, meant, atol=0.02)
    (tmp_path / "plain").mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(tmp_path / "encoder" / name, tmp_path / "plain")
    by_name = open_target(tmp_path / "plain", base, blimbo)
    assert by_name.encoder_digest == by_encoder.encoder_digest
    with pytest.raises(InputError, match="leave out --concept"):
        open_target(tmp_path / "encoder", base, blimbo)
    record = (tmp_path / "encoder" / "unsee.json").read_text()
    (tmp_path / "encoder" / "unsee.json").write_text(record.replace(base.digest(), "sha256:0"))
    with pytest.raises(InputError, match="was composed for the base 'tiny'"):
        open_target(tmp_path / "encoder", base)
