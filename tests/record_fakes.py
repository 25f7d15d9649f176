"""Records of a repository as the exporter writes them, with values that a test may choose."""

from datetime import UTC, datetime

from unsee.core.policy import Concept
from unsee.repository.records import AuditEvent, GraphExport, ParityReport, RevisionRecord

PARITY = ParityReport(tolerance=1e-4, unit="std", sizes=())
MADE_AT = datetime(2026, 1, 1, tzinfo=UTC)
DIGEST = "sha256:" + "0" * 64


def graph_export(sha256=DIGEST, **changes):
    """A whole `export.json`."""
    fields = {
        "graph": "text_encoder",
        "precision": "float32",
        "sha256": sha256,
        "source_digest": DIGEST,
        "opset": 20,
        "parity": PARITY,
        "num_parameters": 1,
        "num_nodes": 1,
        "versions": {},
        "seconds": {},
        "peak_bytes": {},
        "created_at": MADE_AT,
    }
    return GraphExport(**(fields | changes))


def revision_record(policy="family", revision=1, graph_digest=DIGEST, unsees=(), **changes):
    """A whole `revision.json` of an edit; `unsees` are names of characters."""
    fields = {
        "policy": policy,
        "revision": revision,
        "kind": "edit",
        "concepts": tuple(Concept(name=name, category="character") for name in unsees),
        "base": "fake",
        "base_digest": DIGEST,
        "edit_digest": f"sha256:edit {revision} of {policy}" if unsees else None,
        "graph_digest": graph_digest,
        "deltas": (),
        "parity": PARITY,
        "created_at": MADE_AT,
    }
    return RevisionRecord(**(fields | changes))


def audit_event(**changes):
    """A line of `audit.jsonl`: revision 2 of `family` was published."""
    fields = {"action": "publish", "policy": "family", "revision": 2}
    digests = {"encoder_digest": None, "report_digest": None}
    return AuditEvent(**(fields | digests | changes))


def base_record(**changes):
    """A whole `base.json`, as JSON values; `changes` replace sections or fields of them."""
    record = {
        "schema_version": 3,
        "name": "fake",
        "digest": DIGEST,
        "prompt": {"masks_padding": False, "padding": "read", "cleans": False},
        "latents": {"channels": 4, "vae_scale": 8, "frames_per_latent": 1},
        "defaults": {
            "num_frames": 2,
            "height": 16,
            "width": 16,
            "fps": 8,
            "num_inference_steps": 4,
            "guidance_scale": 3.5,
            "scheduler": "DDIMScheduler",
        },
        "limits": {
            "num_frames": [1, 6],
            "height": [16, 32],
            "width": [16, 32],
            "size_multiple": 8,
            "num_inference_steps": [1, 12],
            "guidance_scale": [0.0, 20.0],
            "prompt_tokens": 48,
        },
        "schedulers": ["DDIMScheduler"],
        "graphs": {},
        "largest_clip_bytes": 0,
    }
    for name, value in changes.items():
        record[name] = record[name] | value if isinstance(value, dict) else value
    return record
