"""A real tritonserver whose `text_to_video` makes grey clips at once, to measure transport alone.

Knows how such a repository is written and started; measures nothing.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from unsee.client.messages import MODEL
from unsee.core.request_schema import INPUTS
from unsee.serving.server.installation import assemble_backends, find_installation
from unsee.serving.server.interpreter import fit_interpreter
from unsee.serving.server.triton import (
    ServerSettings,
    TritonServer,
    server_command,
    server_environment,
)

MODEL_FILE = Path(__file__).with_name("blank_model") / "model.py"
TRITON_TYPES = {
    "BYTES": model_config_pb2.TYPE_STRING,
    "INT64": model_config_pb2.TYPE_INT64,
    "INT32": model_config_pb2.TYPE_INT32,
    "FP32": model_config_pb2.TYPE_FP32,
}


class BlankServer(TritonServer):
    """Serves one Python model, without the graphs that a whole repository has."""

    def start(self) -> None:
        """Start the server; does not wait for it."""
        interpreter = fit_interpreter()
        installation = find_installation(interpreter)
        folder = Path(tempfile.mkdtemp(prefix="unsee-blank-"))
        prefix = f"unsee-{os.getpid()}-{secrets.token_hex(4)}-"
        try:
            backends_dir = assemble_backends(installation, folder / "backends")
            command = server_command(
                installation.binary, self.settings, [MODEL], backends_dir, prefix
            )
            environment = server_environment(os.environ, self.settings, interpreter, installation)
            self._guard = self._start_guard(folder, prefix, command, environment)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise


@contextmanager
def blank_server() -> Iterator[str]:
    """The gRPC address of a running server, which ends with the block."""
    with tempfile.TemporaryDirectory() as folder:
        repository_dir = write_repository(Path(folder) / "repository")
        settings = ServerSettings.on_free_ports(
            repository_dir, Path(folder) / "tritonserver.log", threads=1
        )
        with BlankServer(settings):
            yield settings.grpc_url


def write_repository(folder: Path) -> Path:
    """A model repository with nothing but `text_to_video`."""
    config = model_config_pb2.ModelConfig(name=MODEL, backend="python")
    config.model_transaction_policy.decoupled = True
    for name, known in INPUTS.items():
        data_type, optional = TRITON_TYPES[known.datatype], not known.required
        config.input.add(name=name, data_type=data_type, dims=[1], optional=optional)
    config.output.add(name="event", data_type=model_config_pb2.TYPE_STRING, dims=[1])
    config.output.add(name="frames", data_type=model_config_pb2.TYPE_UINT8, dims=[-1, -1, -1, 3])
    config.instance_group.add(count=1, kind=model_config_pb2.ModelInstanceGroup.KIND_CPU)
    version_dir = folder / MODEL / "1"
    version_dir.mkdir(parents=True)
    shutil.copyfile(MODEL_FILE, version_dir / "model.py")
    (folder / MODEL / "config.pbtxt").write_text(text_format.MessageToString(config))
    return folder
