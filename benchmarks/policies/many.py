"""A repository in which the base's text encoder is served under many policies' names.

The encoders are copies, as what they compute does not matter here.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from unsee.core.policy import BASE_POLICY
from unsee.export.engines.model_config import pbtxt
from unsee.repository.layout import encoder_model

POLICIES_FILE = "policies.json"
CONFIG_FILE = "config.pbtxt"


def write_policies(exported_dir: Path, repository_dir: Path, count: int) -> list[str]:
    """Make `repository_dir` out of links to the files of `exported_dir`, with `count` policies.

    Returns their names; the base's own is the first.
    """
    shutil.copytree(exported_dir, repository_dir, copy_function=os.link)
    names = [BASE_POLICY, *(f"policy-{number}" for number in range(2, count + 1))]
    for name in names[1:]:
        _copy_encoder(repository_dir, name)
    file = repository_dir / POLICIES_FILE
    content = json.loads(file.read_bytes())
    entry = content["policies"][BASE_POLICY]
    file.unlink()  # it is a link to the original
    file.write_text(json.dumps(content | {"policies": dict.fromkeys(names, entry)}))
    return names


def _copy_encoder(repository_dir: Path, policy: str) -> None:
    source, model = repository_dir / encoder_model(BASE_POLICY), encoder_model(policy)
    target = repository_dir / model
    shutil.copytree(source / "1", target / "1", copy_function=os.link)
    config = text_format.Parse(
        (source / CONFIG_FILE).read_text(encoding="utf-8"), model_config_pb2.ModelConfig()
    )
    config.name = model
    (target / CONFIG_FILE).write_text(pbtxt(config), encoding="utf-8")
