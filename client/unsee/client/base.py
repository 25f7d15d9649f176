"""What the client and its asyncio sister have in common: where the server is and how to ask it."""

from __future__ import annotations

from pathlib import Path
from typing import Unpack

from unsee.client.wire.channel import address, is_loopback
from unsee.client.wire.conversation import Conversation, Peer
from unsee.client.wire.grpc_transport import GrpcServer
from unsee.client.wire.options import Options, Patience, split_options
from unsee.client.wire.shared_memory import FOLDER, SharedMemory
from unsee.client.wire.transport import Server

DEFAULT_URL = "127.0.0.1:8001"
SETTLE_S = 2.0
"""How long closing waits for cancelled requests to let go of shared memory."""
SETTLE_PAUSE_S = 0.05


class ClientBase:
    """A server's address and how long to wait for it.

    Args:
        url: host and gRPC port, without a scheme.
        timeout_s: how long one clip may take in all, unless a call says otherwise.
        idle_timeout_s: how long the server may send nothing; None: as long as `timeout_s` allows.
        connect_timeout_s: how long reaching the server may take.
        retries: how often a clip is asked for again if the server refuses before it begins and
            says that later may help, or if nobody listens; 0: never.
        token: what a gateway knows the caller by; None: the environment's UNSEE_TOKEN, if set.
        tls: encrypts the connection; also switched on by a `ca_certificate` and by UNSEE_TLS=1.
        ca_certificate: PEM file of who signed the server's certificate. None: the environment's
            UNSEE_CA_CERTIFICATE, if set, else gRPC's own roots.
        client_certificate, client_key: PEM files that a gateway knows the caller by; they go
            together, and with TLS.
        shared_memory: lets large clips of a known size come through system shared memory where
            the server is on this machine and allows it.
        transport: another way to the server, such as `unsee.client.testing.FakeServer`.

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
        shared_memory: bool = True,
        transport: Server | None = None,
    ) -> None:
        self.url = url
        self._patience = Patience(timeout_s, idle_timeout_s, connect_timeout_s, retries)
        near = shared_memory and is_loopback(url) and transport is None and FOLDER.is_dir()
        self._peer = Peer(url, SharedMemory(possible=near))
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
        self._connect(transport)

    def _connect(self, server: Server) -> None:
        raise NotImplementedError

    @property
    def timeout_s(self) -> float:
        """How long one clip may take in all, unless a call says otherwise."""
        return self._patience.timeout_s

    @property
    def connect_timeout_s(self) -> float:
        """How long reaching the server may take."""
        return self._patience.connect_timeout_s

    def _conversation(self, prompt: str, **options: Unpack[Options]) -> Conversation:
        values, patience = split_options(prompt, self._patience, **options)
        return Conversation(values, patience, self._peer)
