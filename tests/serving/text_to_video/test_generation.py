"""One clip without a server: the order of calls, guidance, the record, admission."""

import asyncio
import contextlib
import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from text_to_video.acceleration import PACES, accelerated
from text_to_video.admission import Admission
from text_to_video.base import Prompt, prompt_rows, read_base
from text_to_video.generation import Plan, generate, guide, zero_padded
from text_to_video.policies import PolicyPointer, Revision
from text_to_video.refusal import Refusal
from text_to_video.request import parse_request
from text_to_video.sampler import SamplerTables
from text_to_video.tokens import Tokens

IDS = np.arange(2 * 48).reshape(2, 48)
TOKENS = Tokens(IDS, np.ones_like(IDS))


class FakeGraphs:
    """Graphs that note what they are given; row 0 predicts zeros and row 1 ones."""

    def __init__(self, prediction=1.0):
        self.calls = []
        self.prediction = prediction

    async def prompt_encoder(self, revision, tokens):
        self.calls.append(("prompt_encoder", revision, tokens))
        return np.zeros((*tokens.input_ids.shape, 8), np.float32)

    async def video_denoiser(self, sample, timestep, hidden):
        self.calls.append(("video_denoiser", sample.shape, timestep, hidden.shape))
        noise_pred = np.full(sample.shape, self.prediction, np.float32)
        noise_pred[:-1] = 0
        return noise_pred

    async def vae_decoder(self, latents):
        self.calls.append(("vae_decoder", latents.shape))
        return np.zeros((1, latents.shape[2], 16, 16, 3), np.uint8)


class FramesInOrder(FakeGraphs):
    """A decoder that counts its calls in the cache and gives four frames of that count."""

    async def vae_decoder_step(self, latents, cache):
        self.calls.append(("vae_decoder_step", latents.shape, cache))
        count = 0 if cache is None else int(cache) + 1
        frames = 1 if cache is None else 4
        return np.full((1, frames, 16, 16, 3), count, np.uint8), np.float32(count)


@pytest.fixture
def base(fake_repository):
    return read_base(fake_repository / "text_to_video" / "assets" / "base.json")


@pytest.fixture
def make_plan(fake_repository, base):
    def make(**values):
        tables = SamplerTables(fake_repository / "text_to_video/assets/samplers.safetensors")
        tensors = {"prompt": np.array([b"a cat"], np.object_), "seed": np.array([7])}
        tensors |= {name: np.array([value]) for name, value in values.items()}
        request = parse_request(tensors, base)
        revision = PolicyPointer(fake_repository).resolve("family", None)
        table = tables.table(request.scheduler, request.num_inference_steps)
        return Plan(request, revision, TOKENS, accelerated(table, PACES[request.acceleration]))

    return make


def test_a_guided_clip_takes_two_rows_through_every_call(make_plan, base):
    graphs, steps = FakeGraphs(), []
    frames, record = asyncio.run(generate(make_plan(), graphs, base, steps.append))
    names = [call[0] for call in graphs.calls]
    assert names == ["prompt_encoder", *["video_denoiser"] * 4, "vae_decoder"]
    assert graphs.calls[0][1:] == (Revision("family", 1, "sha256:edit 1 of family"), TOKENS)
    assert graphs.calls[1][1] == (2, 4, 2, 2, 2)
    assert graphs.calls[1][2].tolist() == [999.0, 999.0]
    assert graphs.calls[-1][1] == (1, 4, 2, 2, 2)
    assert steps == [1, 2, 3, 4]
    assert frames.shape == (2, 16, 16, 3)
    assert (record["policy"], record["revision"]) == ("family", 1)
    assert record["edit_digest"] == "sha256:edit 1 of family"
    assert record["seed"] == 7
    assert set(record["seconds"]) == {"text_encoder", "video_denoiser", "vae_decoder"}


@pytest.fixture
def in_fours(base):
    """A base whose latent frames stand for four frames each."""
    latents = dataclasses.replace(base.latents, frames_per_latent=4)
    return dataclasses.replace(base, latents=latents)


def test_latent_frames_are_decoded_in_order_each_with_what_the_last_left(make_plan, in_fours):
    graphs = FramesInOrder()
    plan = make_plan(num_frames=5)
    frames, _ = asyncio.run(generate(plan, graphs, in_fours, lambda step: None))
    steps = [call for call in graphs.calls if call[0] == "vae_decoder_step"]
    assert [call[1] for call in steps] == [(1, 4, 1, 2, 2)] * 2
    assert [call[2] for call in steps] == [None, 0]
    assert frames[:, 0, 0, 0].tolist() == [0, 1, 1, 1, 1]
    assert graphs.calls[1][1] == (2, 4, 2, 2, 2)  # of the denoiser: two latent frames


def test_each_part_is_told_as_soon_as_it_is_decoded(make_plan, in_fours):
    graphs, parts = FramesInOrder(), []

    def after_part(first_frame, frames):
        decoded = [call[0] for call in graphs.calls].count("vae_decoder_step")
        parts.append((decoded, first_frame, len(frames)))

    plan = make_plan(num_frames=5, stream_frames=True)
    frames, record = asyncio.run(generate(plan, graphs, in_fours, lambda step: None, after_part))
    assert parts == [(1, 0, 1), (2, 1, 4)]
    assert len(frames) == 5
    assert "stream_frames" not in record


def test_a_latent_frame_that_gives_too_few_frames_is_no_part(make_plan, in_fours):
    class ThreeAtATime(FramesInOrder):
        async def vae_decoder_step(self, latents, cache):
            frames, cache = await super().vae_decoder_step(latents, cache)
            return frames[:, :3], cache

    parts = []
    work = generate(
        make_plan(num_frames=5),
        ThreeAtATime(),
        in_fours,
        lambda step: None,
        lambda first, part: parts.append(first),
    )
    with pytest.raises(Refusal, match="wrong shape"):
        asyncio.run(work)
    assert parts == [0]


def test_a_client_that_leaves_between_two_parts_stops_the_decoder(make_plan, in_fours):
    graphs = FramesInOrder()
    work = generate(
        make_plan(num_frames=5), graphs, in_fours, lambda step: None, lambda first, part: gone()
    )
    with pytest.raises(Refusal, match="cancelled"):
        asyncio.run(work)
    assert [call[0] for call in graphs.calls].count("vae_decoder_step") == 1


def test_a_decoder_of_whole_clips_gives_one_part(make_plan, base):
    parts = []
    work = generate(
        make_plan(), FakeGraphs(), base, lambda step: None, lambda first, part: parts.append(first)
    )
    frames, _ = asyncio.run(work)
    assert parts == [0]
    assert len(frames) == 2


@pytest.mark.parametrize("guidance_scale", [0.0, 1.0])
def test_without_guidance_only_the_prompt_is_run(make_plan, base, guidance_scale):
    graphs = FakeGraphs()
    plan = make_plan(guidance_scale=guidance_scale)
    asyncio.run(generate(plan, graphs, base, lambda step: None))
    assert graphs.calls[0][2].input_ids.tolist() == IDS[1:].tolist()
    assert graphs.calls[1][1] == (1, 4, 2, 2, 2)


def test_an_accelerated_clip_reports_the_evaluations_that_it_makes(make_plan, base):
    graphs, steps = FakeGraphs(), []
    plan = make_plan(num_inference_steps=12, acceleration=b"fast")
    _, record = asyncio.run(generate(plan, graphs, base, steps.append))
    assert steps == list(range(1, plan.table.num_evaluations + 1)) == [1, 2, 3, 4, 5, 6]
    assert [call[0] for call in graphs.calls].count("video_denoiser") == 6
    assert (record["acceleration"], record["num_inference_steps"]) == ("fast", 12)


def test_guidance_extrapolates_from_the_unconditional_row():
    rows = np.array([[1.0], [3.0]], np.float32)
    assert guide(rows, 2.0).tolist() == [5.0]
    assert guide(rows[1:], 0.0).tolist() == [3.0]


@pytest.mark.parametrize(("prompt_tokens", "rows"), [(20, 20), (512, 32)])
def test_where_the_padding_is_zeros_the_denoiser_gets_a_few(make_plan, base, prompt_tokens, rows):
    limits = dataclasses.replace(base.limits, prompt_tokens=prompt_tokens)
    base = dataclasses.replace(base, prompt=Prompt(True, "zeros", cleans=False), limits=limits)
    graphs, plan = FakeGraphs(), make_plan()
    few = Tokens(IDS[:, :5], np.array([[1, 0, 0, 0, 0], [1, 1, 1, 1, 1]]))
    asyncio.run(generate(dataclasses.replace(plan, tokens=few), graphs, base, lambda step: None))
    assert graphs.calls[0][2] is few
    assert graphs.calls[1][3] == (2, rows, 8)


@given(st.integers(1, 512))
def test_behind_the_longest_prompt_is_a_row_of_zeros_or_no_room(longest):
    rows = prompt_rows(longest, 512)
    assert rows in (32, 64, 128, 256, 512)
    assert longest < rows <= max(32, 2 * longest) or (rows == 512 and longest >= 256)


def test_rows_behind_the_prompt_are_zeros_whatever_was_said_there():
    said = np.arange(1, 13, dtype=np.float32).reshape(2, 3, 2)
    padded = zero_padded(said, np.array([[1, 0, 0], [1, 1, 1]]), 4)
    assert padded.dtype == np.float32
    assert padded.tolist() == [
        [[1, 2], [0, 0], [0, 0], [0, 0]],
        [[7, 8], [9, 10], [11, 12], [0, 0]],
    ]


def test_values_that_are_not_finite_are_refused_before_the_decoder(make_plan, base):
    graphs = FakeGraphs(prediction=np.inf)
    with pytest.raises(Refusal, match="not finite") as caught:
        asyncio.run(generate(make_plan(), graphs, base, lambda step: None))
    assert caught.value.status == "INTERNAL"
    assert graphs.calls[-1][0] == "video_denoiser"


def wanted():
    """The client of a request is still there."""


def gone():
    raise Refusal("CANCELLED", "the client cancelled the request")


def test_admission_bounds_what_runs_and_what_waits():
    running, peak, refused = 0, 0, []

    async def one(admission):
        nonlocal running, peak
        try:
            async with admission.place(wanted):
                running += 1
                peak = max(peak, running)
                await asyncio.sleep(0.01)
                running -= 1
        except Refusal as refusal:
            refused.append(refusal)

    async def many():
        admission = Admission(2, 3)
        await asyncio.gather(*(one(admission) for _ in range(7)))
        async with admission.place(wanted):
            pass

    asyncio.run(many())
    assert peak == 2
    assert [refusal.status for refusal in refused] == ["UNAVAILABLE"] * 2
    assert "2 clips are being made and 3 requests wait" in str(refused[0])


def test_a_waiting_request_whose_client_left_gives_its_place_to_others(monkeypatch):
    monkeypatch.setattr("text_to_video.admission.POLL_S", 0.01)

    async def enter(admission, check):
        async with admission.place(check):
            return "ran"

    async def scene():
        admission = Admission(1, 1)
        async with admission.place(wanted):
            with pytest.raises(Refusal, match="cancelled"):
                await enter(admission, gone)
            waiting = asyncio.ensure_future(enter(admission, wanted))
            await asyncio.sleep(0)
            with pytest.raises(Refusal, match="is busy"):
                await enter(admission, wanted)
        return await waiting

    assert asyncio.run(scene()) == "ran"


@given(st.lists(st.sampled_from([wanted, gone]), max_size=12), st.integers(1, 3))
def test_admission_loses_no_place_whoever_leaves_and_keeps_the_order(checks, running):
    order = []

    async def one(admission, number, check):
        with contextlib.suppress(Refusal):
            async with admission.place(check):
                order.append(number)
                await asyncio.sleep(0)

    async def scene():
        order.clear()
        admission = Admission(running, len(checks))
        requests = (one(admission, *request) for request in enumerate(checks))
        await asyncio.wait_for(asyncio.gather(*requests), 10)
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(running):
                await asyncio.wait_for(stack.enter_async_context(admission.place(wanted)), 10)

    asyncio.run(scene())
    assert order == [number for number, check in enumerate(checks) if check is wanted]


def test_a_request_that_is_ended_while_it_waits_gives_its_place_back():
    async def enter(admission):
        async with admission.place(wanted):
            return "ran"

    async def scene():
        admission = Admission(1, 1)
        async with admission.place(wanted):
            waiting = asyncio.ensure_future(enter(admission))
            await asyncio.sleep(0)
        waiting.cancel()  # at the moment of its turn
        await asyncio.gather(waiting, return_exceptions=True)
        return await asyncio.wait_for(enter(admission), 10)

    assert asyncio.run(scene()) == "ran"
