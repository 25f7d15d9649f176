"""The SHA-256 of a delta folder's files, which its card records and a signature covers.

`card.json` ends with `files`, the digest of every file below the folder but the card itself and
the signature, and with `digest`, that of its own bytes. Version 0.1 kept both in `manifest.json`.
"""

import hashlib
import json
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unsee.core.errors import DeltaDamaged
from unsee.core.files import digest_of

CARD_FILE = "card.json"
SIGNATURE_FILE = "signature.sig"
MANIFEST_FILE = "manifest.json"
"""Written by version 0.1; read, never written."""

_OWN_DIGEST = re.compile(rb'"digest": "(sha256:[0-9a-f]{64})"\n\}\n\Z')
_UNSIGNED = b"sha256:"
_REMEDY = "restore it or unlearn again with --force"
_NO_JSON_OF_OURS = (ValueError, LookupError, TypeError, AttributeError, RecursionError)


def write_card(folder: Path, fields: Mapping[str, Any]) -> None:
    """Write the card's `fields` (JSON values) with the digests of the files that lie there now.

    Raises `DeltaDamaged` if something in `folder` is a link, or neither a file nor a folder.
    """
    files = {name: digest for name, digest in file_digests(folder).items() if name != CARD_FILE}
    content = {**fields, "files": files, "digest": _UNSIGNED.decode()}
    text = (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()
    end = text.rindex(_UNSIGNED) + len(_UNSIGNED)
    own = hashlib.sha256(text).hexdigest().encode()
    (folder / CARD_FILE).write_bytes(text[:end] + own + text[end:])


def read_card(folder: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """The card's fields, and the digest that each other file of `folder` must have, by its name.

    No other file is opened (but the manifest of a delta of version 0.1). Raises `DeltaDamaged` if
    the card is missing, is a link, or is not byte for byte as it was written.
    """
    if (folder / MANIFEST_FILE).is_file():
        return _read_version_0_1(folder)
    file = folder / CARD_FILE
    content = _bytes_of(file)
    own = _OWN_DIGEST.search(content)
    if own is None:
        raise DeltaDamaged(
            f"{file} was changed after it was written, or is of a version before 0.1: it does not "
            f"end with its own digest; {_REMEDY}"
        )
    start, end = own.span(1)
    if digest_of(content[:start] + _UNSIGNED + content[end:]) != own.group(1).decode():
        raise DeltaDamaged(f"{file} was changed after it was written; {_REMEDY}")
    try:
        fields = json.loads(content)
        files = {name: str(digest) for name, digest in fields.pop("files").items()}
        del fields["digest"]
    except _NO_JSON_OF_OURS as error:
        raise DeltaDamaged(f"{file} is no card, though it has a digest; {_REMEDY}") from error
    return fields, files


def verify_files(folder: Path) -> dict[str, str]:
    """The digest of every file of `folder` but the signature, after comparing each with the card.

    Raises `DeltaDamaged` and names the first file that is changed, missing, unreadable, not in the
    card, or a link.
    """
    _, expected = read_card(folder)
    found = file_digests(folder)
    for name in sorted(expected.keys() | found.keys() - {CARD_FILE, MANIFEST_FILE}):
        file = folder / name
        if name not in expected:
            raise DeltaDamaged(
                f"{file} does not belong to the delta: {CARD_FILE} does not name it; "
                "move it elsewhere"
            )
        if name not in found:
            raise DeltaDamaged(f"{file} is missing; {_REMEDY}")
        if found[name] != expected[name]:
            raise DeltaDamaged(
                f"{file} was changed: its SHA-256 is {found[name][7:19]}…, the card says "
                f"{expected[name][7:19]}…; {_REMEDY}"
            )
    return found


def file_digests(folder: Path) -> dict[str, str]:
    """`"sha256:…"` of every file below `folder` but the signature, by its path with `/`, in order.

    Raises `DeltaDamaged` if something there is a link, unreadable, or neither a file nor a folder.
    """
    digests = {}
    for path in sorted(folder.rglob("*")):
        mode = path.lstat().st_mode
        name = path.relative_to(folder).as_posix()
        if not stat.S_ISDIR(mode) and (name != SIGNATURE_FILE or not stat.S_ISREG(mode)):
            digests[name] = digest_of(_bytes_of(path))
    return digests


def _read_version_0_1(folder: Path) -> tuple[dict[str, Any], dict[str, str]]:
    file = folder / MANIFEST_FILE
    try:
        manifest = _bytes_of(file)
        files = json.loads(manifest)["files"]
        lines = [f"{files[name]['sha256']} {files[name]['size_bytes']} {name}\n" for name in files]
        digest = digest_of("".join(lines).encode())
        written = {"schema_version": 1, "files": files, "digest": digest}
        if (json.dumps(written, indent=2, ensure_ascii=False) + "\n").encode() != manifest:
            raise ValueError("its digest is not that of its entries")
        expected = {name: f"sha256:{entry['sha256']}" for name, entry in files.items()}
        card = expected.pop(CARD_FILE)
    except _NO_JSON_OF_OURS as error:
        raise DeltaDamaged(f"{file} was changed after it was written; {_REMEDY}") from error
    content = _bytes_of(folder / CARD_FILE)
    if digest_of(content) != card:
        raise DeltaDamaged(f"{folder / CARD_FILE} was changed after it was written; {_REMEDY}")
    try:
        fields: dict[str, Any] = json.loads(content)
    except _NO_JSON_OF_OURS as error:
        raise DeltaDamaged(f"{folder / CARD_FILE} is no card; {_REMEDY}") from error
    return fields, expected


def _bytes_of(file: Path) -> bytes:
    try:
        mode = file.lstat().st_mode
        if not stat.S_ISREG(mode):
            kind = "a link" if stat.S_ISLNK(mode) else "no ordinary file"
            raise DeltaDamaged(f"{file} is {kind}; put the file itself there or unlearn again")
        return file.read_bytes()
    except FileNotFoundError:
        raise DeltaDamaged(f"{file} is missing; {_REMEDY}") from None
    except PermissionError as error:
        raise DeltaDamaged(
            f"{file} cannot be read: {error.strerror}; allow it or unlearn again"
        ) from error
