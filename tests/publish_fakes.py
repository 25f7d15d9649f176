"""A Triton of a few lines that hosts a repository's policies, and revisions to publish with it.

The fake answers for a revision as `prompt_encoder` does: it opens the file when it is asked, and
looks among the retired ones if it is not in its policy's folder any more. What a graph is, its
first word says: `good`, `wrong` (answers something else) or `broken` (cannot be opened).
"""

import hashlib
import json
import struct

import grpc
import numpy as np
from safetensors.numpy import save_file
from tritonclient.grpc import service_pb2
from wire_fakes import LocalServer

from record_fakes import base_record, graph_export, revision_record
from unsee.core.files import locked, new_folder
from unsee.repository.layout import RETIRED, archive_dir, policy_model, revision_dir
from unsee.repository.revisions import next_revision

GOLDEN = {
    "input_ids": np.arange(6, dtype=np.int64).reshape(1, 6),
    "attention_mask": np.ones((1, 6), np.int64),
    "prompt_embeds": np.linspace(-2, 2, 24, dtype=np.float32).reshape(1, 6, 4),
}
LIMITS = {"num_inference_steps": [1, 50], "num_frames": [1, 8], "height": [8, 64], "width": [8, 64]}
UNHEALTHY = "Stub process 'prompt_encoder_0_0' is not healthy."


class FakeTriton(LocalServer):
    """Serves `repository` at `url` until `stop`.

    While `dead`, the process of `prompt_encoder` does not answer, until the model is loaded again.
    `calls` names what was asked for, in order.
    """

    def __init__(self, repository):
        self.repository = repository
        self.dead, self.calls = False, []
        super().__init__()

    def RepositoryModelLoad(self, request, context):
        self.calls.append(("load", request.model_name))
        self.dead = False
        return service_pb2.RepositoryModelLoadResponse()

    def ModelMetadata(self, request, context):
        response = service_pb2.ModelMetadataResponse(name=request.name, versions=["1"])
        response.inputs.add(name="policy", datatype="BYTES", shape=[-1, 1])
        return response

    def ModelInfer(self, request, context):
        assert request.model_name == "prompt_encoder"
        values = {
            tensor.name: raw
            for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True)
        }
        policy = values["policy"][4:].decode()
        if self.dead:
            context.abort(grpc.StatusCode.INTERNAL, UNHEALTHY)
        if not policy:
            context.abort(grpc.StatusCode.INTERNAL, "INVALID_ARGUMENT: '' is no name of a policy")
        revision = struct.unpack("<q", values["revision"])[0]
        self.calls.append(("probe", policy, revision))
        for name in ("input_ids", "attention_mask"):
            assert values[name] == GOLDEN[name].tobytes()
        word = self._word(policy, revision)
        if word != b"good" and word != b"wrong":
            message = f"UNAVAILABLE: revision {revision} of the policy {policy} cannot be opened"
            context.abort(grpc.StatusCode.INTERNAL, message)
        embeds = GOLDEN["prompt_embeds"] + (word == b"wrong")
        response = service_pb2.ModelInferResponse(model_name=request.model_name)
        response.outputs.add(name="prompt_embeds", datatype="FP32", shape=embeds.shape)
        response.raw_output_contents.append(embeds.astype(np.float32).tobytes())
        return response

    def _word(self, policy, revision):
        folder = revision_dir(self.repository, policy, revision)
        for place in (folder, archive_dir(folder.parent, RETIRED) / folder.name):
            if (place / "model.onnx").is_file():
                return (place / "model.onnx").read_bytes().split()[0]
        return b"gone"


def fill_revision(version_dir, policy, revision, graph="good", weights=b""):
    """Write what the exporter writes, with a graph of a few words and, if given, weights."""
    data = f"{graph} graph of revision {revision} of {policy}".encode()
    (version_dir / "model.onnx").write_bytes(data)
    if weights:
        (version_dir / "model.onnx.data").write_bytes(weights)
    digest = f"sha256:{hashlib.sha256(data + weights).hexdigest()}"
    record = revision_record(policy, revision, digest)
    (version_dir / "revision.json").write_text(record.model_dump_json())
    (version_dir / "export.json").write_text(graph_export(digest).model_dump_json())
    save_file(GOLDEN, version_dir / "golden.safetensors")


def write_next_revision(repository, policy, graph="good"):
    """The next revision of a policy, as `unsee.export.revision.write_revision` puts it there."""
    model_dir = repository / policy_model(policy)
    with locked(model_dir):
        revision = next_revision(model_dir)
        with new_folder(model_dir / str(revision)) as version_dir:
            fill_revision(version_dir, policy, revision, graph)
    return revision


def write_repository(folder, **revisions):
    """A repository whose policies have the revisions 1 to n, the last one active."""
    assets = folder / "text_to_video" / "assets"
    assets.mkdir(parents=True)
    (assets / "base.json").write_text(json.dumps(base_record(limits=LIMITS)))
    (folder / "prompt_encoder" / "1").mkdir(parents=True)
    states = {}
    for policy, count in ({"base": 1} | revisions).items():
        numbers = [write_next_revision(folder, policy) for _ in range(count)]
        states[policy] = {"active": numbers[-1], "eligible": numbers, "history": numbers}
    content = {"schema_version": 2, "default_policy": None, "policies": states}
    (folder / "policies.json").write_text(json.dumps(content))
    return folder
