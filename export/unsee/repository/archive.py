"""Where revisions go that are not served any more, and which numbers were ever given.

    <repository>/.retired/<model>/<N>    was served once
    <repository>/.rejected/<model>/<N>   never answered as it should, or was never finished

Both lie outside of the model's folder, so Triton does not load them. Nothing is deleted: a revision
is evidence. Knows neither why a revision goes nor who must be told.
"""

import re
from pathlib import Path

from unsee.core.files import sync

RETIRED = ".retired"
REJECTED = ".rejected"
_GIVEN = re.compile(r"([1-9][0-9]*)(?:\.[0-9]+)?")


def archived(model_dir: Path, archive: str) -> Path:
    """The folder of `archive` (RETIRED or REJECTED) that holds revisions of `model_dir`."""
    return model_dir.parent / archive / model_dir.name


def put_away(version_dir: Path, archive: str) -> Path:
    """Move a revision into `archive` by one rename and return where it is then.

    A number that the archive holds already (a stand-in had the place of a rejected revision, say)
    gets a suffix: `3.2`. Both folders are on the disk when the call returns.
    """
    folder = archived(version_dir.parent, archive)
    folder.mkdir(parents=True, exist_ok=True)
    target, copy = folder / version_dir.name, 1
    while target.exists():
        copy += 1
        target = folder / f"{version_dir.name}.{copy}"
    version_dir.rename(target)
    for changed in (folder, version_dir.parent):
        sync(changed)
    return target


def next_revision(model_dir: Path) -> int:
    """The number after every one that a revision of this model has or had."""
    folders = (model_dir, archived(model_dir, RETIRED), archived(model_dir, REJECTED))
    names = (path.name for folder in folders if folder.is_dir() for path in folder.iterdir())
    given = (_GIVEN.fullmatch(name) for name in names)
    return 1 + max((int(match[1]) for match in given if match), default=0)
