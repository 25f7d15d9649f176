"""What made a clip."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

AS_REQUESTED = "As requested, or the default"


class GenerationRecord(BaseModel):
    """What made a clip; enough to make it again on the same base.

    Unlike the records of this project's own files it keeps fields that it does not know: a newer
    server may say more, and a client should neither break nor lose it.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    prompt: str = Field(description="As requested")
    negative_prompt: str = Field("", description="As requested")
    policy: str = Field(description="The concept policy that was applied")
    revision: int = Field(description="The policy's revision that was applied")
    edit_digest: str | None = Field(
        None, description="Digest of what the revision edits; null for the base's own policy"
    )
    base: str = Field(description="Name of the base")
    base_digest: str = Field(description="Digest of the base's files")
    seed: int = Field(description="As requested, or as drawn")
    scheduler: str = Field(description=AS_REQUESTED)
    acceleration: str = Field("none", description=AS_REQUESTED)
    num_inference_steps: int = Field(description="Steps of the scheduler")
    guidance_scale: float = Field(description=AS_REQUESTED)
    num_frames: int = Field(description="Length of the clip in frames")
    height: int = Field(description="In pixels")
    width: int = Field(description="In pixels")
    fps: float = Field(description="Frames per second to play it at")
    started_at: str = Field(description="When the model began, in UTC, as ISO 8601")
    seconds: dict[str, float] = Field({}, description="Seconds per stage, by its name")
    graphs: dict[str, str] = Field({}, description="Digests of the exported graphs, by their name")
