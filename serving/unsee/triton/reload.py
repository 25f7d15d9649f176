"""Replaces the process behind a model of a server, which Triton itself never does."""

from __future__ import annotations

import os
from pathlib import Path

from unsee.repository.layout import version_dir
from unsee.triton.server import ASK_TIMEOUT_S, ModelVersion, Server


def reload(server: Server, repository_dir: Path, wanted: ModelVersion) -> None:
    """Replace the process of one version.

    A load call loads a version again whose folder is younger than when it was loaded, so the
    folder's time is set. In a repository that cannot be written to, the model is unloaded and
    loaded. Nothing happens if the version's folder is gone.
    """
    try:
        os.utime(version_dir(repository_dir, wanted.model, wanted.version))
    except FileNotFoundError:
        return
    except OSError:
        server.unload(wanted.model, ASK_TIMEOUT_S)
    server.load(wanted.model)
