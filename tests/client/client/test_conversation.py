"""The core without a network: scripts of what a server does, and what the core makes of them."""

import contextlib
import re
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2
from wire_fakes import error

from unsee.client.client import run_blocking
from unsee.client.connection import CallFailed, Silence
from unsee.client.conversation import Conversation, Peer
from unsee.client.messages import build_request, build_response, read_error
from unsee.client.options import CallLimits
from unsee.client.testing import gradient_clip
from unsee.core.errors import (
    DeadlineExceeded,
    InputError,
    RequestRejected,
    ServerError,
    ServerUnreachable,
)
from unsee.media.clip import Clip, Part, Progress

DRAINING = [
    "[request id: <id_unknown>] Server is stopping, scheduler for model has stopped accepting new "
    "inference requests",
    "Request for unknown model: 'text_to_video' has no available versions",
]


def infer(response):
    return service_pb2.ModelStreamInferResponse(infer_response=response)


def result(**record):
    """The last answer; a field of its record that is None is left out."""
    made = {k: v for k, v in (MADE.record.model_dump() | record).items() if v is not None}
    return infer(build_response({"type": "result", "record": made}, MADE.frames))


PROGRESS = infer(build_response({"type": "progress", "step": 1, "num_inference_steps": 1}))
MADE = gradient_clip({"prompt": "a cat", "num_frames": 1, "height": 2, "width": 2})
RESULT = result()
GOOD = [PROGRESS, RESULT]
FULL = CallFailed("RESOURCE_EXHAUSTED", "the queue is full", retry_after_s=2.0)


@dataclass
class Play:
    """Holds a conversation: each stream answers from its own list, an exception ends it."""

    streams: list
    live: list = field(default_factory=list)
    limits: CallLimits = field(default_factory=CallLimits)
    jitter: float = 0.0
    now: float = 100.0
    opened: int = 0
    slept: list = field(default_factory=list)

    def run(self):
        peer = Peer("host:1", clock=lambda: self.now, jitter=lambda: self.jitter)
        conversation = Conversation(self, peer, {"prompt": "a cat"}, self.limits)
        events = []
        while (event := run_blocking(conversation.next())) is not None:
            events.append(event)
        return events

    # as a connection

    async def ask(self, method, request, timeout_s):
        answer = self.live.pop(0) if self.live else None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def open(self, request, timeout_s):
        self.opened += 1
        self.answers = iter(self.streams[self.opened - 1])
        return self

    async def pause(self, seconds, cancelled):
        self.slept.append(seconds)
        self.now += seconds

    # as the call that is open

    async def next(self, idle_timeout_s):
        answer = next(self.answers, None)
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_a_clip_without_trouble_opens_one_stream():
    play = Play([GOOD])
    *steps, clip = play.run()
    assert steps == [Progress(1, 1)]
    assert isinstance(clip, Clip)
    assert (play.opened, play.slept) == (1, [])


def part(first_frame, num_frames=1):
    event = {"type": "part", "first_frame": first_frame, "num_frames": 2, "fps": 8}
    return infer(build_response(event, MADE.frames.repeat(num_frames, 0)))


IN_PARTS = infer(
    build_response({"type": "result", "record": MADE.record.model_dump() | {"num_frames": 2}})
)


def test_a_clip_that_comes_in_parts_has_the_frames_of_all():
    step, first, second, clip = Play([[PROGRESS, part(0), part(1), IN_PARTS]]).run()
    assert step == Progress(1, 1)
    assert all(isinstance(one, Part) for one in (first, second))
    assert (second.first_frame, second.num_frames, second.fps) == (1, 2, 8.0)
    assert clip.frames.tobytes() == 2 * MADE.frames.tobytes()
    assert not clip.frames.flags.writeable


@pytest.mark.parametrize(
    ("answers", "came"), [([], 0), ([part(0)], 1), ([part(0), part(1), part(2)], 3)]
)
def test_parts_that_do_not_make_up_the_clip_are_no_clip(answers, came):
    with pytest.raises(ServerError, match=rf"\({came} of 2 frames came\)"):
        Play([[*answers, IN_PARTS]]).run()


@pytest.mark.parametrize("first_frames", [(0, 0), (1, 0), (1,)])
def test_a_part_out_of_its_place_is_not_taken(first_frames):
    with pytest.raises(ServerError, match=r"frame \d came after \d frames"):
        Play([[*map(part, first_frames), IN_PARTS]]).run()


def test_an_error_after_some_parts_is_the_servers_sentence_and_not_tried_again():
    gone = error("UNAVAILABLE: the VAE decoder cannot be used at the moment")
    with pytest.raises(RequestRejected, match=r"^the VAE decoder cannot be used") as caught:
        Play([[PROGRESS, part(0), gone]]).run()
    assert not caught.value.retryable


def test_a_refusal_that_says_later_is_tried_again_after_the_servers_hint():
    play = Play([[FULL], [FULL], GOOD], jitter=0.5)
    assert len(play.run()) == 2
    assert play.slept == pytest.approx([2.1, 2.1])


def test_retries_end_with_the_refusal_itself():
    play = Play([[FULL]] * 9, limits=CallLimits(retries=3))
    with pytest.raises(RequestRejected, match="the queue is full") as caught:
        play.run()
    assert play.opened == 4
    assert caught.value.retry_after_s == 2.0
    assert caught.value.retryable


def test_no_retries_when_they_are_off():
    play = Play([[FULL]], limits=CallLimits(retries=0))
    with pytest.raises(RequestRejected):
        play.run()
    assert (play.opened, play.slept) == (1, [])


def test_a_hint_beyond_the_deadline_is_not_waited_for():
    play = Play([[FULL]], limits=CallLimits(timeout_s=1.9))
    with pytest.raises(RequestRejected):
        play.run()
    assert play.slept == []


@pytest.mark.parametrize(
    "refusal",
    [FULL, error("UNAVAILABLE: the queue is full"), CallFailed("UNAVAILABLE", never_sent=True)],
)
def test_nothing_is_tried_again_once_the_server_has_begun(refusal):
    play = Play([[PROGRESS, refusal]])
    with pytest.raises(ServerError) as caught:
        play.run()
    assert play.opened == 1
    assert not caught.value.retryable


@pytest.mark.parametrize(
    "refusal",
    [
        CallFailed("RESOURCE_EXHAUSTED", "Received message larger than max"),
        CallFailed("UNAVAILABLE", "Socket closed"),
        CallFailed("INTERNAL", "no", retry_after_s=1.0),
        CallFailed("DEADLINE_EXCEEDED"),
        error("INVALID_ARGUMENT: the prompt is empty"),
        error("INTERNAL: the server failed; its log says why"),
        error("unexpected inference input"),
        Silence(),
    ],
)
def test_nothing_is_tried_again_that_says_nothing_of_later(refusal):
    play = Play([[refusal], GOOD])
    with pytest.raises(ServerError):
        play.run()
    assert play.opened == 1


def test_a_server_that_gives_up_first_says_itself_why():
    said = "this clip takes at least 9.0 s and 5.0 s are left; allow more time"
    with pytest.raises(DeadlineExceeded, match=f"^{said}$"):
        Play([[CallFailed("DEADLINE_EXCEEDED", said)]]).run()
    with pytest.raises(DeadlineExceeded, match=r"^no clip from host:1 within 600 s; allow more"):
        Play([[CallFailed("DEADLINE_EXCEEDED", "Deadline Exceeded")]]).run()


def cut():
    answer = result()
    answer.infer_response.outputs[1].shape[0] = 5
    return answer


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ([], "without a clip"),
        ([infer(build_response({"hello": 1}))], "same version"),
        ([result(seed=None)], "seed: this field is missing"),
        ([cut()], "same version"),
        ([error("no such policy")], "no such policy"),
    ],
)
def test_a_foreign_answer_is_an_error(answers, words):
    with pytest.raises(ServerError, match=words):
        Play([answers]).run()


def test_a_record_keeps_what_a_newer_server_adds():
    assert Play([[result(watermark="none")]]).run()[-1].record.model_dump()["watermark"] == "none"


def test_an_error_inside_the_stream_brings_its_status():
    found = read_error('NOT_FOUND: there is no policy "x: y";\nit has: base')
    assert (found.status, str(found)) == ("NOT_FOUND", 'there is no policy "x: y";\nit has: base')
    assert read_error("no such policy").status == "UNKNOWN"


@pytest.mark.parametrize("text", DRAINING)
def test_tritons_words_while_it_drains_mean_later(text):
    assert read_error(text).status == "UNAVAILABLE"
    assert text not in str(read_error(text))
    assert len(Play([[error(text)], GOOD]).run()) == 2
    assert len(Play([[CallFailed("UNAVAILABLE", text)], GOOD]).run()) == 2


def test_nobody_listening_is_tried_again_and_silence_is_not():
    refused, silent = CallFailed("UNAVAILABLE"), CallFailed("DEADLINE_EXCEEDED")
    play = Play([GOOD], live=[refused, refused])
    assert len(play.run()) == 2
    assert play.slept == pytest.approx([0.125, 0.25])
    with pytest.raises(ServerUnreachable, match="host:1"):
        Play([GOOD], live=[silent]).run()


def test_a_connection_lost_between_clips_is_made_again():
    play = Play([[CallFailed("UNAVAILABLE", never_sent=True)], GOOD])
    assert len(play.run()) == 2


def test_silence_tells_a_stuck_model_from_a_lost_server():
    limits = CallLimits(idle_timeout_s=3.0)
    with pytest.raises(DeadlineExceeded, match=r"is there but sent nothing for 3 s"):
        Play([[PROGRESS, Silence()]], limits=limits).run()
    gone = [None, CallFailed("DEADLINE_EXCEEDED")]
    with pytest.raises(ServerUnreachable, match="stopped answering"):
        Play([[PROGRESS, Silence()]], live=gone, limits=limits).run()


def test_a_stream_is_read_to_its_end_before_the_clip_is_given_and_before_an_error():
    for last in (RESULT, error("NOT_FOUND: no")):
        play = Play([[last, infer(service_pb2.ModelInferResponse())]])
        with contextlib.suppress(RequestRejected):
            play.run()
        assert next(play.answers, None) is None


ANSWERS = st.sampled_from(
    [
        PROGRESS,
        RESULT,
        FULL,
        error(DRAINING[0]),
        error("NOT_FOUND: no"),
        Silence(),
        CallFailed("UNAVAILABLE", "lost"),
        CallFailed("UNAVAILABLE", never_sent=True),
        infer(service_pb2.ModelInferResponse()),
    ]
)


@given(
    streams=st.lists(st.lists(ANSWERS, max_size=4), min_size=6, max_size=6),
    retries=st.integers(0, 5),
    timeout_s=st.floats(0.1, 20.0),
    jitter=st.floats(0, 0.999),
)
def test_whatever_a_server_does(streams, retries, timeout_s, jitter):
    """One clip or one error; no more streams than allowed, none after an event, none too late."""
    play = Play(streams, limits=CallLimits(timeout_s=timeout_s, retries=retries), jitter=jitter)
    try:
        events = play.run()
    except ServerError:
        events = None
    assert play.opened <= retries + 1
    assert sum(play.slept) < timeout_s
    before_the_last = [answer for stream in streams[: play.opened - 1] for answer in stream[:1]]
    assert PROGRESS not in before_the_last
    assert RESULT not in before_the_last
    if events is not None:
        assert isinstance(events[-1], Clip)
        assert sum(isinstance(event, Clip) for event in events) == 1


def test_a_time_too_short_to_reach_a_server_does_not_prove_it_absent():
    silence = CallFailed("DEADLINE_EXCEEDED", "Deadline Exceeded")
    play = Play([GOOD], live=[silence], limits=CallLimits(timeout_s=0.001))
    with pytest.raises(DeadlineExceeded, match=r"host:1 did not answer within 0\.001 s"):
        play.run()
    play = Play([GOOD], live=[silence], limits=CallLimits(timeout_s=60, connect_timeout_s=5))
    with pytest.raises(ServerUnreachable, match="no server answers"):
        play.run()


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), 1e300, -1, 0])
def test_a_time_that_no_timer_counts_is_refused(seconds):
    for name in ("timeout_s", "idle_timeout_s", "connect_timeout_s"):
        with pytest.raises(InputError, match=f"{name} must be more than 0 and at most 100000000 "):
            CallLimits(**{name: seconds})


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("seed", 2**63, "seed must be a whole number from 0 to 9223372036854775807, got 92233"),
        pytest.param("seed", 10**5000, "got a number of too many digits", id="long"),
        ("seed", 1.5, "seed must be a whole number from 0"),
        ("num_frames", 2**31, "from -2147483648 to 2147483647, got 2147483648"),
        ("guidance_scale", 1e300, "guidance_scale must be a number of at most 3.4e38"),
        ("guidance_scale", "high", "guidance_scale must be a number"),
        ("policy", 7, "policy must be text, got 7"),
        ("prompt", "\ud800", "prompt must be text"),
    ],
)
def test_a_value_that_does_not_fit_is_said_without_names_of_datatypes(name, value, sentence):
    with pytest.raises(InputError, match=re.escape(sentence)) as raised:
        build_request({name: value})
    assert "INT" not in str(raised.value)
    assert "FP32" not in str(raised.value)
