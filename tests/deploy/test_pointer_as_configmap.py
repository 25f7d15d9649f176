"""A pointer in a folder laid out and changed as the kubelet does it with a mounted ConfigMap.

The file is a link to `..data/policies.json`, `..data` a link to a dated folder, and a change
renames a new link over `..data` and then removes the old folder.
"""

import json
import threading
from contextlib import suppress

import pytest

from serving_fakes import write_fake_repository
from text_to_video.policies import PolicyPointer
from unsee.core.errors import InputError
from unsee.repository import pointer
from unsee.repository.records import Policies, PolicyState


class MountedConfigMap:
    """The folder; `update` changes its one file."""

    def __init__(self, folder, content):
        self.folder, self._count = folder, 0
        folder.mkdir(exist_ok=True)
        self.update(content)
        (folder / "policies.json").symlink_to("..data/policies.json")

    def update(self, content):
        dated = self.folder / f"..2026_01_01_{self._count}"
        dated.mkdir()
        (dated / "policies.json").write_text(content)
        link = self.folder / "..data_tmp"
        link.symlink_to(dated.name)
        old = (self.folder / "..data").readlink() if self._count else None
        link.rename(self.folder / "..data")
        if old is not None:
            (self.folder / old / "policies.json").unlink()
            (self.folder / old).rmdir()
        self._count += 1


def content(active):
    state = PolicyState(active=active, eligible=(1, 2), history=(1, 2))
    return Policies(policies={"base": PolicyState(), "family": state}).model_dump_json()


@pytest.fixture
def mount(tmp_path):
    return MountedConfigMap(tmp_path / "pointer", content(1))


def test_a_swapped_link_is_seen_by_who_reads_the_whole_file(mount):
    assert pointer.read(mount.folder).state("family").active == 1
    mount.update(content(2))
    assert pointer.read(mount.folder).state("family").active == 2


def test_readers_never_see_half_a_change(mount):
    stop, seen = threading.Event(), set()

    def read():
        while not stop.is_set():
            with suppress(InputError):  # the old folder went between its link and its file
                seen.add(pointer.read(mount.folder).state("family").active)

    thread = threading.Thread(target=read)
    thread.start()
    for number in range(200):
        mount.update(content(1 + number % 2))
    stop.set()
    thread.join()
    assert seen == {1, 2}


def test_text_to_video_sees_a_swapped_link_too(tmp_path):
    """Where a repository's own pointer is such a link: same size, and perhaps the same time."""
    repository = write_fake_repository(tmp_path / "repository")
    record = json.loads((repository / "policies.json").read_text())
    (repository / "policies.json").unlink()
    mount = MountedConfigMap(repository, json.dumps(record))
    of_server = PolicyPointer(repository)
    assert of_server.resolve("family", None).number == 1
    record["policies"]["family"]["active"] = 2
    mount.update(json.dumps(record))
    assert of_server.resolve("family", None).number == 2
