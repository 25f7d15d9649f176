"""A Triton of a few lines that serves a repository's encoders, and revisions to publish with it.

The fake loads what lies in the model's folder as Triton does in explicit mode: a load call takes
what is new or younger, drops what is gone, and fails as a whole when one version is broken. What a
graph is, its first word says: `good`, `wrong` (answers something else) or `broken`.
"""

import hashlib
import json
from concurrent import futures

import grpc
import numpy as np
from safetensors.numpy import save_file
from tritonclient.grpc import service_pb2, service_pb2_grpc

from record_fakes import base_record, graph_export, revision_record
from unsee.core.files import locked, new_folder
from unsee.repository.revisions import next_revision

GOLDEN = {
    "input_ids": np.arange(6, dtype=np.int64).reshape(1, 6),
    "last_hidden_state": np.linspace(-2, 2, 24, dtype=np.float32).reshape(1, 6, 4),
}
LIMITS = {"num_inference_steps": [1, 50], "num_frames": [1, 8], "height": [8, 64], "width": [8, 64]}


class FakeTriton(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Serves `repository` at `url` until `stop`.

    `loaded` is what may be asked; `dead` versions are ready and do not answer; `busy` refuses that
    many streams; `calls` names what was asked for, in order.
    """

    def __init__(self, repository):
        self.repository = repository
        self.loaded, self.failed, self.unloaded = {}, set(), set()
        self.dead, self.busy, self.calls = set(), 0, []
        self._server = grpc.server(futures.ThreadPoolExecutor(4))
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self, self._server)
        self.url = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        for model_dir in repository.glob("text_encoder_*"):
            self._take(model_dir.name)
        self._server.start()

    def stop(self):
        self._server.stop(grace=None).wait()

    def ServerLive(self, request, context):
        return service_pb2.ServerLiveResponse(live=True)

    def ServerReady(self, request, context):
        return service_pb2.ServerReadyResponse(ready=not self.failed)

    def RepositoryModelLoad(self, request, context):
        self.calls.append(("load", request.model_name))
        if broken := self._take(request.model_name):
            message = f"version {broken[1]}: the graph is cut off"
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, message)
        return service_pb2.RepositoryModelLoadResponse()

    def RepositoryModelUnload(self, request, context):
        self.calls.append(("unload", request.model_name))
        for version in [v for v in self.loaded if v[0] == request.model_name]:
            self._drop(version)
        return service_pb2.RepositoryModelUnloadResponse()

    def RepositoryIndex(self, request, context):
        response = service_pb2.RepositoryIndexResponse()
        states = dict.fromkeys(self.unloaded, ("UNAVAILABLE", "unloaded"))
        states |= dict.fromkeys(self.loaded, ("READY", ""))
        states |= dict.fromkeys(self.failed, ("UNAVAILABLE", "the graph is cut off"))
        for (model, version), (state, reason) in states.items():
            response.models.add(name=model, version=str(version), state=state, reason=reason)
        return response

    def ModelReady(self, request, context):
        ready = (request.name, int(request.version)) in self.loaded
        return service_pb2.ModelReadyResponse(ready=ready)

    def ModelInfer(self, request, context):
        version = (request.model_name, int(request.model_version))
        self.calls.append(("probe", *version))
        if version not in self.loaded or version in self.dead:
            context.abort(grpc.StatusCode.INTERNAL, "the stub process is not healthy")
        hidden = GOLDEN["last_hidden_state"] + (self.loaded[version][0] == b"wrong")
        response = service_pb2.ModelInferResponse(model_name=request.model_name)
        response.outputs.add(name="last_hidden_state", datatype="FP32", shape=hidden.shape)
        response.raw_output_contents.append(hidden.astype(np.float32).tobytes())
        return response

    def ModelStreamInfer(self, requests, context):
        next(requests)
        self.calls.append(("generate",))
        if self.busy:
            self.busy -= 1
            yield service_pb2.ModelStreamInferResponse(error_message="UNAVAILABLE: it is busy")
        else:
            yield service_pb2.ModelStreamInferResponse()

    def _take(self, model):
        """What a load call does; returns a version that is broken, if one is."""
        present = {}
        for file in (self.repository / model).glob("[0-9]*/model.onnx"):
            word = file.read_bytes().split()[0]
            youngest = max(file.stat().st_mtime_ns, file.parent.stat().st_mtime_ns)
            present[model, int(file.parent.name)] = (word, youngest)
        for version in [v for v in self.loaded if v[0] == model and v not in present]:
            self._drop(version)
        changed = {v: graph for v, graph in present.items() if self.loaded.get(v) != graph}
        broken = [v for v, (word, _) in changed.items() if word == b"broken"]
        self.failed |= set(broken)
        good = {v: graph for v, graph in changed.items() if v not in broken}
        self.loaded |= good
        self.dead -= set(good)
        self.failed -= set(good)
        return broken[0] if broken else None

    def _drop(self, version):
        del self.loaded[version]
        self.unloaded.add(version)

    def versions(self, policy):
        """The versions of a policy's encoder that may be asked."""
        return {number for model, number in self.loaded if model == f"text_encoder_{policy}"}


def fill_revision(version_dir, policy, revision, graph="good", weights=b""):
    """Write what the exporter writes, with a graph of a few words and, if given, weights."""
    data = f"{graph} encoder {revision} of {policy}".encode()
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
    model_dir = repository / f"text_encoder_{policy}"
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
    states = {}
    for policy, count in ({"base": 1} | revisions).items():
        numbers = [write_next_revision(folder, policy) for _ in range(count)]
        states[policy] = {"active": numbers[-1], "eligible": numbers, "history": numbers}
    content = {"schema_version": 1, "default_policy": None, "policies": states}
    (folder / "policies.json").write_text(json.dumps(content))
    return folder
