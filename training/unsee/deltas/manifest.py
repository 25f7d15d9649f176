"""`manifest.json`: the SHA-256 and the size of every file of a delta folder.

Knows files and digests; does not know what the files mean. The manifest covers every file below
its folder but itself and the signature, which in turn covers the manifest (`signature`).
"""

import hashlib
import stat
from collections.abc import Iterator, Mapping
from io import BufferedReader
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)

from unsee.core.errors import DeltaDamaged

MANIFEST_FILE = "manifest.json"
SIGNATURE_FILE = "signature.sig"
UNCOVERED = frozenset({MANIFEST_FILE, SIGNATURE_FILE})
"""The files of a folder that its manifest does not name."""

_REMEDY = "restore it or unlearn again with --force"
_SHORT = 12


def _inside(path: str) -> str:
    if not all(path.split("/")) or {".", ".."} & set(path.split("/")) or set(path) & set("\\:\0"):
        raise ValueError(f"{path!r} does not lead to a file inside the folder")
    if path in UNCOVERED:
        raise ValueError(f"{path!r} cannot be covered")
    return path


class FileEntry(BaseModel):
    """What a file must be: its SHA-256 as 64 hexadecimal digits and its size in bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    size_bytes: Annotated[int, Field(ge=0)]

    def __str__(self) -> str:
        return f"sha256 {self.sha256[:_SHORT]}, {self.size_bytes} bytes"


class Manifest(BaseModel):
    """The files of a folder by their path, which is relative, with `/`, and stays inside.

    `digest` is the SHA-256 of all entries together, so that a damaged manifest is told from a
    damaged file.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    schema_version: Literal[1] = 1
    files: dict[Annotated[str, AfterValidator(_inside)], FileEntry]
    digest: str


def write_manifest(folder: Path) -> None:
    """Write the manifest of the files that are in `folder` now.

    Raises `DeltaDamaged` if something in `folder` is a link, or neither a file nor a folder.
    """
    files = {name: _entry_of(folder / name) for name in _covered_files(folder)}
    (folder / MANIFEST_FILE).write_bytes(_render(files))


def load_manifest(folder: Path) -> Manifest:
    """Return the manifest in `folder`; the files that it names are not looked at.

    Raises `DeltaDamaged` if there is none, or not one bit for bit as `write_manifest` writes it.
    """
    file = folder / MANIFEST_FILE
    try:
        with _open_file(file) as stream:
            content = stream.read()
    except (FileNotFoundError, NotADirectoryError):
        raise DeltaDamaged(
            f"{folder} has no {MANIFEST_FILE}, which says what its files must be "
            f"(deltas of older versions have none); {_REMEDY}"
        ) from None
    try:
        manifest = Manifest.model_validate_json(content)
    except ValidationError as error:
        raise DeltaDamaged(f"{file} is damaged: {_first_problem(error)}; {_REMEDY}") from error
    if content != _render(manifest.files):
        raise DeltaDamaged(f"{file} was changed after it was written; {_REMEDY}")
    return manifest


def verify_manifest(folder: Path) -> Manifest:
    """Return the manifest in `folder` after comparing every file below it with its entry.

    Raises `DeltaDamaged` and names the first file that is changed, missing, unreadable, not
    covered, or a link.
    """
    manifest = load_manifest(folder)
    found = set(_covered_files(folder))
    for name in sorted(manifest.files.keys() | found):
        if name not in manifest.files:
            raise DeltaDamaged(
                f"{folder / name} does not belong to the delta: {MANIFEST_FILE} does not name it; "
                "move it elsewhere"
            )
        _check(folder / name, manifest.files[name])
    return manifest


def read_covered(folder: Path, name: str, manifest: Manifest) -> bytes:
    """Return the content of the file `name` of `folder` after comparing it with its entry.

    Raises `DeltaDamaged` if the file is not covered, changed, missing, unreadable or a link.
    """
    expected = entry_in(manifest, name, folder)
    try:
        with _open_file(folder / name) as stream:
            content = stream.read()
    except FileNotFoundError:
        raise _missing(folder / name, expected) from None
    found = FileEntry(sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content))
    _compare(folder / name, expected, found)
    return content


def entry_in(manifest: Manifest, name: str, folder: Path) -> FileEntry:
    """Return the entry of `name`, a file without which `folder` is no delta.

    Raises `DeltaDamaged` if the manifest does not cover it.
    """
    if name not in manifest.files:
        raise DeltaDamaged(f"{folder / MANIFEST_FILE} does not name {name}; {_REMEDY}")
    return manifest.files[name]


def _check(file: Path, expected: FileEntry) -> None:
    try:
        found = _entry_of(file)
    except FileNotFoundError:
        raise _missing(file, expected) from None
    _compare(file, expected, found)


def _compare(file: Path, expected: FileEntry, found: FileEntry) -> None:
    if found != expected:
        raise DeltaDamaged(f"{file} was changed: expected {expected}, found {found}; {_REMEDY}")


def _missing(file: Path, expected: FileEntry) -> DeltaDamaged:
    return DeltaDamaged(f"{file} is missing: expected {expected}; {_REMEDY}")


def _entry_of(file: Path) -> FileEntry:
    with _open_file(file) as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        return FileEntry(sha256=sha256, size_bytes=stream.tell())


def _open_file(file: Path) -> BufferedReader:
    """Open an ordinary file; one that is missing is left to the caller as an `OSError`."""
    if not stat.S_ISREG(file.lstat().st_mode):
        raise _not_ordinary(file)
    try:
        return file.open("rb")
    except PermissionError as error:
        raise DeltaDamaged(
            f"{file} cannot be read: {error.strerror}; allow it or unlearn again"
        ) from error


def _covered_files(folder: Path) -> Iterator[str]:
    for path in sorted(folder.rglob("*")):
        mode = path.lstat().st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise _not_ordinary(path)
        name = path.relative_to(folder).as_posix()
        if stat.S_ISREG(mode) and name not in UNCOVERED:
            yield name


def _not_ordinary(path: Path) -> DeltaDamaged:
    kind = "a link" if path.is_symlink() else "no ordinary file"
    return DeltaDamaged(f"{path} is {kind}; put the file itself there or unlearn again")


def _render(files: Mapping[str, FileEntry]) -> bytes:
    ordered = {name: files[name] for name in sorted(files)}
    lines = (f"{entry.sha256} {entry.size_bytes} {name}\n" for name, entry in ordered.items())
    digest = hashlib.sha256("".join(lines).encode()).hexdigest()
    manifest = Manifest(files=ordered, digest=f"sha256:{digest}")
    return f"{manifest.model_dump_json(indent=2)}\n".encode()


def _first_problem(error: ValidationError) -> str:
    problem = error.errors(include_input=False, include_url=False)[0]
    where = ".".join(str(part) for part in problem["loc"])
    return f"{where}: {problem['msg']}" if where else problem["msg"]
