"""Two real Tritons on one store: a promotion reaches both, and one that was killed comes back."""

import pytest

from benchmarks.reliability import replicas
from serving_fakes import write_fake_repository


@pytest.mark.triton
@pytest.mark.slow
def test_replicas_follow_one_pointer(tmp_path):
    store = write_fake_repository(tmp_path / "store")
    found = replicas.Study(store, tmp_path, "family", 2).run(num_new=1, num_swaps=2)
    assert found.failures == []
    assert found.wrong_revisions == 0
    assert found.requests > 20
    assert len(found.new_revision_s) == 2
    assert len(found.swap_s) == 4
    assert max(found.swap_s) < 10


def test_a_relapse_is_counted():
    def answers(*revisions):
        return [replicas.Answer(at, at + 0.5, n) for at, n in enumerate(revisions)]

    swaps = [replicas.Swap(0.0, 0.0, 1), replicas.Swap(2.0, 2.5, 2)]
    assert replicas.wrong(answers(1, 1, 1, 2, 2), swaps) == 0
    assert replicas.wrong(answers(1, 1, 1, 2, 1), swaps) == 1
    assert replicas.wrong(answers(1, 2, 3, 2, 2), swaps) == 2
