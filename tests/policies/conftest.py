"""What publishing works on: policy, repository, report, and stand-ins for base and exporter."""

import json
from types import SimpleNamespace

import pytest
from safetensors.numpy import save_file

from publish_fakes import GOLDEN
from report_fakes import BASE_DIGEST, ENCODER_DIGEST, fake_report
from unsee.serving import pointer, publish


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A policy file, its good report, a repository and an exporter of revision after revision."""
    repository = tmp_path / "repository"
    (repository / "text_to_video" / "assets").mkdir(parents=True)
    base_dir = repository / "text_encoder_base" / "1"
    base_dir.mkdir(parents=True)
    (base_dir / "model.onnx").write_bytes(b"healthy")
    state = {"active": 1, "eligible": [1], "history": [1]}
    content = {"schema_version": 1, "default_policy": None, "policies": {"base": state}}
    (repository / pointer.POINTER_FILE).write_text(json.dumps(content))
    (tmp_path / "blimbo").mkdir()
    policy_file = tmp_path / "family.yaml"
    policy_file.write_text(
        "name: family\nunsee:\n  - {concept: Blimbo, category: character, delta: blimbo}\n"
    )
    report = tmp_path / "report"
    report.mkdir()
    (report / "report.json").write_text(fake_report().model_dump_json())
    base = SimpleNamespace(digest=lambda: BASE_DIGEST)
    written, composed = [], []

    def compose(policy, base_path, repository_dir, say):
        composed.append(policy.name)
        return publish.Composed(base, [], None, ENCODER_DIGEST)

    def write_revision(policy, composed, repository_dir, eligible, say):
        revision = len(written) + 1
        folder = repository_dir / f"text_encoder_{policy.name}" / str(revision)
        folder.mkdir(parents=True)
        save_file(GOLDEN, folder / "golden.safetensors")
        written.append(revision)
        return revision

    monkeypatch.setattr(publish, "_compose", compose)
    monkeypatch.setattr(publish, "_write_revision", write_revision)
    return SimpleNamespace(
        policy=policy_file,
        repository=repository,
        written=written,
        composed=composed,
        base=tmp_path / "base",
        report=report / "report.json",
    )
