"""A revision whose files are not what its records say is refused, and the file is named."""

import json

import numpy as np
import pytest

from publish_fakes import GOLDEN, fill_revision, write_repository
from unsee.core.errors import RevisionUnfit
from unsee.repository.revisions import check_files, golden, versions_on_disk


@pytest.fixture
def repository(tmp_path):
    return write_repository(tmp_path / "repository", family=2)


@pytest.fixture
def folder(repository):
    return repository / "policy_family" / "2"


def rewrite(file, **fields):
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def test_a_whole_revision_passes(repository, folder):
    assert check_files(repository, "family", 2) == folder
    np.testing.assert_array_equal(golden(folder)["input_ids"], GOLDEN["input_ids"])


def test_external_weights_belong_to_the_graph(repository, folder):
    (folder / "model.onnx.data").write_bytes(b"weights")
    with pytest.raises(RevisionUnfit, match=r"2/model\.onnx with .*2/model\.onnx\.data has the"):
        check_files(repository, "family", 2)
    fill_revision(folder, "family", 2, weights=b"weights")
    assert check_files(repository, "family", 2) == folder
    (folder / "model.onnx.data").write_bytes(b"Weights")
    with pytest.raises(RevisionUnfit, match="was changed or damaged"):
        check_files(repository, "family", 2)


@pytest.mark.parametrize("name", ["model.onnx", "export.json", "revision.json"])
@pytest.mark.parametrize("content", [None, b"", b"{}", b"[]", b"\xff"])
def test_a_missing_or_broken_file_is_named(repository, folder, name, content):
    (folder / name).unlink() if content is None else (folder / name).write_bytes(content)
    with pytest.raises(RevisionUnfit, match=rf"2/{name}"):
        check_files(repository, "family", 2)


@pytest.mark.parametrize(
    "field",
    [{"policy": "studio"}, {"revision": 1}, {"graph_digest": "sha256:0"}],
)
def test_a_record_of_another_revision_is_named(repository, folder, field):
    rewrite(folder / "revision.json", **field)
    with pytest.raises(RevisionUnfit, match=rf"revision\.json says {next(iter(field))}"):
        check_files(repository, "family", 2)


def test_a_revision_of_another_base_is_refused(repository, folder):
    rewrite(folder / "revision.json", base_digest="sha256:another base")
    with pytest.raises(RevisionUnfit, match=r"another base .*sha256:another base, not sha256:0"):
        check_files(repository, "family", 2)


@pytest.mark.parametrize("content", [None, b"", b"rubbish"])
def test_a_missing_or_broken_golden_answer_is_named(folder, content):
    file = folder / "golden.safetensors"
    file.unlink() if content is None else file.write_bytes(content)
    with pytest.raises(RevisionUnfit, match=r"golden\.safetensors cannot be read"):
        golden(folder)


def test_a_folder_that_is_called_otherwise_is_no_revision(folder):
    before = versions_on_disk(folder.parent)
    for name in ("²", "٣", "notes"):
        (folder.parent / name).mkdir()
    assert versions_on_disk(folder.parent) == before
