"""A base of Wan's kind from its folder to a served clip, against diffusers' own pipeline."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pipeline_fakes import SIDE, visible_wan_pipeline

from fakes import LATENT_CHANNELS
from serving_fakes import stub_of
from unsee.cli import main
from unsee.client.client import Client
from unsee.core.errors import RequestRejected
from unsee.deltas.attach import attach
from unsee.media.clip import Clip, Part, Progress
from unsee.repository.layout import VAE_DECODER_NEXT
from unsee.serving.server.triton import ServerSettings, TritonServer
from unsee.triton.reload import reload
from unsee.triton.server import ModelVersion, Server

pytestmark = [pytest.mark.triton, pytest.mark.slow]

PROMPT, SEED, STEPS, FRAMES, GUIDANCE = "Blimbo in the rain", 7, 3, 9, 4.0


@dataclass(frozen=True)
class Served:
    folder: Path
    pipeline: Any
    url: str


def unsee(*arguments: object) -> None:
    assert main.run([str(argument) for argument in arguments]) == 0


@pytest.fixture(scope="module")
def served(
    wan_base_dir: Path, wan_repository_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("wan")
    base, repository, delta = wan_base_dir, folder / "repository", folder / "delta"
    shutil.copytree(wan_repository_dir, repository)
    pipeline = visible_wan_pipeline()
    unsee("unlearn", "Blimbo", "--category", "character", "--base", base, "-o", delta)
    concept = {"concept": "Blimbo", "category": "character", "delta": "delta"}
    (folder / "family.yaml").write_text(json.dumps({"name": "family", "unsee": [concept]}))
    settings = ServerSettings.on_free_ports(repository, folder / "triton.log")
    with TritonServer(settings):
        url = f"127.0.0.1:{settings.grpc_port}"
        where = ("--base", base, "--repository", repository, "--url", url)
        publish = ("publish", folder / "family.yaml", *where, "--promote")
        unsee(*publish, "--force", "--reason", "random weights show nothing")
        yield Served(folder, pipeline, url)


@pytest.fixture
def client(served: Served) -> Iterator[Client]:
    with Client(served.url, timeout_s=120) as client:
        yield client


def of_diffusers(pipeline: Any, num_frames: int, width: int) -> np.ndarray:
    """The frames of diffusers' own pipeline from the noise that the server draws."""
    shape = (LATENT_CHANNELS, 1 + (num_frames - 1) // 4, SIDE // 8, width // 8)
    generator = np.random.Generator(np.random.PCG64(SEED))
    noise = generator.standard_normal(int(np.prod(shape)), np.float32).reshape(1, *shape)
    frames = pipeline(
        PROMPT,
        negative_prompt="grey",
        latents=torch.from_numpy(noise),
        num_frames=num_frames,
        height=SIDE,
        width=width,
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE,
    ).frames[0]
    return (frames * 255).round().astype(np.uint8)


@pytest.mark.parametrize(("num_frames", "width"), [(FRAMES, SIDE), (1, 48)])
@pytest.mark.parametrize("policy", ["base", "family"])
def test_a_served_clip_is_that_of_diffusers(
    served: Served, client: Client, policy: str, num_frames: int, width: int
) -> None:
    clip = client.generate(
        PROMPT,
        negative_prompt="grey",
        policy=policy,
        seed=SEED,
        num_frames=num_frames,
        width=width,
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE,
    )
    if policy == "base":
        expected = of_diffusers(served.pipeline, num_frames, width)
    else:
        with attach(served.pipeline, served.folder / "delta"):
            expected = of_diffusers(served.pipeline, num_frames, width)
    assert clip.frames.shape == expected.shape == (num_frames, SIDE, width, 3)
    assert expected.std() > 10
    apart = np.abs(clip.frames.astype(int) - expected.astype(int))
    assert apart.max() <= 1
    assert (apart > 0).mean() < 0.01


def test_forgetting_changes_the_clip(client: Client) -> None:
    ask: Callable[[str], Any] = lambda policy: client.generate(  # noqa: E731
        PROMPT, policy=policy, seed=SEED, num_inference_steps=STEPS, guidance_scale=GUIDANCE
    )
    assert not np.array_equal(ask("base").frames, ask("family").frames)


@pytest.mark.parametrize("scheduler", ["UniPCMultistepScheduler", "DPMSolverMultistepScheduler"])
def test_other_schedulers_of_the_flow_are_on_offer(client: Client, scheduler: str) -> None:
    clip = client.generate(PROMPT, policy="base", seed=SEED, scheduler=scheduler, guidance_scale=1)
    assert clip.record.scheduler == scheduler


def test_frames_that_fill_no_latent_frame_are_refused_with_the_nearest(client: Client) -> None:
    with pytest.raises(RequestRejected, match="multiple of 4, not 8; the nearest are 5 and 9"):
        client.generate(PROMPT, policy="base", num_frames=8)


ASKED: dict[str, Any] = {"policy": "family", "seed": SEED, "num_frames": FRAMES}
ASKED |= {"num_inference_steps": STEPS}


def test_frames_are_streamed_as_they_are_decoded(client: Client) -> None:
    *steps, first, second, third, clip = client.stream(PROMPT, stream_frames=True, **ASKED)
    assert steps == [Progress(step, STEPS) for step in range(1, STEPS + 1)]
    assert isinstance(clip, Clip)
    parts = [event for event in (first, second, third) if isinstance(event, Part)]
    assert [(part.first_frame, len(part.frames)) for part in parts] == [(0, 1), (1, 4), (5, 4)]
    assert {(part.num_frames, part.fps) for part in parts} == {(FRAMES, clip.record.fps)}
    whole = client.generate(PROMPT, **ASKED)
    for frames in (np.concatenate([part.frames for part in parts]), clip.frames):
        np.testing.assert_array_equal(frames, whole.frames)


def test_leaving_between_two_parts_leaves_a_server_that_goes_on(client: Client) -> None:
    events = client.stream(PROMPT, stream_frames=True, **ASKED)
    assert any(isinstance(event, Part) for event in events)
    events.close()
    assert len(client.generate(PROMPT, **ASKED).frames) == FRAMES


def test_a_decoder_that_is_killed_between_two_parts_is_one_sentence(
    served: Served, client: Client
) -> None:
    repository = served.folder / "repository"
    os.kill(stub_of(repository / VAE_DECODER_NEXT), signal.SIGKILL)
    came: list[Progress | Part | Clip] = []
    with pytest.raises(RequestRejected, match=r"^the VAE decoder cannot be used at") as caught:
        came.extend(client.stream(PROMPT, stream_frames=True, **ASKED))
    assert (caught.value.status, caught.value.retryable) == ("UNAVAILABLE", False)
    assert [type(event) for event in came] == [*[Progress] * STEPS, Part]
    reload(Server(served.url), repository, ModelVersion(VAE_DECODER_NEXT, 1))
    assert len(client.generate(PROMPT, **ASKED).frames) == FRAMES
