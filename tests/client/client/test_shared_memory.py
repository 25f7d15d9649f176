"""Frames through shared memory: what is registered, given back and left behind, in every case."""

import asyncio
import os
import subprocess
import sys

import numpy as np
import pytest

from unsee.client.async_client import AsyncClient
from unsee.client.client import Client
from unsee.client.wire import shared_memory
from unsee.client.wire.driving import Drive
from unsee.client.wire.shared_memory import IN_USE, PREFIX, SharedMemory
from unsee.client.wire.transport import CallFailed
from unsee.core.errors import RequestRejected

pytestmark = pytest.mark.skipif(
    not shared_memory.FOLDER.is_dir(), reason="this system has no /dev/shm"
)


class Registry:
    """What Triton has of shared memory, as a transport; `busy` regions cannot be unregistered."""

    def __init__(self):
        self.regions = {}
        self.busy = set()
        self.refusal = None
        self.files_seen = []

    def ask(self, method, request, timeout_s):
        from tritonclient.grpc import service_pb2

        if self.refusal is not None:
            raise self.refusal
        if method.endswith("Status"):
            status = service_pb2.SystemSharedMemoryStatusResponse()
            for name in self.regions:
                status.regions[name].name = name
            return status
        if method.endswith("Unregister"):
            if request.name in self.busy:
                raise CallFailed("INTERNAL", f"Cannot unregister '{request.name}', it is {IN_USE}.")
            self.regions.pop(request.name, None)
            return None
        self.files_seen.append((shared_memory.FOLDER / request.key[1:]).stat())
        self.regions[request.name] = request.byte_size
        return None

    def do(self, steps):
        """Runs a generator of steps; returns what it returns."""
        results = []

        def collecting():
            results.append((yield from steps))

        for _ in Drive(self).events(collecting()):
            pass
        return results[0]


@pytest.fixture
def registry():
    return Registry()


@pytest.fixture
def memory():
    return SharedMemory(possible=True, least_bytes=1000)


@pytest.fixture(autouse=True)
def nothing_is_left():
    """Every test leaves /dev/shm as it was."""
    yield
    assert files_of(os.getpid()) == []


def files_of(pid):
    """What one process has in /dev/shm; other clients may be at work beside it."""
    return [path.name for path in shared_memory.FOLDER.glob(f"{PREFIX}-*-{pid}-*")]


def test_a_region_has_no_file_once_it_is_registered(registry, memory):
    region = registry.do(memory.lend(5000))
    assert registry.regions == {region.name: 5000}
    (seen,) = registry.files_seen
    assert seen.st_mode & 0o777 == 0o600
    assert seen.st_blocks * 512 >= 5000  # reserved: a full /dev/shm is found out here
    assert not (shared_memory.FOLDER / region.name).exists()
    registry.do(memory.take_back(region))
    assert registry.regions == {}
    memory.abandon(region)
    assert memory.unsettled == 0


@pytest.mark.parametrize("num_bytes", [None, 999])
def test_small_clips_and_those_of_unknown_size_do_without(registry, memory, num_bytes):
    assert registry.do(memory.lend(num_bytes)) is None
    assert registry.regions == {}


@pytest.mark.parametrize(
    "refusal",
    [
        CallFailed("PERMISSION_DENIED", "this method is not served by the gateway"),
        CallFailed("UNIMPLEMENTED", ""),
        CallFailed("INTERNAL", "Unable to open shared memory region: '/x'"),
        OSError(28, "No space left on device"),
    ],
)
def test_a_server_that_refuses_is_asked_once(registry, memory, refusal, monkeypatch):
    if isinstance(refusal, OSError):
        monkeypatch.setattr(os, "posix_fallocate", lambda *_: (_ for _ in ()).throw(refusal))
    else:
        registry.refusal = refusal
    assert registry.do(memory.lend(5000)) is None
    registry.refusal = AssertionError("asked again")
    assert registry.do(memory.lend(5000)) is None


def test_what_is_still_written_to_is_let_go_later(registry, memory):
    region = registry.do(memory.lend(5000))
    registry.busy.add(region.name)
    memory.abandon(region)
    registry.do(memory.settle())
    assert (memory.unsettled, len(registry.regions)) == (1, 1)
    registry.busy.clear()
    other = registry.do(memory.lend(5000))
    assert (memory.unsettled, list(registry.regions)) == (0, [other.name])


def test_regions_of_the_dead_are_unregistered_and_nobody_elses(registry, memory):
    mine = registry.do(memory.lend(5000)).name
    kind, space, pid, started, token = mine.rsplit("-", 4)
    foreign = f"{kind}-{int(space) + 1}-{pid}-1-{token}"
    dead = [f"{kind}-{space}-{pid}-{int(started) + 1}-{token}", f"{kind}-{space}-4194305-1-x"]
    others = [foreign, "somebody", f"{PREFIX}-1-2", f"{PREFIX}-a-b-c-d", f"not{mine}"]
    registry.regions = dict.fromkeys([mine, *dead, *others], 1)
    newcomer = SharedMemory(possible=True, least_bytes=1000)
    added = registry.do(newcomer.lend(5000)).name
    assert sorted(registry.regions) == sorted([mine, added, *others])


def test_leaving_while_the_region_is_registered(registry, memory):
    steps = memory.lend(5000)
    next(steps)
    steps.send(registry.ask("SystemSharedMemoryStatus", None, 1))
    steps.close()
    assert memory.unsettled == 1


def test_a_gateway_refuses_and_the_clip_comes_over_grpc(monkeypatch):
    from gateway_fakes import FRAMES, TOKENS, Served

    monkeypatch.delenv("UNSEE_TOKEN", raising=False)
    served = Served()
    try:
        with Client(served.addresses.grpc, token=TOKENS["kids"], timeout_s=20) as client:
            client._peer.shared_memory.least_bytes = 0
            size = {"num_frames": 2, "height": 16, "width": 16}
            np.testing.assert_array_equal(client.generate("a cat", **size).frames, FRAMES)
            assert not client._peer.shared_memory.possible
    finally:
        served.stop()


KILLED = """
import sys, time
from unsee.client import Client
client = Client(sys.argv[1])
client._peer.shared_memory.least_bytes = 0
events = client.stream("a cat", policy="base", num_frames=6, height=32, width=32)
print(next(events), flush=True)
time.sleep(60)
"""


@pytest.fixture(scope="module")
def triton(tmp_path_factory):
    from serving_fakes import write_fake_repository
    from unsee.serving.server.triton import ServerSettings, TritonServer

    folder = tmp_path_factory.mktemp("triton")
    repository = write_fake_repository(folder / "repository", unet_work=4)
    settings = ServerSettings.on_free_ports(
        repository, folder / "log", ready_timeout_s=300.0, threads=1
    )
    with TritonServer(settings):
        yield settings.grpc_url


@pytest.fixture
def sharing(triton):
    with Client(triton, timeout_s=60) as client:
        client._peer.shared_memory.least_bytes = 0
        yield client


def registered(url):
    from tritonclient.grpc import InferenceServerClient

    with InferenceServerClient(url) as operator:
        return [n for n in operator.get_system_shared_memory_status().regions if PREFIX in n]


SIZE = {"num_frames": 6, "height": 32, "width": 32, "policy": "base", "seed": 3}


@pytest.mark.triton
def test_through_triton_the_frames_are_the_same(triton, sharing):
    with Client(triton, timeout_s=60, shared_memory=False) as plain:
        expected = plain.generate("a cat", **SIZE).frames
        clips = [sharing.generate("a cat", **SIZE) for _ in range(3)]
        outcomes = list(sharing.generate_many(["a cat"] * 6, **SIZE))
    assert sharing._peer.shared_memory.possible
    for clip in [*clips, *(clip for _, clip in outcomes)]:
        np.testing.assert_array_equal(clip.frames, expected)
        assert not clip.frames.flags.writeable
    sharing.close()
    assert registered(triton) == []


@pytest.mark.triton
def test_through_triton_with_asyncio(triton):
    async def main():
        async with AsyncClient(triton, timeout_s=60) as client:
            client._peer.shared_memory.least_bytes = 0
            clips = [clip async for _, clip in client.generate_many(["a cat"] * 4, **SIZE)]
            task = asyncio.create_task(client.generate("a cat", **SIZE))
            await asyncio.sleep(0.05)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            return clips

    first, *others = asyncio.run(main())
    for clip in others:
        np.testing.assert_array_equal(clip.frames, first.frames)
    assert registered(triton) == []


@pytest.mark.triton
def test_through_triton_a_refusal_and_a_cancelled_clip_leave_nothing(triton, sharing):
    with pytest.raises(RequestRejected, match="famly"):
        sharing.generate("a cat", **SIZE | {"policy": "famly"})
    events = sharing.stream("a cat", **SIZE)
    next(events)
    events.close()
    sharing.close()
    assert registered(triton) == []


@pytest.mark.triton
def test_through_triton_a_killed_client_leaves_no_file_and_the_next_one_clears_up(triton, sharing):
    command = [sys.executable, "-c", KILLED, triton]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline().startswith("Progress")
        assert registered(triton)
        process.kill()
    assert files_of(process.pid) == []
    while registered(triton):  # as soon as Triton has noticed that nobody reads the clip
        sharing._peer.shared_memory._asked = False
        sharing.generate("a cat", **SIZE)
