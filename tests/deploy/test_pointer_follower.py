"""One replica beside a store: what it offers, when, and what it does when that goes wrong."""

import os
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from publish_fakes import GOLDEN, FakeTriton, write_next_revision, write_repository
from text_to_video.policies import PolicyPointer
from text_to_video.refusal import Refusal
from unsee.core.errors import InputError, RevisionUnfit
from unsee.policies.following.cli import follow
from unsee.policies.following.follower import Follower, FollowerSettings, followed, prepare
from unsee.policies.following.replica import copies, fetch_revision, retire_revision
from unsee.repository import ledger, pointer
from unsee.repository.layout import HEARTBEAT_FILE, RETIRED, SERVED_MODELS
from unsee.repository.records import Policies, PolicyState
from unsee.triton.server import Server

PATIENCE_S = 20


@pytest.fixture
def store(tmp_path):
    """Policies `base` (revision 1), `family` (1 and 2, 2 active); no graph is a real one."""
    store = write_repository(tmp_path / "store", family=2)
    for model in (*SERVED_MODELS, "policy_base", "policy_family"):
        (store / model).mkdir(exist_ok=True)
        (store / model / "config.pbtxt").write_text(f'name: "{model}"')
    return store


@pytest.fixture
def settings(store, tmp_path):
    return FollowerSettings(store, tmp_path / "replica", store, Server(""), 60.0, 0.01, 0.05)


@pytest.fixture
def triton(settings):
    prepare(settings)
    fake = FakeTriton(settings.repository_dir)
    yield fake
    fake.stop()


@pytest.fixture
def said():
    return []


@pytest.fixture
def follower(settings, triton, said):
    return Follower(with_url(settings, triton), said.append)


def with_url(settings, triton, **changes):
    return replace(settings, server=Server(triton.url), **changes)


def change(repository, policy, state):
    """Let the shared pointer say `state` of `policy`, as the commands do."""

    def decide(policies):
        event = ledger.event_of(repository, "repair", policy, state.active or 1)
        return policies.with_state(policy, state), event

    ledger.change(repository, decide)


def look_until(follower, condition):
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "the follower did not get there"
        follower.look()
        time.sleep(0.005)


def own(settings, policy="family"):
    return pointer.read(settings.repository_dir).policies.get(policy, PolicyState())


def test_a_repository_with_graphs_of_its_own_is_no_replica(settings, store):
    prepare(settings)
    replica = settings.repository_dir
    unfinished = store / "policy_family" / ".unfinished-1"
    unfinished.mkdir()
    for store_dir in (store, replica):
        swapped = replace(settings, store_dir=store_dir, repository_dir=store)
        for begin in (prepare, Follower):
            with pytest.raises(InputError, match="with a text_encoder of its own"):
                begin(swapped)
    assert unfinished.is_dir()


def test_a_prepared_replica_offers_what_the_store_offers(settings, store):
    prepare(settings)
    assert pointer.read(settings.repository_dir) == pointer.read(store)
    assert copies(settings.repository_dir) == {("base", 1), ("family", 1), ("family", 2)}
    assert (settings.repository_dir / "video_denoiser").resolve() == store / "video_denoiser"
    assert not (settings.repository_dir / "vae_decoder_next").exists()
    (store / "vae_decoder_next").mkdir()
    prepare(settings)  # a container that starts again finds its own copies
    assert (settings.repository_dir / "vae_decoder_next").resolve() == store / "vae_decoder_next"
    assert pointer.read(settings.repository_dir) == pointer.read(store)


def test_what_is_not_offered_is_not_copied(settings, store):
    change(store, "family", PolicyState(active=1, eligible=(1,)))
    prepare(settings)
    assert copies(settings.repository_dir) == {("base", 1), ("family", 1)}


def test_a_damaged_active_revision_stops_a_replica_from_starting(settings, store):
    (store / "policy_family" / "2" / "model.onnx").write_bytes(b"good but another")
    change(store, "family", PolicyState(active=2, eligible=(1, 2)))
    with pytest.raises(RevisionUnfit, match=r"model\.onnx has the digest"):
        prepare(settings)
    change(store, "family", PolicyState(active=1, eligible=(1, 2)))
    lines = []
    prepare(settings, lines.append)
    assert own(settings) == PolicyState(active=1, eligible=(1,))
    assert any("revision 2 is left out" in line for line in lines)


def test_a_new_revision_is_offered_only_when_the_server_has_answered_with_it(
    settings, store, triton, follower
):
    write_next_revision(store, "family")
    change(store, "family", PolicyState(active=3, eligible=(1, 2, 3)))
    follower.look()
    assert own(settings) == PolicyState(active=2, eligible=(1, 2))
    look_until(follower, lambda: own(settings).active == 3)
    assert ("probe", "family", 3) in triton.calls


def test_going_back_takes_one_look(settings, store, follower):
    change(store, "family", PolicyState(active=2, eligible=(1, 2)))
    follower.look()
    change(store, "family", PolicyState(active=1, eligible=(1, 2), rolled_back=(2,)))
    follower.look()
    assert own(settings) == PolicyState(active=1, eligible=(1, 2), rolled_back=(2,))


@pytest.mark.parametrize("graph", ["broken", "wrong"])
def test_a_revision_that_does_not_answer_here_leaves_the_replica_as_it_was(
    settings, store, triton, follower, said, graph
):
    change(store, "family", PolicyState(active=1, eligible=(1, 2)))
    follower.look()
    write_next_revision(store, "family", graph)
    change(store, "family", PolicyState(active=3, eligible=(1, 2, 3)))
    look_until(follower, lambda: any("revision 3:" in line for line in said))
    follower.look()
    assert own(settings).active == 1
    assert ("family", 3) not in copies(settings.repository_dir)


def test_an_older_revision_is_refused_when_the_new_one_does_not_come_in_time(
    settings, store, triton, said
):
    follower = Follower(with_url(settings, triton, max_lag_s=0.2), said.append)
    change(store, "family", PolicyState(active=1, eligible=(1, 2)))
    follower.look()
    write_next_revision(store, "family", "broken")
    change(store, "family", PolicyState(active=3, eligible=(1, 2, 3)))
    look_until(follower, lambda: own(settings).active is None)
    with pytest.raises(Refusal) as caught:
        PolicyPointer(settings.repository_dir).resolve("family", None)
    assert caught.value.status == "UNAVAILABLE"
    assert PolicyPointer(settings.repository_dir).resolve("base", None).number == 1
    change(store, "family", PolicyState(active=1, eligible=(1, 2)))
    follower.look()
    assert own(settings).active == 1


def test_a_withdrawn_revision_is_refused_at_once_and_still_there_for_who_chose_it(
    settings, store, triton, follower
):
    change(store, "family", PolicyState(active=2, eligible=(2,), retired=(1,)))
    follower.look()
    with pytest.raises(Refusal, match="no revision 1"):
        PolicyPointer(settings.repository_dir).resolve("family", 1)
    look_until(follower, lambda: ("family", 1) not in copies(settings.repository_dir))
    assert Server(triton.url).probe("family", 1, GOLDEN) == 0
    assert (store / "policy_family" / "1").is_dir(), "the store is only read"


def test_what_was_withdrawn_long_ago_is_removed(settings):
    prepare(settings)
    repository_dir = settings.repository_dir
    retire_revision(repository_dir, "family", 1, kept_s=60.0)
    kept = repository_dir / RETIRED / "policy_family"
    fetch_revision(settings.store_dir, repository_dir, "family", 1)
    retire_revision(repository_dir, "family", 1, kept_s=60.0)
    assert [path.name for path in kept.iterdir()] == ["1"]
    os.utime(kept / "1", (0, 0))
    retire_revision(repository_dir, "family", 2, kept_s=60.0)
    assert [path.name for path in kept.iterdir()] == ["2"]


def test_a_new_policy_appears_and_a_removed_one_goes(settings, store, triton, follower):
    (store / "policy_studio").mkdir()
    (store / "policy_studio" / "config.pbtxt").write_text('name: "policy_studio"')
    write_next_revision(store, "studio")
    change(store, "studio", PolicyState(active=1, eligible=(1,)))
    look_until(follower, lambda: own(settings, "studio").active == 1)
    left = pointer.read(store).policies
    del left["studio"]
    ledger.replace_pointer(store, Policies(policies=left))
    look_until(follower, lambda: ("studio", 1) not in copies(settings.repository_dir))


def test_a_server_that_is_away_is_waited_for(settings, store, triton, follower, said):
    triton.stop()
    write_next_revision(store, "family")
    change(store, "family", PolicyState(active=3, eligible=(1, 2, 3)))
    look_until(follower, lambda: any("no server answers" in line for line in said))
    assert own(settings).active != 3
    back = FakeTriton(settings.repository_dir)
    again = Follower(with_url(settings, back), said.append)
    look_until(again, lambda: own(settings).active == 3)
    back.stop()


@pytest.mark.parametrize("content", [None, "{", '{"schema_version": 2, "policies": {}}'])
def test_a_pointer_that_cannot_be_read_changes_nothing(settings, store, follower, said, content):
    before = own(settings)
    file = store / "policies.json"
    file.unlink()
    if content is not None:
        file.write_text(content)
    follower.look()
    follower.look()
    assert own(settings) == before
    assert len([line for line in said if "goes on with what it has" in line]) == 1


def test_each_look_leaves_a_sign_of_life(settings, follower):
    follower.look()
    file = settings.repository_dir / HEARTBEAT_FILE
    first = file.stat().st_mtime_ns
    time.sleep(0.02)
    follower.look()
    assert file.stat().st_mtime_ns > first


def test_it_stops_when_told(follower):
    stop = threading.Event()
    thread = threading.Thread(target=follower.run, args=(stop,))
    thread.start()
    stop.set()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


@pytest.mark.process
def test_the_command_follows_until_it_is_told_to_stop(settings):
    prepare(settings)
    program = "from unsee.policies.following.cli import follow; follow()"
    options = ["--store", settings.store_dir, "--repository", settings.repository_dir]
    process = subprocess.Popen([sys.executable, "-c", program, *options])
    heartbeat = settings.repository_dir / HEARTBEAT_FILE
    deadline = time.monotonic() + PATIENCE_S
    while not heartbeat.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.terminate()
    assert process.wait(PATIENCE_S) == 0


def test_a_cut_off_copy_is_made_anew(settings, store):
    prepare(settings)
    copy = settings.repository_dir / "policy_family" / "1" / "model.onnx"
    copy.write_bytes(b"good enc")
    fetch_revision(store, settings.repository_dir, "family", 1)
    assert copy.read_bytes() == (store / "policy_family" / "1" / "model.onnx").read_bytes()


def test_a_store_that_went_away_is_a_sentence(settings, store):
    prepare(settings)
    shutil.rmtree(store / "policy_family" / "2")
    shutil.rmtree(settings.repository_dir / "policy_family" / "2")
    with pytest.raises(InputError, match="cannot copy"):
        fetch_revision(store, settings.repository_dir, "family", 2)
    assert ("family", 2) not in copies(settings.repository_dir)


def test_the_command_prepares(settings, store):
    options = ["--store", store, "--repository", settings.repository_dir, "--prepare"]
    done = CliRunner().invoke(follow, [str(option) for option in options])
    assert done.exit_code == 0
    assert "family: revision 2 was copied" in done.output


REVISIONS = st.integers(1, 4)
NAMES = st.sampled_from(["base", "family"])


@st.composite
def states(draw):
    eligible = tuple(sorted(draw(st.sets(REVISIONS))))
    active = draw(st.sampled_from(eligible)) if eligible and draw(st.booleans()) else None
    return PolicyState(active=active, eligible=eligible)


POINTERS = st.dictionaries(NAMES, states()).map(lambda states: Policies(policies=states))


@given(POINTERS, st.sets(st.tuples(NAMES, REVISIONS)), POINTERS, st.sets(NAMES))
def test_no_pointer_makes_a_replica_use_what_it_lacks_or_what_was_withdrawn(
    wanted, held, before, overdue
):
    for name, state in followed(wanted, held, before, overdue).policies.items():
        shared = wanted.policies[name]
        assert {(name, n) for n in state.eligible} == {(name, n) for n in shared.eligible} & held
        assert state.active is None or state.active in state.eligible
        if shared.active is None or (name, shared.active) in held:
            assert state.active == shared.active
        elif name in overdue:
            assert state.active is None
