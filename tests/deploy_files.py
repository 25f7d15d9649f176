"""What several tests read of the files in `deploy`."""

from pathlib import Path

import yaml

from unsee.gateway.callers.settings import Settings

DEPLOY = Path(__file__).parents[1] / "deploy"


def example_settings() -> Settings:
    """The settings in `gateway.example.yaml`, whose TLS files are those of a deployment."""
    return Settings.model_validate(yaml.safe_load((DEPLOY / "gateway.example.yaml").read_text()))
