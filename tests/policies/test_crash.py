"""kill -9 at every step of every command: the service goes on, and the command can be run again."""

import json
import shutil

import pytest

from killed_command import NEEDS_SPACE, unsee
from publish_fakes import GOLDEN, FakeTriton, write_repository
from report_fakes import fake_report
from unsee.repository import ledger, pointer
from unsee.repository.layout import REJECTED, RETIRED
from unsee.repository.revisions import check_files
from unsee.triton.server import Server

pytestmark = pytest.mark.process

PUBLISH, PROMOTE = "publish", "promote"
ROLLBACK, RETIRE = "rollback", "retire"


class World:
    """A repository with a policy `family` (revisions 1 and 2, 2 active) and its Triton."""

    def __init__(self, folder):
        self.folder, self.repository = folder, write_repository(folder / "repository", family=2)
        (folder / "blimbo").mkdir()
        concept = {"concept": "Blimbo", "category": "character", "delta": "blimbo"}
        policy = {"name": "family", "unsee": [concept]}
        (folder / "family.yaml").write_text(json.dumps(policy))
        (folder / "report.json").write_text(fake_report().model_dump_json())
        self.triton = FakeTriton(self.repository)

    def run(self, command, **faults):
        options = {
            PUBLISH: (self.folder / "family.yaml", "--base", "b", "--report", self.folder),
            PROMOTE: ("family", "--revision", "1"),
            ROLLBACK: ("family", "--to", "1", "--reason", "why"),
            RETIRE: ("family", "1"),
            "repair": (),
        }[command]
        places = ("--repository", self.repository)
        if command != RETIRE:
            places += ("--url", self.triton.url)
        return unsee(command, *options, *places, **faults)

    @property
    def state(self):
        return pointer.read(self.repository).state("family")

    def check_the_service(self):
        """What requests may use is there and whole; what they chose before still answers."""
        state, server = self.state, Server(self.triton.url)
        assert state.active in state.eligible
        for revision in state.eligible:
            check_files(self.repository, "family", revision)
        for revision in {1, 2, *state.eligible}:
            assert server.probe("family", revision, GOLDEN) == 0
        assert pointer.read(self.repository).state("base").active == 1
        assert server.probe("base", 1, GOLDEN) == 0

    def check_the_order(self, may_settle=False):
        """Nothing is left over on the disk, or missing in the log."""
        model_dir = self.repository / "policy_family"
        on_disk = {int(path.name) for path in model_dir.iterdir() if path.name.isdigit()}
        assert on_disk == set(self.state.eligible)
        assert not list(model_dir.glob(".unfinished-*"))
        log = ledger.history(self.repository)
        assert log.broken == ()
        assert ledger.settle(self.repository) is False or may_settle


@pytest.fixture
def world(tmp_path):
    worlds = []

    def make():
        shutil.rmtree(tmp_path / "world", ignore_errors=True)
        (tmp_path / "world").mkdir()
        worlds.append(World(tmp_path / "world"))
        return worlds[-1]

    yield make
    for each in worlds:
        each.triton.stop()


DONE = {
    PUBLISH: lambda state: len(state.eligible) == 3 and state.active == 2,
    PROMOTE: lambda state: state.active == 1,
    ROLLBACK: lambda state: state.active == 1,
    RETIRE: lambda state: state.eligible == (2,) and state.retired == (1,),
}


def changes(steps):
    """The steps, counted from 1, before which something was changed since the one before."""
    return [k for k in range(1, len(steps) + 1) if k == 1 or steps[k - 2] not in ("fsync", "probe")]


@pytest.mark.parametrize("command", list(DONE))
def test_killed_at_any_step_and_run_again(world, command):
    steps = world().run(command).steps
    assert {"replace", "write"} <= set(steps)
    for step in changes(steps):
        here = world()
        here.run(command, kill_at=step)
        here.check_the_service()
        made_already = command == ROLLBACK and DONE[ROLLBACK](here.state)
        again = here.run(command)
        assert again.code == (2 if made_already else 0), again.words
        assert DONE[command](here.state)
        here.check_the_service()
        events = [event.action for event in ledger.history(here.repository).events]
        assert command in events
        here.check_the_order(may_settle=made_already)


@pytest.mark.parametrize("graph", ["broken", "wrong"])
def test_a_bad_revision_killed_at_any_step_is_put_away_by_repair(world, graph):
    refused = world().run(PUBLISH, graph=graph)
    assert refused.code == 3
    assert "taken back" in refused.words
    for step in changes(refused.steps):
        here = world()
        here.run(PUBLISH, graph=graph, kill_at=step)
        here.check_the_service()
        repaired = here.run("repair")
        assert repaired.code == 0, repaired.words
        assert here.state.eligible == (1, 2)
        here.check_the_service()
        here.check_the_order()


def test_what_was_killed_is_kept_and_its_number_is_not_given_again(world):
    steps = world().run(PUBLISH).steps
    here = world()
    here.run(PUBLISH, kill_at=1 + steps.index("probe"))
    here.run(PUBLISH)
    assert here.state.eligible == (1, 2, 4)
    assert (here.repository / REJECTED / "policy_family" / "3" / "model.onnx").is_file()


def test_repair_completes_a_retirement_killed_at_any_step(world):
    for step in changes(world().run(RETIRE).steps):
        here = world()
        here.run(RETIRE, kill_at=step)
        offered = 1 in here.state.eligible
        assert here.run("repair").code == 0
        kept = here.repository / RETIRED / "policy_family" / "1"
        assert kept.is_dir() is not offered
        here.check_the_service()
        here.check_the_order()


@pytest.mark.parametrize("command", list(DONE))
def test_a_disk_that_is_full_from_any_step_on_is_one_sentence_and_the_service_goes_on(
    world, command
):
    steps = world().run(command).steps
    for step in [k for k, name in enumerate(steps, start=1) if name in NEEDS_SPACE]:
        here = world()
        full = here.run(command, full_from=step)
        here.check_the_service()
        error = full.words.strip().splitlines()[-1]
        assert full.code in (1, 2), full.words
        assert error.startswith("error: ")
        assert "No space left on device" in error
        assert "Traceback" not in full.words
        again = here.run(command)
        made_already = command == ROLLBACK and again.code == 2
        assert again.code == 0 or made_already, again.words
        assert DONE[command](here.state)
        here.check_the_service()
        here.check_the_order(may_settle=made_already)
