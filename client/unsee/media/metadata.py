"""The record of a clip inside its file, in the metadata that each format has for such things.

The record itself is JSON: the comment of an MP4 or a GIF, a property of the XMP of a WebP or PNG,
and a file of its own beside an .npy. Titles, descriptions and "made by a trained model" are there
for other programs; only the JSON is read back.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from pydantic import ValidationError

from unsee.core.errors import InputError
from unsee.core.record import GenerationRecord
from unsee.media.ffmpeg import ffmpeg

TRAINED_MEDIA = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
"""The IPTC's name for media made by a trained model."""
NAMESPACES = {
    "x": "adobe:ns:meta/",
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "dc": "http://purl.org/dc/elements/1.1/",
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "Iptc4xmpExt": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
    "unsee": "urn:unsee:record:1/",
}
PACKET = b'<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?>%s<?xpacket end="w"?>'
PNG_XMP = "XML:com.adobe.xmp"
EXIF_DESCRIPTION, EXIF_SOFTWARE = 0x010E, 0x0131
MOST_BYTES = 1024 * 1024
"""Of a record: what is longer was not written here."""


def software() -> str:
    """This program and its version."""
    try:
        return f"Unsee {version('unsee')}"
    except PackageNotFoundError:
        return "Unsee"


def sidecar_of(path: Path) -> Path:
    """Where the record of an .npy is."""
    return path.with_name(f"{path.name}.json")


def as_json(record: GenerationRecord) -> bytes:
    """The record on one line of ASCII."""
    return json.dumps(record.model_dump(mode="json")).encode("ascii")


def as_ffmetadata(record: GenerationRecord) -> bytes:
    """Metadata of an MP4 in ffmpeg's format for files of it."""
    tags = {
        "title": _printable(record.prompt),
        "description": _description(record),
        "comment": as_json(record).decode(),
        "creation_time": _printable(record.started_at),
    }
    escaped = {name: re.sub(r"([=;#\\])", r"\\\1", text) for name, text in tags.items()}
    lines = (f"{name}={text}\n" for name, text in escaped.items())
    return (";FFMETADATA1\n" + "".join(lines)).encode()


def as_exif(record: GenerationRecord) -> Any:
    """Pillow's Exif: the prompt as description, and the software."""
    from PIL import Image

    exif = Image.Exif()
    exif[EXIF_DESCRIPTION] = _printable(record.prompt).encode()
    exif[EXIF_SOFTWARE] = software()
    return exif


def as_xmp(record: GenerationRecord) -> bytes:
    """An XMP packet."""
    root = ElementTree.Element(_name("x:xmpmeta"))
    rdf = ElementTree.SubElement(root, _name("rdf:RDF"))
    about = {_name("rdf:about"): ""}
    description = ElementTree.SubElement(rdf, _name("rdf:Description"), about)
    for name, text in (
        ("dc:title", _printable(record.prompt)),
        ("dc:description", _description(record)),
    ):
        parent = ElementTree.SubElement(description, _name(name))
        languages = ElementTree.SubElement(parent, _name("rdf:Alt"))
        default = {"{http://www.w3.org/XML/1998/namespace}lang": "x-default"}
        ElementTree.SubElement(languages, _name("rdf:li"), default).text = text
    for name, text in (
        ("xmp:CreatorTool", software()),
        ("xmp:CreateDate", _printable(record.started_at)),
        ("Iptc4xmpExt:DigitalSourceType", TRAINED_MEDIA),
        ("unsee:record", as_json(record).decode()),
    ):
        ElementTree.SubElement(description, _name(name)).text = text
    for prefix, uri in NAMESPACES.items():
        ElementTree.register_namespace(prefix, uri)
    return PACKET % ElementTree.tostring(root)


def png_text(record: GenerationRecord) -> Any:
    """Pillow's text chunks of a PNG."""
    from PIL.PngImagePlugin import PngInfo

    text = PngInfo()
    text.add_itxt(PNG_XMP, as_xmp(record).decode())
    return text


def read_record(path: Path | str) -> GenerationRecord:
    """What made the clip in a file that `Clip.save` wrote; of an .npy, from the file beside it.

    Nothing vouches for it: whoever can change the file can change the record, unless it is signed.

    Raises:
        InputError: the file cannot be read or carries no record.
    """
    path = Path(path)
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise InputError(
            f"cannot read a record from {path}: it must be one of {', '.join(READERS)}"
        )
    try:
        with path.open("rb"):
            text = reader(path)
    except (OSError, SyntaxError, ValueError, LookupError) as error:  # ParseError is a SyntaxError
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"cannot read {path}: {reason}") from error
    if text is None:
        raise InputError(f"{path} carries no record of how it was made")
    try:
        return GenerationRecord.model_validate_json(text)
    except ValidationError as error:
        raise InputError(f"the record in {path} cannot be read; was it changed?") from error


def _of_mp4(path: Path) -> str | None:
    given = ["-f", "mp4", "-i", f"file:{path}"]  # or ffmpeg would follow a list of other files
    command = [ffmpeg(), "-v", "error", *given, "-f", "ffmetadata", "-"]
    done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, check=False)
    if done.returncode != 0:
        words = done.stderr.decode(errors="replace").strip()
        raise OSError(f"ffmpeg failed: {words.rpartition(chr(10))[2][-200:]}")
    found = re.search(r"^comment=((?:\\.|[^\\\n])*)$", done.stdout.decode(errors="replace"), re.M)
    return re.sub(r"\\(.)", r"\1", found[1]) if found else None


@contextmanager
def _opened(path: Path, kind: str) -> Iterator[Any]:
    from PIL import Image

    try:
        with Image.open(path, formats=[kind]) as image:
            yield image
    except Image.DecompressionBombError as error:
        raise OSError(str(error)) from error


def _of_gif(path: Path) -> str | None:
    with _opened(path, "GIF") as image:
        comment = image.info.get("comment")
    return comment.decode(errors="replace") if isinstance(comment, bytes) else None


def _of_webp(path: Path) -> str | None:
    with _opened(path, "WEBP") as image:
        return _of_xmp(image.info.get("xmp"))


def _of_png(path: Path) -> str | None:
    from PIL.PngImagePlugin import PngImageFile

    with PngImageFile(path) as image:  # Image.open refuses large sheets; here none is decoded
        return _of_xmp(image.info.get("xmp") or image.info.get(PNG_XMP))


def _of_xmp(packet: str | bytes | None) -> str | None:
    if packet is None or len(packet) > MOST_BYTES:
        return None
    return ElementTree.fromstring(packet).findtext(f".//{_name('unsee:record')}")


def _of_npy(path: Path) -> str | None:
    sidecar = sidecar_of(path)
    return sidecar.read_text(encoding="utf-8") if sidecar.is_file() else None


READERS: Mapping[str, Callable[[Path], str | None]] = {
    ".mp4": _of_mp4,
    ".gif": _of_gif,
    ".png": _of_png,
    ".npy": _of_npy,
    ".webp": _of_webp,
}


def _description(record: GenerationRecord) -> str:
    return _printable(
        f"Made by {record.base} with the policy {record.policy}, revision {record.revision}, "
        f"seed {record.seed}, {record.num_inference_steps} steps of {record.scheduler}; "
        f"{software()}"
    )


def _printable(text: str) -> str:
    """Control characters as spaces: tags are lines, and XML has no NUL."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _name(qualified: str) -> str:
    prefix, _, name = qualified.partition(":")
    return f"{{{NAMESPACES[prefix]}}}{name}"
