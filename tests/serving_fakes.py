"""A whole model repository in miniature, made in well under a second.

Tiny linear ONNX graphs with the real names, dtypes and shapes, a byte-level tokenizer, sampler
tables of two schedulers and the repository's records, laid out as the exporter lays them out. It
knows nothing of PyTorch, diffusers or the exporter, so serving and client tests stand on their own.

What the fake offers (see the constants): policies ``base`` (revision 1) and ``family`` (revisions 1
and 2 eligible, 1 active; revision 3 lies on disk but is not eligible), no default policy,
``DDIMScheduler`` (deterministic) and ``EulerAncestralDiscreteScheduler`` (injects noise), 1 to 12
steps, 16 to 32 pixels square in multiples of 8, 1 to 6 frames, prompts of up to 46 bytes.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx
import psutil
from google.protobuf import text_format
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from tritonclient._plugin import InferenceServerClientPlugin
from tritonclient.grpc import InferenceServerClient, model_config_pb2

from record_fakes import base_record, graph_export, revision_record
from unsee.serving.server.triton import ServerSettings, TritonServer
from unsee.triton.admin_key import admin_headers

PROMPT_TOKENS = 48  # two of them are the start and the end of the text
HIDDEN_SIZE = 8
CHANNELS = 4
VAE_SCALE = 8
MAX_STEPS = 12
SCHEDULERS = ("DDIMScheduler", "EulerAncestralDiscreteScheduler")
TEMPLATES = Path(__file__).parents[1] / "model_repository"
TEMPLATE_DIR = TEMPLATES / "text_to_video" / "1"
OPSET, IR_VERSION = 18, 8

Array = npt.NDArray[Any]


@contextmanager
def triton_of(repository: Path) -> Iterator[TritonServer]:
    """A real tritonserver on free ports, patient with a busy machine; its log lies beside."""
    log = repository.with_name(f"{repository.name}.log")
    settings = ServerSettings.on_free_ports(repository, log, ready_timeout_s=300.0, threads=1)
    with TritonServer(settings) as server:
        yield server
        for process in psutil.Process(server.pid).children():
            process.kill()  # unloading its models takes seconds, and is tested elsewhere


def write_fake_repository(
    folder: Path, *, unet_work: int = 0, policies: tuple[str, ...] = ("base", "family")
) -> Path:
    """Write the repository into `folder` (made if absent) and return it.

    `unet_work` adds that many dependent 512 x 512 matrix products (about 5 ms each on one core) to
    every video_denoiser evaluation, for tests that need a step to take time.
    """
    folder.mkdir(parents=True, exist_ok=True)
    graphs = {
        "text_encoder": _write_model(folder, "text_encoder", 1, _text_encoder(), 16),
        "video_denoiser": _write_model(folder, "video_denoiser", 1, _video_denoiser(unet_work), 8),
        "vae_decoder": _write_model(folder, "vae_decoder", 1, _vae_decoder(), 4),
    }
    for policy in policies:
        for revision in (1,) if policy == "base" else (1, 2, 3):
            write_fake_revision(folder, policy, revision)
    _write_python_model(folder, "prompt_encoder", _prompt_encoder_config())
    _write_text_to_video(folder, graphs)
    entries = {
        name: {"active": 1, "eligible": [1] if name == "base" else [1, 2], "history": [1]}
        for name in policies
    }
    _write_json(
        folder / "policies.json",
        {"schema_version": 2, "default_policy": None, "policies": entries},
    )
    return folder


def write_fake_revision(
    folder: Path, policy: str, revision: int, kind: Literal["edit", "encoder"] = "edit"
) -> Path:
    """Write version `revision` of policy_<policy>; no two of them encode alike."""
    name = f"policy_{policy}"
    seed = int.from_bytes(hashlib.sha256(f"{policy}:{revision}".encode()).digest()[:4], "little")
    matrix = np.random.default_rng(seed).standard_normal((HIDDEN_SIZE, HIDDEN_SIZE))
    matrix = (matrix / HIDDEN_SIZE**0.5).astype(np.float32)
    model = _policy(matrix) if kind == "edit" else _tuned_encoder(matrix)
    digest = _write_model(folder, name, revision, model, 16)
    version_dir = folder / name / str(revision)
    unsees = () if policy == "base" else ("Blimbo",)
    record = revision_record(policy, revision, digest, unsees, kind=kind)
    (version_dir / "revision.json").write_text(record.model_dump_json())
    ids = np.arange(2 * PROMPT_TOKENS).reshape(2, PROMPT_TOKENS)
    golden = {
        "input_ids": ids,
        "attention_mask": np.ones_like(ids),
        "prompt_embeds": _table()[ids] @ matrix,
    }
    save_file(golden, version_dir / "golden.safetensors")
    return version_dir


def _table() -> Array:
    """Numbers with which every policy and every seed of the tests has its own clip."""
    table: Array = np.random.default_rng(7).standard_normal((258, HIDDEN_SIZE))
    return table.astype(np.float32)


TOKENS = [(name, TensorProto.INT64, ["B", "L"]) for name in ("input_ids", "attention_mask")]
HIDDEN = (TensorProto.FLOAT, ["B", "L", HIDDEN_SIZE])


def _text_encoder() -> onnx.ModelProto:
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["states"], axis=0)]
    return _model(nodes, TOKENS, [("states", *HIDDEN)], {"table": _table()})


def _policy(matrix: Array) -> onnx.ModelProto:
    nodes = [helper.make_node("MatMul", ["states", "matrix"], ["prompt_embeds"])]
    inputs = [("states", *HIDDEN), TOKENS[1]]
    return _model(nodes, inputs, [("prompt_embeds", *HIDDEN)], {"matrix": matrix})


def _tuned_encoder(matrix: Array) -> onnx.ModelProto:
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["states"], axis=0),
        helper.make_node("MatMul", ["states", "matrix"], ["prompt_embeds"]),
    ]
    constants = {"table": _table(), "matrix": matrix}
    return _model(nodes, TOKENS, [("prompt_embeds", *HIDDEN)], constants)


def _video_denoiser(work: int) -> onnx.ModelProto:
    generator = np.random.default_rng(7)
    weights: dict[str, Array] = {
        "kernel": 0.1 * generator.standard_normal((CHANNELS, CHANNELS, 3, 3, 3)),
        "to_channels": generator.standard_normal((HIDDEN_SIZE, CHANNELS)),
        "per_step": np.array(1e-3),
        "nothing": np.array(0.0),
        "square": generator.standard_normal((512, 512)) / 32,
    }
    constants: dict[str, Array] = {k: v.astype(np.float32) for k, v in weights.items()}
    constants |= {"token_axis": np.array([1]), "trailing": np.array([2, 3, 4])}
    constants |= {"column": np.array([1]), "first": np.array(0)}
    node = helper.make_node
    nodes = [
        node("Conv", ["sample", "kernel"], ["mixed"], pads=[1] * 6),
        node("ReduceMean", ["encoder_hidden_states", "token_axis"], ["text"], keepdims=0),
        node("MatMul", ["text", "to_channels"], ["by_channel"]),
        node("Mul", ["timestep", "per_step"], ["time"]),
        node("Unsqueeze", ["time", "column"], ["time_column"]),
        node("Mul", ["by_channel", "time_column"], ["scaled"]),
        node("Unsqueeze", ["scaled", "trailing"], ["condition"]),
        node("Gather", ["timestep", "first"], ["busy_0"], axis=0),
        *(_busy(work)),
        node("Add", ["mixed", "condition"], ["sum"]),
        node("Mul", ["busy", "nothing"], ["zero"]),
        node("Add", ["sum", "zero"], ["noise_pred"]),
    ]
    latents = ["B", CHANNELS, "F", "h", "w"]
    return _model(
        nodes,
        [
            ("sample", TensorProto.FLOAT, latents),
            ("timestep", TensorProto.FLOAT, ["B"]),
            ("encoder_hidden_states", TensorProto.FLOAT, ["B", PROMPT_TOKENS, HIDDEN_SIZE]),
        ],
        [("noise_pred", TensorProto.FLOAT, latents)],
        constants,
    )


def _busy(work: int) -> list[onnx.NodeProto]:
    nodes = [helper.make_node("Mul", ["square", "busy_0"], ["busy_1"])]
    for k in range(1, work + 1):
        nodes.append(helper.make_node("MatMul", [f"busy_{k}", "square"], [f"busy_product_{k}"]))
        nodes.append(helper.make_node("Tanh", [f"busy_product_{k}"], [f"busy_{k + 1}"]))
    nodes.append(helper.make_node("ReduceMean", [f"busy_{work + 1}"], ["busy"], keepdims=0))
    return nodes


def _vae_decoder() -> onnx.ModelProto:
    generator = np.random.default_rng(11)
    constants: dict[str, Array] = {
        "to_rgb": generator.standard_normal((3, CHANNELS, 1, 1, 1)).astype(np.float32),
        "half": np.array(0.5, np.float32),
        "low": np.array(0.0, np.float32),
        "high": np.array(1.0, np.float32),
        "levels": np.array(255.0, np.float32),
        "inner": np.array([3, 5]),
        "repeats": np.array([1, 1, 1, VAE_SCALE, 1, VAE_SCALE, 1]),
        "kept": np.array([0, 2, 3, 4]),
        "growth": np.array([1, 1, VAE_SCALE, VAE_SCALE]),
        "rgb": np.array([3]),
    }
    node = helper.make_node
    nodes = [
        node("Conv", ["latents", "to_rgb"], ["colour"]),
        node("Transpose", ["colour"], ["last"], perm=[0, 2, 3, 4, 1]),
        node("Mul", ["last", "half"], ["halved"]),
        node("Add", ["halved", "half"], ["centred"]),
        node("Clip", ["centred", "low", "high"], ["unit"]),
        node("Mul", ["unit", "levels"], ["scaled"]),
        node("Round", ["scaled"], ["rounded"]),
        node("Cast", ["rounded"], ["bytes"], to=TensorProto.UINT8),
        node("Unsqueeze", ["bytes", "inner"], ["cells"]),
        node("Tile", ["cells", "repeats"], ["tiled"]),
        node("Shape", ["latents"], ["shape"]),
        node("Gather", ["shape", "kept"], ["small"], axis=0),
        node("Mul", ["small", "growth"], ["grown"]),
        node("Concat", ["grown", "rgb"], ["target"], axis=0),
        node("Reshape", ["tiled", "target"], ["frames"]),
    ]
    return _model(
        nodes,
        [("latents", TensorProto.FLOAT, ["B", CHANNELS, "F", "h", "w"])],
        [("frames", TensorProto.UINT8, ["B", "F", "H", "W", 3])],
        constants,
    )


def _model(
    nodes: list[onnx.NodeProto],
    inputs: list[tuple[str, int, list[Any]]],
    outputs: list[tuple[str, int, list[Any]]],
    constants: dict[str, Array],
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "fake",
        [helper.make_tensor_value_info(*value) for value in inputs],
        [helper.make_tensor_value_info(*value) for value in outputs],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )
    opsets = [helper.make_opsetid("", OPSET)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)


def _write_model(
    folder: Path, name: str, version: int, model: onnx.ModelProto, max_batch_size: int
) -> str:
    version_dir = folder / name / str(version)
    version_dir.mkdir(parents=True)
    data = model.SerializeToString()
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    (version_dir / "model.onnx").write_bytes(data)
    (version_dir / "export.json").write_text(graph_export(digest, graph=name).model_dump_json())
    config = model_config_pb2.ModelConfig(
        name=name,
        backend="onnxruntime",
        default_model_filename="model.onnx",
        max_batch_size=max_batch_size,
    )
    config.instance_group.add(count=1)  # else Triton makes two on a CPU
    _add_tensors(config.input, model.graph.input)
    _add_tensors(config.output, model.graph.output)
    if name.startswith("policy_"):
        config.version_policy.all.SetInParent()
    else:
        config.dynamic_batching.SetInParent()
    (folder / name / "config.pbtxt").write_text(text_format.MessageToString(config))
    return digest


_DATA_TYPES = {
    TensorProto.FLOAT: model_config_pb2.TYPE_FP32,
    TensorProto.INT64: model_config_pb2.TYPE_INT64,
    TensorProto.UINT8: model_config_pb2.TYPE_UINT8,
}


def _add_tensors(entries: Any, values: Any) -> None:
    for value in values:
        tensor = value.type.tensor_type
        dims = [dim.dim_value or -1 for dim in tensor.shape.dim][1:]  # the batch is implied
        entry = entries.add(name=value.name, data_type=_DATA_TYPES[tensor.elem_type])
        if dims:
            entry.dims.extend(dims)
        else:  # one scalar per row: Triton wants a shape of its own for that
            entry.dims.append(1)
            entry.reshape.SetInParent()


def _write_text_to_video(folder: Path, graphs: dict[str, str]) -> None:
    _write_python_model(folder, "text_to_video", _text_to_video_config())
    assets_dir = folder / "text_to_video" / "assets"
    assets_dir.mkdir(parents=True)
    _write_json(assets_dir / "base.json", _base_record(graphs))
    _tokenizer().save(str(assets_dir / "tokenizer.json"))
    save_file(_sampler_tables(), assets_dir / "samplers.safetensors")


def _write_python_model(folder: Path, name: str, config: model_config_pb2.ModelConfig) -> None:
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(TEMPLATES / name / "1", folder / name / "1", ignore=ignored)
    (folder / name / "config.pbtxt").write_text(text_format.MessageToString(config))


def _prompt_encoder_config() -> model_config_pb2.ModelConfig:
    config = model_config_pb2.ModelConfig(
        name="prompt_encoder", backend="python", max_batch_size=16
    )
    config.dynamic_batching.SetInParent()
    for name, data_type, dims in (
        ("input_ids", model_config_pb2.TYPE_INT64, [-1]),
        ("attention_mask", model_config_pb2.TYPE_INT64, [-1]),
        ("policy", model_config_pb2.TYPE_STRING, [1]),
        ("revision", model_config_pb2.TYPE_INT64, [1]),
    ):
        is_ragged = dims == [-1]
        config.input.add(name=name, data_type=data_type, dims=dims, allow_ragged_batch=is_ragged)
    config.output.add(name="prompt_embeds", data_type=model_config_pb2.TYPE_FP32, dims=[-1, -1])
    config.instance_group.add(count=1, kind=model_config_pb2.ModelInstanceGroup.KIND_CPU)
    return config


def _text_to_video_config() -> model_config_pb2.ModelConfig:
    config = model_config_pb2.ModelConfig(name="text_to_video", backend="python")
    config.model_transaction_policy.decoupled = True
    string, int32 = model_config_pb2.TYPE_STRING, model_config_pb2.TYPE_INT32
    config.input.add(name="prompt", data_type=string, dims=[1])
    optional = dict.fromkeys(("negative_prompt", "policy", "scheduler", "acceleration"), string)
    optional |= {"revision": model_config_pb2.TYPE_INT64, "seed": model_config_pb2.TYPE_INT64}
    optional |= dict.fromkeys(("num_inference_steps", "num_frames", "height", "width"), int32)
    optional |= {"guidance_scale": model_config_pb2.TYPE_FP32}
    optional |= {"stream_frames": model_config_pb2.TYPE_BOOL}
    for name, data_type in optional.items():
        config.input.add(name=name, data_type=data_type, dims=[1], optional=True)
    config.output.add(name="event", data_type=string, dims=[1])
    config.output.add(name="frames", data_type=model_config_pb2.TYPE_UINT8, dims=[-1, -1, -1, 3])
    return config


def _base_record(graphs: dict[str, str]) -> dict[str, Any]:
    return base_record(
        latents={"channels": CHANNELS, "vae_scale": VAE_SCALE},
        limits={"num_inference_steps": [1, MAX_STEPS], "prompt_tokens": PROMPT_TOKENS},
        schedulers=list(SCHEDULERS),
        graphs=graphs,
    )


def _tokenizer() -> Tokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: index for index, letter in enumerate(alphabet)}
    vocabulary |= {"<|startoftext|>": 256, "<|endoftext|>": 257}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|startoftext|> $A <|endoftext|>",
        special_tokens=[("<|startoftext|>", 256), ("<|endoftext|>", 257)],
    )
    tokenizer.enable_padding(length=PROMPT_TOKENS, pad_id=257, pad_token="<|endoftext|>")
    return tokenizer


def _sampler_tables() -> dict[str, Array]:
    tables: dict[str, Array] = {}
    for scheduler in SCHEDULERS:
        eta = 0.0 if scheduler == "DDIMScheduler" else 1.0
        for steps in range(1, MAX_STEPS + 1):
            for part, values in _dense_table(steps, eta).items():
                tables[f"{scheduler}/{steps}/{part}"] = values
    return tables


def _dense_table(steps: int, eta: float) -> dict[str, Array]:
    """x_k and the final latents as sums over (x_0, predictions, noises) of an epsilon sampler."""
    timesteps = np.linspace(999, 0, steps + 1)[:-1].round()
    kept = np.append(np.cos(0.5 * np.pi * (timesteps + 1) / 1001) ** 2, 1.0)  # alpha bar
    rows = np.zeros((steps + 1, 1 + 2 * steps))
    rows[0, 0] = 1.0
    for k in range(steps):
        here, after = kept[k], kept[k + 1]
        sigma = eta * np.sqrt((1 - after) / (1 - here) * (1 - here / after))
        rows[k + 1] = np.sqrt(after / here) * rows[k]
        direction = np.sqrt(1 - after - sigma**2) - np.sqrt(after * (1 - here) / here)
        rows[k + 1, 1 + k] += direction
        rows[k + 1, 1 + steps + k] += sigma
    table = {
        "timesteps": timesteps,
        "initial": rows[:, 0],
        "pred": rows[:, 1 : 1 + steps],
        "noise": rows[:, 1 + steps :],
    }
    if eta == 0.0:
        del table["noise"]
    return {part: np.ascontiguousarray(values, np.float32) for part, values in table.items()}


def _write_json(path: Path, record: dict[str, Any]) -> None:
    path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


class SendsKey(InferenceServerClientPlugin):
    """Shows a Triton's admin key with every call of tritonclient's client."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __call__(self, request: Any) -> None:
        request.headers.update(admin_headers(self._url))


def denoiser_rows(operator: InferenceServerClient) -> int:
    """How many rows the denoiser has evaluated since the server started."""
    (stats,) = operator.get_inference_statistics("video_denoiser").model_stats
    return int(stats.inference_count)


def settled_denoiser_rows(operator: InferenceServerClient) -> int:
    """The rows once no more are being added."""
    before, after = -1, denoiser_rows(operator)
    while before != after:
        time.sleep(0.5)
        before, after = after, denoiser_rows(operator)
    return after


def wait_until(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def stub_of(model_dir: Path) -> int:
    """The process that serves the model: its command line names the folder."""
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            words = file.read_bytes()
            if b"triton_python_backend_stub" in words and f"{model_dir}/".encode() in words:
                return int(file.parent.name)
    raise AssertionError(f"no process serves {model_dir}")


def admin_client(url: str) -> InferenceServerClient:
    """tritonclient's client as an operator's, with the key of the server at `url`."""
    client = InferenceServerClient(url)
    client.register_plugin(SendsKey(url))
    return client
