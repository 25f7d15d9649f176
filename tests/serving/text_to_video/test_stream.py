"""One client's stream of responses, with a sender that only pretends."""

import importlib.util
import json
import sys
import types
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from serving_fakes import TEMPLATE_DIR, write_fake_repository
from text_to_video.refusal import Refusal

FINAL = 1


class Response:
    def __init__(self, tensors=(), error=None):
        self.tensors, self.error = dict(tensors), error


class Sender:
    """Keeps what is sent, but for frames if `loses_frames`, as when there is no memory for them."""

    def __init__(self, *, loses_frames):
        self.sent = []
        self._loses_frames = loses_frames

    def is_cancelled(self):
        return False

    def send(self, response=None, flags=0):
        if self._loses_frames and "frames" in response.tensors:
            raise MemoryError("no room for the frames")
        event = response.tensors.get("event")
        self.sent.append((response.error or json.loads(event[0])["type"], flags))


@pytest.fixture
def model(monkeypatch):
    utils = types.ModuleType("triton_python_backend_utils")
    utils.Tensor = lambda name, array: (name, array)
    utils.InferenceResponse = Response
    utils.TritonError = lambda text, code: text
    utils.TritonError.INTERNAL = 13
    utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL = FINAL
    monkeypatch.setitem(sys.modules, utils.__name__, utils)
    spec = importlib.util.spec_from_file_location("text_to_video_model", TEMPLATE_DIR / "model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def streamed(model, sender):
    """Sends a part and then the record, as the model does, or the refusal of what failed."""
    with ThreadPoolExecutor(1) as courier:
        stream = model.Stream(sender, courier)
        try:
            stream.send({"type": "part"}, np.zeros((1, 2, 2, 3), np.uint8))
            stream.finish({"type": "result"}, None)
        except MemoryError:
            stream.refuse(Refusal("INTERNAL", "the server failed"))


def test_the_record_ends_a_stream_of_parts(model):
    sender = Sender(loses_frames=False)
    streamed(model, sender)
    assert sender.sent == [("part", 0), ("result", FINAL)]


def test_a_clip_whose_last_part_was_not_sent_ends_as_an_error_without_a_record(model):
    sender = Sender(loses_frames=True)
    streamed(model, sender)
    assert sender.sent == [("INTERNAL: the server failed", FINAL)]


def test_the_graphs_of_another_export_are_refused_at_the_start(model, tmp_path):
    repository = write_fake_repository(tmp_path / "repository")
    arguments = {"model_repository": str(repository / "text_to_video"), "model_config": "{}"}
    model.TritonPythonModel().initialize(arguments)
    file = repository / "video_denoiser" / "1" / "export.json"
    file.write_text(json.dumps({"sha256": "sha256:another"}))
    model.pb_utils.TritonModelException = RuntimeError
    words = r"cannot read its assets: video_denoiser is of another export .* sha256:another, not "
    with pytest.raises(RuntimeError, match=words):
        model.TritonPythonModel().initialize(arguments)
