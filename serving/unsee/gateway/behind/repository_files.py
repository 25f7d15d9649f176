"""Files of a model repository that may be shown: a revision's digest and report, the base's limits.

The paths are made of a policy's name from the settings and a revision's number from the pointer;
nothing that a caller sent is part of one. A file that is missing or broken is None.
"""

from __future__ import annotations

import json
import logging
import os
import stat
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from unsee.repository.pointer import encoder_model

LOGGER = logging.getLogger("unsee.gateway")
REPORT_PAGE = "report.html"
BASE_FILE = Path("text_to_video", "assets", "base.json")
MAX_REPORT_BYTES = 64 * 1024 * 1024


class _Facts(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Defaults(_Facts):
    """What a request that does not say gets; sizes in pixels."""

    num_frames: int
    height: int
    width: int
    fps: float
    num_inference_steps: int
    guidance_scale: float


class SizeLimits(_Facts):
    """What a request may ask for: inclusive ranges; sizes in pixels, multiples of one number."""

    num_frames: tuple[int, int]
    height: tuple[int, int]
    width: tuple[int, int]
    size_multiple: int
    num_inference_steps: tuple[int, int]


class BaseFacts(_Facts):
    """What a caller may know of the base that the repository was exported from."""

    name: str
    defaults: Defaults
    limits: SizeLimits


def base_facts(repository_dir: Path) -> BaseFacts | None:
    """The defaults and limits of the repository's base."""
    try:
        return BaseFacts.model_validate_json((repository_dir / BASE_FILE).read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        LOGGER.error("the facts of the base cannot be read: %s", " ".join(str(error).split()))
        return None


def shown(repository_dir: Path, policy: str, revision: int) -> dict[str, Any]:
    """What the files beside a revision's graph say of it, as JSON values: digest, report."""
    folder = _version_dir(repository_dir, policy, revision)
    answer: dict[str, Any] = {}
    try:
        digest = json.loads((folder / "revision.json").read_bytes())["encoder_digest"]
    except (OSError, ValueError, KeyError, TypeError):
        digest = None
    if isinstance(digest, str):
        answer["encoder_digest"] = digest
    if (folder / REPORT_PAGE).is_file():
        answer["report"] = f"/v2/policies/{policy}/report"
    return answer


def report_page(repository_dir: Path, policy: str, revision: int) -> bytes | None:
    """The report page beside a revision's graph: an ordinary file, no link to another place."""
    file = _version_dir(repository_dir, policy, revision) / REPORT_PAGE
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        content = stream.read(MAX_REPORT_BYTES + 1)
    if len(content) > MAX_REPORT_BYTES:
        LOGGER.error("%s has more than %d bytes and is not shown", file, MAX_REPORT_BYTES)
        return None
    return content


def _version_dir(repository_dir: Path, policy: str, revision: int) -> Path:
    return repository_dir / encoder_model(policy) / str(revision)
