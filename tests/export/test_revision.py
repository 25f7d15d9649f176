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
from unsee.deltas.edit import Edit, edited
from unsee.export import revision as revisions
from unsee.export.revision import part_of, write_revision
from unsee.export.version import read_export
from unsee.models.digest import tensors_digest
from unsee.repository.layout import REJECTED
from unsee.repository.records import GraphExport, ParityReport, RevisionRecord
from unsee.repository.revisions import put_away

BLIMBO = Concept(name="Blimbo", category="character", aliases=("the blue one",))


def fake_export(graph, model, version_dir: Path) -> GraphExport:
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


def an_edit(base, seed=0):
    """Of rank 4, and large enough to be seen."""
    size = base.text_encoder().config.hidden_size
    drawn = torch.Generator().manual_seed(seed)
    shapes = (size, 4), (4, size), (4,)
    return Edit(*(0.3 * torch.randn(shape, generator=drawn) for shape in shapes))


def tuned_encoder(base):
    encoder = copy.deepcopy(base.text_encoder())
    with torch.no_grad():
        encoder.get_input_embeddings().weight[:, ::2].mul_(1.5)
    return encoder


def run(file, **feeds):
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    assert {value.name for value in session.get_inputs()} == feeds.keys()
    return session.run(["prompt_embeds"], feeds)[0]


def test_an_edit_s_revision_is_small_and_agrees_with_its_golden_probe(exported, tmp_path):
    base = exported.base
    edit = an_edit(base)
    encoder = edited(base.text_encoder(), edit)
    card = SimpleNamespace(concept=BLIMBO, tensors_digest="sha256:abc")
    concept = PolicyConcept(concept="Blimbo", category="character", delta="/somewhere/blimbo")
    number = write_revision(encoder, "family", [concept], base, tmp_path, [card])
    assert number == 1
    folder = tmp_path / "policy_family" / "1"
    record = RevisionRecord.model_validate_json((folder / "revision.json").read_bytes())
    assert (record.policy, record.revision, record.kind) == ("family", 1, "edit")
    assert record.base_digest == base.digest()
    assert record.graph_digest == read_export(folder).sha256
    assert record.edit_digest == tensors_digest(edit.tensors())
    assert record.parity.difference <= record.parity.tolerance
    assert len(record.parity.sizes) == 3
    assert record.deltas[0].tensors_digest == "sha256:abc"
    assert "somewhere" not in (folder / "revision.json").read_text()
    assert (folder / "model.onnx").stat().st_size < 8000
    golden = load_file(folder / "golden.safetensors")
    ids, mask = golden["input_ids"], golden["attention_mask"]
    assert mask.min() == 1, "this base does not mask the padding"
    text_encoder = exported.repository_dir / "text_encoder" / "1" / "model.onnx"
    session = onnxruntime.InferenceSession(text_encoder, providers=["CPUExecutionProvider"])
    states = session.run(["states"], {"input_ids": ids, "attention_mask": mask})[0]
    answer = run(folder / "model.onnx", states=states, attention_mask=mask)
    np.testing.assert_allclose(answer, golden["prompt_embeds"], atol=1e-5)
    unedited = run(
        exported.repository_dir / "policy_base" / "1" / "model.onnx",
        states=states,
        attention_mask=mask,
    )
    assert np.abs(answer - unedited).max() > 1e-2
    assert {path.name for path in (tmp_path / "policy_family").iterdir()} == {
        ".write.lock",
        "1",
        "config.pbtxt",
    }


def test_tuned_weights_make_a_revision_of_the_whole_encoder(tiny_base, tmp_path):
    encoder = tuned_encoder(tiny_base)
    write_revision(
        edited(tiny_base.text_encoder(), an_edit(tiny_base)), "family", [], tiny_base, tmp_path, []
    )
    config = tmp_path / "policy_family" / "config.pbtxt"
    assert "all {" in config.read_text()
    assert write_revision(encoder, "family", [], tiny_base, tmp_path, []) == 2
    assert "all {" not in config.read_text(), "two borders in one configuration"
    folder = tmp_path / "policy_family" / "2"
    record = RevisionRecord.model_validate_json((folder / "revision.json").read_bytes())
    assert (record.kind, record.edit_digest) == ("encoder", tensors_digest(encoder.state_dict()))
    golden = load_file(folder / "golden.safetensors")
    ids, mask = golden["input_ids"], golden["attention_mask"]
    answer = run(folder / "model.onnx", input_ids=ids, attention_mask=mask)
    np.testing.assert_allclose(answer, golden["prompt_embeds"], atol=1e-5)


def test_the_bases_own_encoder_edits_nothing(tiny_base):
    part = part_of(tiny_base.text_encoder(), tiny_base)
    assert (part.kind, part.edit_digest) == ("edit", None)
    copied = part_of(copy.deepcopy(tiny_base.text_encoder()), tiny_base)
    assert copied.kind == "edit", "the same numbers in other places"


def test_a_policy_of_many_concepts_is_probed_with_what_fits_into_a_batch(
    tiny_base, tmp_path, quick_export
):
    concepts = [Concept(name=f"Concept {n}", category="character") for n in range(40)]
    write_revision(tiny_base.text_encoder(), "family", concepts, tiny_base, tmp_path, [])
    golden = load_file(tmp_path / "policy_family" / "1" / "golden.safetensors")
    assert len(golden["input_ids"]) == 16


def test_numbers_go_up_and_old_revisions_are_not_touched(tiny_base, tmp_path, quick_export):
    assert write(tiny_base, tmp_path) == 1
    file = tmp_path / "policy_family" / "1" / "revision.json"
    before = (file.stat().st_mtime_ns, file.read_bytes())
    assert write(tiny_base, tmp_path) == 2
    assert write(tiny_base, tmp_path, "studio") == 1
    assert (file.stat().st_mtime_ns, file.read_bytes()) == before


def test_a_number_that_was_put_away_is_never_used_again(tiny_base, tmp_path, quick_export):
    write(tiny_base, tmp_path)
    model_dir = tmp_path / "policy_family"
    put_away(model_dir / "1", REJECTED)
    assert write(tiny_base, tmp_path) == 2


def test_a_half_written_revision_is_no_revision(tiny_base, tmp_path, quick_export):
    half = tmp_path / "policy_family" / ".unfinished-0"
    half.mkdir(parents=True)
    (half / "model.onnx").write_bytes(b"half")
    assert write(tiny_base, tmp_path) == 1
    assert not half.exists()


def test_a_failed_export_takes_no_number(tiny_base, tmp_path, monkeypatch):
    def fail(graph, model, version_dir):
        (version_dir / "model.onnx").write_bytes(b"half")
        raise ParityError("differs")

    monkeypatch.setattr(revisions, "export_version", fail)
    with pytest.raises(ParityError):
        write(tiny_base, tmp_path)
    assert [p.name for p in (tmp_path / "policy_family").iterdir()] == [".write.lock"]
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
    folder = tmp_path / "policy_family"
    records = [json.loads(p.read_bytes()) for p in sorted(folder.glob("*/revision.json"))]
    assert [record["revision"] for record in records] == [1, 2, 3]
