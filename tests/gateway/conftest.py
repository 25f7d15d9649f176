"""Gateways before a fake Triton, each stopped after its test."""

import json
from pathlib import Path

import pytest
from gateway_calls import gateways

from record_fakes import audit_event, base_record, revision_record
from unsee.repository import ledger

BASE = base_record(
    name="tiny",
    defaults={"num_inference_steps": 3},
    limits={
        "num_frames": [1, 32],
        "height": [16, 64],
        "width": [16, 64],
        "size_multiple": 16,
        "num_inference_steps": [1, 50],
    },
)


serve = pytest.fixture(gateways, name="serve")
"""Starts gateways with settings of the test's own."""
serve_all = pytest.fixture(gateways, name="serve_all", scope="module")
"""Starts gateways for tests that leave no trace in them, such as those of refused requests."""


@pytest.fixture(autouse=True)
def _no_token_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("UNSEE_TOKEN", "UNSEE_TLS", "UNSEE_CA_CERTIFICATE"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return write_repository(tmp_path / "repository")


@pytest.fixture(scope="module")
def repository_of_all(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository for the gateways of `serve_all`."""
    return write_repository(tmp_path_factory.mktemp("shared") / "repository")


def write_repository(folder: Path) -> Path:
    """A repository's records: `family` passed its gate and has a report, `studio-x` was forced."""
    concepts = {"base": [], "family": ["Blimbo"], "studio-x": ["Van Gogh"]}
    for policy, names in concepts.items():
        version = folder / f"policy_{policy}" / "2"
        version.mkdir(parents=True)
        edit_digest = "sha256:aa" if names else None
        record = revision_record(policy, 2, unsees=names, edit_digest=edit_digest)
        (version / "revision.json").write_text(record.model_dump_json())
    report = "<!doctype html><title>Report</title><style>h1{color:red}</style><h1>Passed</h1>"
    (folder / "policy_family" / "2" / "report.html").write_text(report)
    (folder / "text_to_video" / "assets").mkdir(parents=True)
    (folder / "text_to_video" / "assets" / "base.json").write_text(json.dumps(BASE))
    state = {"active": 2, "eligible": [1, 2], "history": [1, 2]}
    pointer = {"schema_version": 2, "policies": dict.fromkeys(concepts, state)}
    (folder / "policies.json").write_text(json.dumps(pointer))
    for policy, unmet in (("family", ()), ("studio-x", ("too few samples",))):
        ledger.note(folder, audit_event(policy=policy, forced=bool(unmet), unmet=unmet))
    return folder
