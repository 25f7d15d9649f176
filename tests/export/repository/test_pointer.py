"""The pointer file: its rules, and that it is whole whatever happens at the same time."""

import json
import subprocess
import sys
import threading

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from record_fakes import audit_event
from unsee.core.errors import InputError
from unsee.repository import ledger, pointer
from unsee.repository.layout import POINTER_FILE
from unsee.repository.records import Policies, PolicyState


@pytest.fixture
def repository(tmp_path):
    content = {"schema_version": 2, "default_policy": None, "policies": {}}
    (tmp_path / POINTER_FILE).write_text(json.dumps(content))
    return tmp_path


def policies(**state):
    return Policies(policies={"family": PolicyState(**state)})


def test_publish_promote_and_roll_back():
    state = PolicyState().with_eligible(1)
    assert state.active is None
    state = state.with_active(1).with_eligible(2)
    assert state.active == 1
    state = state.with_active(2).with_rollback(1)
    assert (state.active, state.eligible, state.history) == (1, (1, 2), (1, 2, 1))
    assert state.rolled_back == (2,)


def test_promoting_the_active_revision_changes_nothing():
    state = PolicyState().with_eligible(1).with_active(1)
    assert state.with_active(1) == state


def test_the_latest_that_no_rollback_has_left_is_promoted_by_itself():
    state = {"active": 1, "eligible": (1, 2, 3), "rolled_back": (3,), "history": (1, 3, 1)}
    assert pointer.promotable(policies(**state), "family") == 2
    assert pointer.promotable(policies(**state), "family", 3) == 3
    assert PolicyState(**state).with_active(3).rolled_back == ()


def test_if_all_were_rolled_back_a_name_is_asked_for():
    left = policies(active=None, eligible=(2,), rolled_back=(2,))
    with pytest.raises(InputError, match=r"was rolled back \(2\); name one of them"):
        pointer.promotable(left, "family")


def test_two_rollbacks_in_a_row_go_further_back_and_never_forth():
    state = PolicyState()
    for revision in (1, 2, 3):
        state = state.with_eligible(revision).with_active(revision)
    went = []
    for _ in range(2):
        went.append(pointer.previous(policies(**state.model_dump()), "family"))
        state = state.with_rollback(went[-1])
    assert went == [2, 1]
    with pytest.raises(InputError, match=r"before revision 1 .* eligible are: 1, 2, 3; name one"):
        pointer.previous(policies(**state.model_dump()), "family")


def test_the_only_eligible_revision_is_not_offered_to_go_back_to() -> None:
    only = {"active": 1, "eligible": (1,), "history": (1,)}
    with pytest.raises(InputError, match="revision 1 is the only one that is; publish another"):
        pointer.previous(policies(**only), "family")


def test_a_retired_revision_is_not_gone_back_to():
    state = {"active": 3, "eligible": (1, 3), "history": (1, 2, 3), "retired": (2,)}
    assert pointer.previous(policies(**state), "family") == 1
    with pytest.raises(InputError, match=r"revision 2 .* was retired; eligible are: 1, 3"):
        pointer.previous(policies(**state), "family", 2)
    with pytest.raises(InputError, match=r"revision 3 .* is active already"):
        pointer.previous(policies(**state), "family", 3)


def test_the_active_revision_cannot_be_retired_and_a_retired_one_again():
    state = {"active": 2, "eligible": (1, 2), "retired": (4,)}
    with pytest.raises(InputError, match=r"revision 2 .* is active; .* unsee rollback"):
        pointer.retirable(policies(**state), "family", 2)
    with pytest.raises(InputError, match="not eligible"):
        pointer.retirable(policies(**state), "family", 3)
    assert [pointer.retirable(policies(**state), "family", n) for n in (1, 4)] == [1, 4]


def test_unknown_policies_and_revisions_name_the_known_ones():
    with pytest.raises(InputError, match=r'no policy "famly".* it has: family'):
        pointer.promotable(policies(), "famly")
    with pytest.raises(InputError, match="publish one first"):
        pointer.promotable(policies(), "family")
    with pytest.raises(InputError, match=r'revision 7 of the policy "family".* are: 1'):
        pointer.promotable(policies(eligible=(1,)), "family", 7)


def test_a_file_of_before_the_last_fields_is_read(repository):
    state = {"active": 1, "eligible": [1], "history": [1]}
    content = {"schema_version": 2, "default_policy": None, "policies": {"base": state}}
    (repository / POINTER_FILE).write_text(json.dumps(content))
    assert pointer.read(repository).state("base").active == 1


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"schema_version": 2, "colour": "red"}'],
)
def test_a_broken_file_is_named_and_left_as_it_is(repository, content):
    file = repository / POINTER_FILE
    file.write_bytes(content)
    with pytest.raises(InputError, match=r"policies\.json is broken"):
        ledger.change(repository, lambda before: (before, audit_event()))
    assert file.read_bytes() == content


def test_a_file_of_another_format_says_which_is_read(repository):
    (repository / POINTER_FILE).write_bytes(b'{"schema_version": 1}')
    with pytest.raises(InputError, match=r"json has the format 1, and .* reads 2; .* unsee export"):
        pointer.read(repository)


def test_a_folder_that_is_no_repository(tmp_path):
    with pytest.raises(InputError, match="unsee export"):
        pointer.read(tmp_path)
    with pytest.raises(InputError, match="nowhere"):
        ledger.change(tmp_path / "nowhere", lambda before: (before, audit_event()))


class StateMachine(RuleBasedStateMachine):
    """Whatever is done in whatever order: what is active is eligible, what is retired stays so."""

    numbers = st.integers(1, 4)

    def __init__(self):
        super().__init__()
        self.state = PolicyState()
        self.was_retired = set()

    @rule(revision=numbers)
    def publish(self, revision):
        if revision not in self.was_retired:
            self.state = self.state.with_eligible(revision)

    @rule(revision=st.none() | numbers)
    def promote(self, revision):
        self.attempt(pointer.promotable, "with_active", revision)

    @rule(revision=st.none() | numbers)
    def roll_back(self, revision):
        self.attempt(pointer.previous, "with_rollback", revision)

    @rule(revision=numbers)
    def retire(self, revision):
        if self.attempt(pointer.retirable, "with_retired", revision):
            self.was_retired.add(revision)

    def attempt(self, allowed, change, revision):
        try:
            chosen = allowed(policies(**self.state.model_dump()), "family", revision)
        except InputError:
            return False
        self.state = getattr(self.state, change)(chosen)
        return True

    @invariant()
    def holds(self):
        state = self.state
        assert state.active is None or state.active in state.eligible
        assert (state.history[-1:] or (None,))[0] == state.active
        assert state.active not in state.rolled_back
        assert set(state.rolled_back) <= set(state.eligible)
        assert set(state.retired) == self.was_retired
        assert not set(state.retired) & set(state.eligible)


TestStateMachine = StateMachine.TestCase
TestStateMachine.settings = settings(max_examples=50, stateful_step_count=20, deadline=None)


WRITER = """
import sys
from pathlib import Path
from unsee.repository import ledger
from unsee.repository.records import AuditEvent
from unsee.repository.records import PolicyState
repository, policy = Path(sys.argv[1]), sys.argv[2]
for revision in range(1, 9):
    def change(before):
        state = before.policies.get(policy, PolicyState())
        event = AuditEvent(action="publish", policy=policy, revision=revision,
                           encoder_digest=None, report_digest=None)
        return before.with_state(policy, state.with_eligible(revision).with_active(revision)), event
    ledger.change(repository, change)
"""


@pytest.mark.process
def test_writers_in_several_processes_lose_nothing_and_readers_never_see_half_a_file(repository):
    names = ["family", "studio-x"]
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(repository), name]) for name in names
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
    assert codes == [0, 0]
    assert broken == []
    for name in names:
        state = pointer.read(repository).state(name)
        assert state.active == 8
        assert state.eligible == state.history == tuple(range(1, 9))
    logged = [(e.policy, e.revision) for e in ledger.history(repository).events]
    assert sorted(logged) == [(name, n) for name in names for n in range(1, 9)]
