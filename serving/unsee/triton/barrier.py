"""Waits until no request can come that found a revision in an older state of the pointer.

A request reads the pointer and uses the revision that it found once, in its one call of
`prompt_encoder`. `text_to_video` hands that call to its thread pool without giving way after it has
read the pointer, the pool takes calls in order, and `prompt_encoder` takes hold of a revision when
its call arrives. So a request that begins after the pointer has changed is a barrier: once its own
prompt has been encoded, all requests before it have what they need of their revision.

Triton's statistics do not serve: a decoupled request counts as done when it has been handed over,
not when its stream ends. Holds for one server with one `text_to_video`, which is what is exported.
"""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc

from unsee.client.messages import build_request
from unsee.core.errors import InputError, ServerError
from unsee.core.policy import BASE_POLICY
from unsee.repository.base import read_base
from unsee.repository.layout import base_file
from unsee.triton.server import Server

GRACE_S = 0.25
"""From a call's leaving the thread pool to its arrival: less than a millisecond, generously."""

RETRY_S = 0.2


def wait_for_earlier_requests(server: Server, repository_dir: Path, timeout_s: float) -> None:
    """Return once every request that began before this call has hold of its revision.

    Costs one step of the smallest clip that the base allows. A full queue is waited for.

    Raises:
        InputError: the repository's limits cannot be read.
        ServerError: the server did not begin such a request in `timeout_s` seconds.
    """
    request = build_request(_smallest_request(repository_dir))
    deadline = time.monotonic() + timeout_s
    while (refusal := _refusal(server, request, deadline)) is not None:
        if time.monotonic() > deadline - RETRY_S:
            raise ServerError(
                f"the server at {server.url} took no request in {timeout_s:g} s, so older ones may "
                f"still be waiting ({refusal}); run this again when it is less busy"
            )
        time.sleep(RETRY_S)
    time.sleep(GRACE_S)


def _refusal(server: Server, request: Any, deadline: float) -> str | None:
    """Why the server did not begin the request; None if it did, which its first event tells."""
    timeout_s = max(0.001, deadline - time.monotonic())
    with closing(server.stream(request, timeout_s)) as answers:
        try:
            for answer in answers:
                return str(answer.error_message) or None
        except grpc.RpcError as error:
            return str(error.details() or error.code().name)
    return "it ended the stream without an answer"


def _smallest_request(repository_dir: Path) -> dict[str, Any]:
    file = base_file(repository_dir)
    try:
        limits = read_base(file).limits
    except (OSError, ValueError) as error:
        raise InputError(f"{file} cannot be read; make it with: unsee export") from error
    names = ("num_inference_steps", "num_frames", "height", "width")
    smallest = {name: getattr(limits, name)[0] for name in names}
    return {"prompt": "x", "policy": BASE_POLICY, "guidance_scale": 1.0, **smallest}
