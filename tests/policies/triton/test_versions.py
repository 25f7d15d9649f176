"""Stand-ins that an interrupted command has left: a policy's own, not those of its neighbours."""

import pytest

from unsee.repository.layout import stand_in_dirs
from unsee.triton.versions import remove_stand_ins


@pytest.mark.parametrize("neighbour", ["family-kids", "family-2", "fam"])
def test_stand_ins_of_a_policy_whose_name_begins_alike_are_left_alone(tmp_path, neighbour):
    own = tmp_path / ".stand-in-text_encoder_family-3"
    other = tmp_path / f".stand-in-text_encoder_{neighbour}-3"
    for folder in (own, other):
        folder.mkdir()
    model_dir = tmp_path / "text_encoder_family"
    assert stand_in_dirs(model_dir) == [own]
    remove_stand_ins(model_dir)
    assert not own.exists()
    assert other.exists()
    assert stand_in_dirs(model_dir) == []
