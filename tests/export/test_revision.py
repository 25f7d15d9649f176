"""Revisions: numbered without gaps or repeats, immutable, and with all that a probe needs."""

from __future__ import annotations

import copy
import json
import subprocess
import threading
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.numpy import load_file

from unsee.core.errors import ParityError
from unsee.core.policy import Concept, PolicyConcept
from unsee.export import revision as revisions
from unsee.export.build import write_revision
from unsee.export.version import read_export
from unsee.repository.layout import REJECTED
from unsee.repository.records import GraphExport, ParityReport, RevisionRecord
from unsee.repository.revisions import put_away

BLIMBO = Concept(name="Blimbo", category="character", aliases=("the blue one",))


def fake_export(graph, model, version_dir: Path, save) -> GraphExport:
    (version_dir / "model.onnx").write_bytes(b"graph")
    return GraphExport(
        graph=graph.name,
        precision="float32",
        sha256="sha256:0",
        source_digest="sha256:1",
        opset=20,
        parity=ParityReport(tolerance=1e-4, unit="std", sizes=()),
        num_parameters=0,
        num_nodes=0,
        versions={},
        seconds={},
        peak_bytes={},
        created_at=datetime.now(UTC),
    )


@pytest.fixture
def quick_export(monkeypatch):
    monkeypatch.setattr(revisions, "export_version", fake_export)


def write(base, repository_dir, policy="family"):
    return write_revision(base.text_encoder(), policy, [BLIMBO], base, repository_dir, [])


def test_a_revision_is_complete_and_agrees_with_its_golden_probe(tiny_base, tmp_path):
    encoder = copy.deepcopy(tiny_base.text_encoder())
    with torch.no_grad():
        encoder.get_input_embeddings().weight[:, ::2].mul_(1.5)
    card = SimpleNamespace(concept=BLIMBO, tensors_digest="sha256:abc")
    concept = PolicyConcept(concept="Blimbo", category="character", delta="/somewhere/blimbo")
    number = write_revision(encoder, "family", [concept], tiny_base, tmp_path, [card])
    assert number == 1
    folder = tmp_path / "text_encoder_family" / "1"
    record = RevisionRecord.model_validate_json((folder / "revision.json").read_bytes())
    assert (record.policy, record.revision) == ("family", 1)
    assert record.base_digest == tiny_base.digest()
    assert record.encoder_digest == read_export(folder).sha256
    assert record.deltas[0].tensors_digest == "sha256:abc"
    assert "somewhere" not in (folder / "revision.json").read_text()
    golden = load_file(folder / "golden.safetensors")
    session = onnxruntime.InferenceSession(
        folder / "model.onnx", providers=["CPUExecutionProvider"]
    )
    answer = session.run(None, {"input_ids": golden["input_ids"]})[0]
    np.testing.assert_allclose(answer, golden["last_hidden_state"], atol=1e-5)
    with torch.no_grad():
        base_answer = tiny_base.text_encoder()(torch.from_numpy(golden["input_ids"]))
    assert np.abs(answer - base_answer.last_hidden_state.numpy()).max() > 1e-3
    assert {path.name for path in (tmp_path / "text_encoder_family").iterdir()} == {
        ".write.lock",
        "1",
        "config.pbtxt",
    }


def test_numbers_go_up_and_old_revisions_are_not_touched(tiny_base, tmp_path, quick_export):
    assert write(tiny_base, tmp_path) == 1
    file = tmp_path / "text_encoder_family" / "1" / "revision.json"
    before = (file.stat().st_mtime_ns, file.read_bytes())
    assert write(tiny_base, tmp_path) == 2
    assert write(tiny_base, tmp_path, "studio") == 1
    assert (file.stat().st_mtime_ns, file.read_bytes()) == before


def test_a_number_that_was_put_away_is_never_used_again(tiny_base, tmp_path, quick_export):
    write(tiny_base, tmp_path)
    model_dir = tmp_path / "text_encoder_family"
    put_away(model_dir / "1", REJECTED)
    assert write(tiny_base, tmp_path) == 2


def test_a_half_written_revision_is_no_revision(tiny_base, tmp_path, quick_export):
    half = tmp_path / "text_encoder_family" / ".unfinished-0"
    half.mkdir(parents=True)
    (half / "model.onnx").write_bytes(b"half")
    assert write(tiny_base, tmp_path) == 1
    assert not half.exists()


def test_a_failed_export_takes_no_number(tiny_base, tmp_path, monkeypatch):
    def fail(graph, model, version_dir, save):
        (version_dir / "model.onnx").write_bytes(b"half")
        raise ParityError("differs")

    monkeypatch.setattr(revisions, "export_version", fail)
    with pytest.raises(ParityError):
        write(tiny_base, tmp_path)
    assert [p.name for p in (tmp_path / "text_encoder_family").iterdir()] == [".write.lock"]
    monkeypatch.setattr(revisions, "export_version", fake_export)
    assert write(tiny_base, tmp_path) == 1


def test_threads_get_different_numbers(tiny_base, tmp_path, quick_export):
    tiny_base.digest()
    numbers: list[int] = []
    threads = [
        threading.Thread(target=lambda: numbers.append(write(tiny_base, tmp_path)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(numbers) == [1, 2, 3, 4]


WRITE_REVISION = """
import sys
from pathlib import Path
from unsee.export.revision import write_revision
from unsee.models.base import load_base

base = load_base(Path(sys.argv[1]))
write_revision(base.text_encoder(), "family", (), base, Path(sys.argv[2]), ())
"""


def test_processes_get_different_numbers(warm_python, tiny_base_dir, tmp_path):
    (program := tmp_path / "program.py").write_text(WRITE_REVISION)
    command = [*warm_python, str(program), str(tiny_base_dir), str(tmp_path)]
    processes = [subprocess.Popen(command) for _ in range(3)]
    assert [process.wait(timeout=300) for process in processes] == [0, 0, 0]
    folder = tmp_path / "text_encoder_family"
    records = [json.loads(p.read_bytes()) for p in sorted(folder.glob("*/revision.json"))]
    assert [record["revision"] for record in records] == [1, 2, 3]
