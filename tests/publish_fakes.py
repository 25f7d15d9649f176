"""A server and a call of `publish` that need neither Triton nor an exporter."""

import numpy as np

from unsee.client.errors import ServerUnreachable
from unsee.serving import encoder_server, publish

GOLDEN = {
    "input_ids": np.arange(6, dtype=np.int64).reshape(1, 6),
    "last_hidden_state": np.linspace(-2, 2, 24, dtype=np.float32).reshape(1, 6, 4),
}


class FakeServer:
    """What `EncoderServer` offers; fails where told to."""

    def __init__(self, *, down=False, load_error=None, probe_error=1e-6):
        self.down, self.load_error, self.probe_error = down, load_error, probe_error
        self.calls = []
        self.stand_ins = []
        self.repository = None

    def __call__(self, url):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None

    def check_live(self):
        if self.down:
            raise ServerUnreachable("no server answers")

    def load(self, model, version):
        self.calls.append(("load", model, version))
        if self.load_error:
            raise self.load_error

    def probe(self, model, version, golden):
        self.calls.append(("probe", model, version))
        np.testing.assert_array_equal(golden["input_ids"], GOLDEN["input_ids"])
        return self.probe_error

    def restore(self, model, *, versions_remain):
        seen = [p.parent.name for p in self.repository.glob(f"{model}/*/model.onnx")]
        self.stand_ins.append(seen)
        self.calls.append(("restore", model, versions_remain))


def run_publish(files, monkeypatch, server, **options):
    server.repository = files.repository
    monkeypatch.setattr(encoder_server, "EncoderServer", server)
    options = {"report": files.report} | options
    return publish.publish(files.policy, files.base, files.repository, "host:1", **options)
