"""The client for ordinary code: streams progress and the clip of `text_to_video` over gRPC."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar, Unpack

from unsee.client.address import address
from unsee.client.connection import Connection, GrpcServer, Transport
from unsee.client.conversation import Conversation, Event, Peer
from unsee.client.options import CallLimits, Options, Request, as_request, model_inputs
from unsee.core.errors import InputError, UnseeError
from unsee.media.clip import Clip, Progress

DEFAULT_URL = "127.0.0.1:8001"
NOTICE_S = 0.2
"""A Ctrl-C just before a wait begins does not end it; it is noticed when the wait is over."""

Item = TypeVar("Item")
Result = TypeVar("Result")
Outcome = tuple[int, Clip | UnseeError]
"""The index of a request, and what came of it."""


class ClientBase:
    """What `Client` and `AsyncClient` have in common: the server's address, and how long to wait.

    Args:
        url: host and gRPC port, without a scheme.
        timeout_s: seconds that one clip may take in all, unless a call gives others.
        idle_timeout_s: seconds without any message from the server; None: as long as `timeout_s`
            allows.
        connect_timeout_s: seconds that reaching the server may take.
        retries: how often a request is sent again if the server refused it before it began and
            named a time to come back, or if nobody listened; 0: never.
        token: the caller's token at a gateway; None: the environment's UNSEE_TOKEN, if set.
        tls: encrypt the connection; also switched on by a `ca_certificate` and by UNSEE_TLS=1.
        ca_certificate: PEM file of the authority that signed the server's certificate. None: the
            environment's UNSEE_CA_CERTIFICATE, if set, else the authorities that gRPC trusts.
        client_certificate, client_key: PEM files of the caller's certificate at a gateway and its
            key; both or neither, and only with TLS.
        transport: a server to use instead of `url`, such as `unsee.client.testing.FakeServer`.

    Raises:
        InputError: a file cannot be read, the options contradict each other, or the token would
            travel over the network unencrypted.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        timeout_s: float = 600.0,
        idle_timeout_s: float | None = None,
        connect_timeout_s: float = 5.0,
        retries: int = 2,
        token: str | None = None,
        tls: bool = False,
        ca_certificate: Path | str | None = None,
        client_certificate: Path | str | None = None,
        client_key: Path | str | None = None,
        transport: Transport | None = None,
    ) -> None:
        self.url = url
        self._limits = CallLimits(timeout_s, idle_timeout_s, connect_timeout_s, retries)
        self._peer = Peer(url)
        if transport is None:
            transport = GrpcServer(
                address(
                    url,
                    token=token,
                    tls=tls,
                    ca_certificate=ca_certificate,
                    client_certificate=client_certificate,
                    client_key=client_key,
                )
            )
        self._connection = self._connected(transport)

    @property
    def timeout_s(self) -> float:
        """How long one clip may take in all, unless a call says otherwise."""
        return self._limits.timeout_s

    @property
    def connect_timeout_s(self) -> float:
        """How long reaching the server may take."""
        return self._limits.connect_timeout_s

    def _connected(self, server: Transport) -> Connection:
        raise NotImplementedError

    def _conversation(self, prompt: str, **options: Unpack[Options]) -> Conversation:
        values = model_inputs(prompt, options)
        return Conversation(
            self._connection, self._peer, values, self._limits.with_options(options)
        )


class Client(ClientBase):
    """A connection to one server; usable from several threads and as a context manager.

    Its arguments and what they raise are those of `ClientBase`.
    """

    def stream(self, prompt: str, **options: Unpack[Options]) -> Generator[Event, None, None]:
        """Yields a `Progress` per evaluation of the video model and last the `Clip`.

        With `stream_frames` a `Part` comes as soon as its frames are decoded; the clip has them
        all.

        Closing the generator cancels the request on the server.

        Args:
            prompt: what the clip should show.
            options: see `Options`; the server decides what is left out.

        Raises:
            InputError: a value does not fit its type; nothing was sent.
            RequestRejected: the server refused the request.
            ServerUnreachable: nobody answers at the address, or the connection broke.
            DeadlineExceeded: `timeout_s` or `idle_timeout_s` ran out.
            Cancelled: the request was cancelled.
        """
        return _events(self._conversation(prompt, **options))

    def generate(
        self,
        prompt: str,
        *,
        on_progress: Callable[[Progress], None] = lambda progress: None,
        **options: Unpack[Options],
    ) -> Clip:
        """Waits for the clip of `prompt` and returns it.

        Args:
            prompt: what the clip should show.
            on_progress: called after each evaluation of the video model.
            options: see `Options`; the server decides what is left out.

        Raises:
            UnseeError: as `stream`.
        """
        return _clip(self._conversation(prompt, **options), on_progress)

    def generate_many(
        self,
        requests: Iterable[str | Request],
        *,
        max_in_flight: int = 4,
        on_progress: Callable[[int, Progress], None] = lambda index, progress: None,
        **options: Unpack[Options],
    ) -> Generator[Outcome, None, None]:
        """Yields `(index, clip)` or `(index, error)` as the clips finish, in whatever order.

        At most `max_in_flight` are asked for at once, and `requests` is read no faster. Closing
        the generator, or leaving it by an exception, cancels what is in flight.

        Args:
            requests: prompts, or dictionaries of a `prompt` and any `Options` (see `Request`).
            max_in_flight: how many clips are asked for at once, 1 or more.
            on_progress: called with a request's index and each of its steps, from several threads.
            options: for every clip, unless its dictionary says otherwise.

        Raises:
            InputError: `max_in_flight` is less than 1. A request that cannot be sent is an error
                in its place.
        """

        def begin(item: str | Request) -> Conversation:
            return self._conversation(**as_request(item, options))

        def finish(index: int, conversation: Conversation) -> Clip:
            return _clip(conversation, lambda step: on_progress(index, step))

        return in_threads(begin, finish, requests, check_max_in_flight(max_in_flight))

    def close(self) -> None:
        """Closes the connection and cancels what is still in flight on it."""
        run_blocking(self._connection.close())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _connected(self, server: Transport) -> Connection:
        return server.connect()


def run_blocking(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """The result of a coroutine that blocks instead of waiting for an event loop."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: Result = end.value
        return result
    coroutine.close()
    raise RuntimeError("a connection for ordinary code waited for an event loop")


def in_threads(
    begin: Callable[[Item], Conversation],
    finish: Callable[[int, Conversation], Clip],
    requests: Iterable[Item],
    max_in_flight: int,
) -> Generator[Outcome, None, None]:
    """Yields outcomes as they come; leaving cancels what is in flight.

    An exception other than `UnseeError` (a callback's, or of reading `requests`) ends it all.

    Args:
        begin: makes the conversation about a request; an InputError is the outcome of that request.
        finish: holds the conversation to its end, in a thread.
    """
    numbered = enumerate(requests)
    in_flight: dict[Future[Clip], int] = {}
    conversations: dict[int, Conversation] = {}
    with ThreadPoolExecutor(max_in_flight, thread_name_prefix="unsee-clip") as pool:

        def started(index: int, item: Item) -> Future[Clip]:
            try:
                conversations[index] = begin(item)  # before its thread: Ctrl-C may come in between
            except InputError as error:
                refused: Future[Clip] = Future()
                refused.set_exception(error)
                return refused
            return pool.submit(finish, index, conversations[index])

        try:
            done: set[Future[Clip]] = set()
            while True:
                finished = [(in_flight.pop(future), future) for future in done]
                for index, item in islice(numbered, max_in_flight - len(in_flight)):
                    in_flight[started(index, item)] = index
                for index, future in finished:
                    conversations.pop(index, None)
                    yield index, outcome_of(future)
                if not in_flight:
                    return
                done, _ = wait(in_flight, NOTICE_S, FIRST_COMPLETED)
        finally:
            for conversation in conversations.values():
                conversation.cancel()


class Finished(Protocol):
    """A future of threads or of asyncio that is done."""

    def result(self) -> Clip:
        """The clip; raises what making it raised."""


def outcome_of(finished: Finished) -> Clip | UnseeError:
    """The clip, or the error in its place; raises every other exception."""
    try:
        return finished.result()
    except UnseeError as error:
        return error


def check_max_in_flight(max_in_flight: int) -> int:
    """The number itself; raises InputError unless at least one clip may be in flight."""
    if max_in_flight < 1:
        raise InputError(f"max_in_flight must be 1 or more, got {max_in_flight!r}")
    return max_in_flight


def _events(conversation: Conversation) -> Generator[Event, None, None]:
    try:
        while (event := run_blocking(conversation.next())) is not None:
            yield event
    finally:
        conversation.cancel()


def _clip(conversation: Conversation, on_progress: Callable[[Progress], None]) -> Clip:
    with closing(_events(conversation)) as events:
        for event in events:
            if isinstance(event, Clip):
                return event
            if isinstance(event, Progress):
                on_progress(event)
    raise AssertionError("a conversation ends with a clip or an error")
