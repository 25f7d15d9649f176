"""The pointer file: its rules, and that it is whole whatever happens at the same time."""

import json
import subprocess
import sys
import threading

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from unsee.client.errors import InputError
from unsee.serving import pointer


def write_repository(folder):
    base = {"active": 1, "eligible": [1], "history": [1]}
    content = {"schema_version": 1, "default_policy": None, "policies": {"base": base}}
    (folder / pointer.POINTER_FILE).write_text(json.dumps(content))
    return folder


@pytest.fixture
def repository(tmp_path):
    return write_repository(tmp_path)


def test_publish_promote_and_roll_back(repository):
    pointer.eligible(repository, "family", 1)
    assert pointer.read(repository).state("family").active is None
    pointer.promote(repository, "family")
    pointer.eligible(repository, "family", 2)
    assert pointer.read(repository).state("family").active == 1
    assert pointer.promote(repository, "family").state("family").active == 2
    state = pointer.promote(repository, "family", 1).state("family")
    assert (state.active, state.eligible, state.history) == (1, (1, 2), (1, 2, 1))


def test_promoting_the_active_revision_changes_nothing(repository):
    pointer.eligible(repository, "family", 1)
    once = pointer.promote(repository, "family")
    assert pointer.promote(repository, "family") == once


def test_the_default_policy_is_set_on_request_only(repository):
    pointer.eligible(repository, "family", 1)
    assert pointer.promote(repository, "family").default_policy is None
    assert pointer.promote(repository, "family", default=True).default_policy == "family"


def test_other_policies_are_left_alone(repository):
    before = pointer.read(repository).state("base")
    pointer.eligible(repository, "family", 1)
    assert pointer.promote(repository, "family").state("base") == before


def test_unknown_policies_and_revisions_name_the_known_ones(repository):
    with pytest.raises(InputError, match=r'no policy "famly".* it has: base'):
        pointer.promote(repository, "famly")
    with pytest.raises(InputError, match=r'revision 7 of the policy "base".* these are: 1'):
        pointer.promote(repository, "base", 7)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"schema_version": 2}', b'{"schema_version": 1, "colour": "red"}'],
)
def test_a_broken_file_is_named_and_left_as_it_is(repository, content):
    file = repository / pointer.POINTER_FILE
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"policies\.json is broken"):
        pointer.eligible(repository, "family", 1)
    assert file.read_bytes() == content


def test_a_folder_that_is_no_repository(tmp_path):
    with pytest.raises(InputError, match="unsee export"):
        pointer.read(tmp_path)
    with pytest.raises(InputError, match="nowhere"):
        pointer.promote(tmp_path / "nowhere", "base")


class PointerMachine(RuleBasedStateMachine):
    """Any sequence of calls leaves a file that reads back as what a plain model says."""

    policies = st.sampled_from(["base", "family", "studio-x"])
    revisions = st.integers(1, 4)

    @initialize()
    def start(self):
        import tempfile
        from pathlib import Path

        self.folder = tempfile.TemporaryDirectory()
        self.repository = write_repository(Path(self.folder.name))
        self.eligible = {"base": {1}}
        self.active = {"base": 1}

    @rule(policy=policies, revision=revisions)
    def mark(self, policy, revision):
        pointer.eligible(self.repository, policy, revision)
        self.eligible.setdefault(policy, set()).add(revision)

    @rule(policy=policies, revision=st.none() | revisions)
    def promote(self, policy, revision):
        known = self.eligible.get(policy, set())
        if known and (revision is None or revision in known):
            pointer.promote(self.repository, policy, revision)
            self.active[policy] = max(known) if revision is None else revision
        else:
            with pytest.raises(InputError):
                pointer.promote(self.repository, policy, revision)

    @invariant()
    def file_says_the_same(self):
        read = pointer.read(self.repository).policies
        assert {name: set(state.eligible) for name, state in read.items()} == self.eligible
        for name, state in read.items():
            assert state.active == self.active.get(name)
            assert (state.history[-1:] or (None,))[0] == state.active

    def teardown(self):
        if hasattr(self, "folder"):
            self.folder.cleanup()


TestPointerMachine = PointerMachine.TestCase
TestPointerMachine.settings = settings(max_examples=15, stateful_step_count=10, deadline=None)

WRITER = """
import sys
from pathlib import Path
from unsee.serving import pointer
repository, policy = Path(sys.argv[1]), sys.argv[2]
for revision in range(1, 9):
    pointer.eligible(repository, policy, revision)
    pointer.promote(repository, policy)
"""


def test_writers_in_several_processes_lose_nothing_and_readers_never_see_half_a_file(repository):
    policies = ["family", "studio-x", "kids"]
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(repository), policy])
        for policy in policies
    ]
    broken = []
    done = threading.Event()

    def watch():
        while not done.is_set():
            try:
                pointer.read(repository)
            except InputError as error:
                broken.append(error)
            done.wait(0.001)

    reader = threading.Thread(target=watch)
    reader.start()
    codes = [writer.wait(60) for writer in writers]
    done.set()
    reader.join()
    assert codes == [0, 0, 0]
    assert broken == []
    for policy in policies:
        state = pointer.read(repository).state(policy)
        assert state.active == 8
        assert state.eligible == state.history == tuple(range(1, 9))


def test_a_writer_that_dies_before_the_replacement_changes_nothing(repository, monkeypatch):
    before = (repository / pointer.POINTER_FILE).read_bytes()

    def crash(descriptor):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(pointer.os, "fsync", crash)
        with pytest.raises(KeyboardInterrupt):
            pointer.eligible(repository, "family", 1)
    assert (repository / pointer.POINTER_FILE).read_bytes() == before
    assert pointer.eligible(repository, "family", 1).state("family").eligible == (1,)
