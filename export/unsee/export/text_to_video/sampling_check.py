"""Whether clips come out the same: whole sampling runs of two sets of graphs, compared by frames.

The loop is the very one that serves requests (`text_to_video.generation`), with the same tables,
prompts and noise on both sides. Knows graphs only as functions of arrays, wherever they run.
"""

import asyncio
import json
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.numpy import save

from unsee.core.errors import NotExportable, ParityError
from unsee.core.policy import BASE_POLICY
from unsee.deltas.edit import final_layer_norm, trunk
from unsee.export.engines.session import Array, Runnable
from unsee.export.graphs.base_graphs import edit_graph, sampling_graphs
from unsee.export.graphs.graphs import Graph
from unsee.export.onnx.half import in_float32
from unsee.export.text_to_video.assets import base_record, tokenizer_json
from unsee.export.text_to_video.sampler_tables import Tables, table_tensors
from unsee.export.text_to_video.serving_code import make_importable
from unsee.models.base import Base
from unsee.models.spec import ClipDefaults
from unsee.repository.layout import (
    BASE_FILE,
    SAMPLERS_FILE,
    TEXT_ENCODER,
    TOKENIZER_FILE,
    VAE_DECODER,
    VAE_DECODER_NEXT,
    VERSION,
    VIDEO_DENOISER,
    policy_model,
)

if TYPE_CHECKING:
    from text_to_video.policies import Revision
    from text_to_video.tokens import Tokens

Frames = npt.NDArray[np.uint8]
Runnables = Mapping[str, Runnable]
"""The graphs by model."""

BASE_MODEL = policy_model(BASE_POLICY)
PROMPT_MODELS = (TEXT_ENCODER, BASE_MODEL)
"""The graphs from tokens to prompt embeddings, in order."""
_PEAK = 255.0


class SamplingRuns:
    """Whole sampling runs of `steps` with the base's own scheduler and guidance.

    Of the base it keeps what the server's `text_to_video` would read from its files, no weights.
    """

    def __init__(self, base: Base, tables: Tables, steps: int) -> None:
        """Raises `ParityError` if `tables` has none of so many steps."""
        make_importable()
        from text_to_video.base import read_base
        from text_to_video.sampler import SamplerTables
        from text_to_video.tokens import PromptTokenizer

        at_steps = {name: {steps: by[steps]} for name, by in tables.items() if steps in by}
        if not at_steps:
            raise ParityError(f"the sampling check has no sampler table of {steps} steps")
        _, denoiser, decoders = sampling_graphs(base)
        record = base_record(base, denoiser, decoders[0], list(at_steps), {})
        self._steps = steps
        with tempfile.TemporaryDirectory(prefix="unsee-sampling-") as name:
            folder = Path(name)
            (folder / BASE_FILE).write_text(json.dumps(asdict(record)))
            (folder / TOKENIZER_FILE).write_text(tokenizer_json(base.tokenizer()))
            (folder / SAMPLERS_FILE).write_bytes(save(table_tensors(at_steps)))
            self._base = read_base(folder / BASE_FILE)
            self._tokenizer = PromptTokenizer(folder / TOKENIZER_FILE, self._base)
            scheduler = self._base.defaults.scheduler
            self._table = SamplerTables(folder / SAMPLERS_FILE).table(scheduler, steps)

    def clips(self, run: Runnables, clip: ClipDefaults, prompts: Sequence[str]) -> Frames:
        """Frames uint8 [prompts, F, H, W, 3], from the same noise at every call.

        Raises `ParityError` if a graph gives a value that is not finite or no such clip is allowed.
        """
        from text_to_video.refusal import Refusal

        try:
            clips = [self._clip(run, clip, prompt, seed) for seed, prompt in enumerate(prompts)]
        except Refusal as error:
            raise ParityError(f"the sampling check made no clip: {error}") from error
        return np.stack(clips)

    def _clip(self, run: Runnables, clip: ClipDefaults, prompt: str, seed: int) -> Frames:
        from text_to_video.generation import Plan, generate
        from text_to_video.policies import Revision
        from text_to_video.request import parse_request

        numbers = {
            "seed": seed,
            "num_inference_steps": self._steps,
            "num_frames": clip.num_frames,
            "height": clip.height,
            "width": clip.width,
        }
        tensors = {name: np.array([number]) for name, number in numbers.items()}
        tensors["prompt"] = np.array([prompt.encode()], np.object_)
        plan = Plan(
            request=parse_request(tensors, self._base),
            revision=Revision(BASE_POLICY, VERSION, None),
            tokens=self._tokenizer.encode(negative_prompt="", prompt=prompt),
            table=self._table,
        )
        making = generate(plan, LoopGraphs(run), self._base, lambda step: None)
        frames: Frames = asyncio.run(making)[0]
        return frames


def sampling_psnr(
    base: Base,
    tables: Tables,
    run: Runnables,
    reference: Runnables,
    clip: ClipDefaults,
    prompts: Sequence[str],
    steps: int,
) -> float:
    """How near the frames of `run` are to those of `reference`, in dB (see `psnr`).

    One clip of the size `clip` per prompt, in `steps` of the base's own scheduler with its own
    guidance, from the same noise on both sides. Raises what `SamplingRuns` raises, but
    `NotExportable` where `run` alone makes no clip.
    """
    sampling = SamplingRuns(base, tables, steps)
    expected = sampling.clips(reference, clip, prompts)
    try:
        frames = sampling.clips(run, clip, prompts)
    except ParityError as error:
        raise NotExportable(str(error)) from error
    return psnr(frames, expected)


def psnr(frames: Frames, expected: Frames) -> float:
    """Peak signal-to-noise ratio in dB of uint8 frames over all values.

    So that it stays finite, equal frames count as if one value were off by one level. Raises
    ValueError for different shapes.
    """
    if frames.shape != expected.shape:
        raise ValueError(f"frames {frames.shape} cannot be compared with {expected.shape}")
    squares = np.square(frames.astype(np.float32) - expected.astype(np.float32))
    error = max(float(squares.sum(dtype=np.float64)), 1.0)
    return 10 * math.log10(_PEAK**2 * frames.size / error)


def torch_runnables(base: Base) -> Runnables:
    """The base's own models in PyTorch float32, frozen."""
    text_encoder, denoiser, decoders = sampling_graphs(base)
    encoder = in_float32(base.text_encoder())
    edit = edit_graph(base)
    return {
        TEXT_ENCODER: in_torch(text_encoder, text_encoder.wrap(trunk(encoder))),
        BASE_MODEL: in_torch(edit, edit.wrap(final_layer_norm(encoder))),
        VIDEO_DENOISER: in_torch(denoiser, denoiser.wrap(base.t2v_denoiser())),
        **{graph.name: in_torch(graph, graph.wrap(base.t2v_vae())) for graph in decoders},
    }


def in_torch(graph: Graph, module: Any) -> Runnable:
    """`module`, with the signature of `graph`, as a function of arrays."""
    names = [tensor.name for tensor in graph.inputs]

    def run(**inputs: Array) -> Any:
        with torch.no_grad():
            given = module(*(torch.from_numpy(inputs[name]) for name in names))
        if isinstance(given, tuple):
            return tuple(tensor.numpy() for tensor in given)
        return given.numpy()

    return run


class LoopGraphs:
    """Runnables in the shape in which the serving loop calls its graphs."""

    def __init__(self, run: Runnables) -> None:
        self._run = run

    async def prompt_encoder(self, revision: "Revision", tokens: "Tokens") -> Array:
        mask = tokens.attention_mask
        states = self._run[TEXT_ENCODER](input_ids=tokens.input_ids, attention_mask=mask)
        embeds: Array = self._run[BASE_MODEL](states=states, attention_mask=mask)
        return embeds

    async def video_denoiser(self, sample: Array, timestep: Array, hidden: Array) -> Array:
        noise_pred: Array = self._run[VIDEO_DENOISER](
            sample=sample, timestep=timestep, encoder_hidden_states=hidden
        )
        return noise_pred

    async def vae_decoder(self, latents: Array) -> Array:
        frames: Array = self._run[VAE_DECODER](latents=latents)
        return frames

    async def vae_decoder_step(self, latents: Array, cache: Array | None) -> tuple[Array, Array]:
        if cache is None:
            frames, cache = self._run[VAE_DECODER](latents=latents)
        else:
            frames, cache = self._run[VAE_DECODER_NEXT](latents=latents, cache=cache)
        return frames, cache
