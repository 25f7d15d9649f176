"""The record of a clip: what made it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class GenerationRecord(BaseModel):
    """What made a clip; enough to make it again on the same base.

    Unlike the records of this project's own files it keeps fields that it does not know: a newer
    server may say more, and a client should neither break nor lose it.

    Args:
        prompt, negative_prompt: as requested.
        policy, revision: the concept policy that was applied, and its revision.
        encoder_digest: of the text encoder's weights; None if the repository does not say.
        base, base_digest: the base's name, and the digest of its text encoder.
        seed: as requested, or as drawn by the server.
        scheduler: a diffusers class name.
        acceleration: "none", "balanced" or "fast".
        num_inference_steps: steps of the scheduler.
        guidance_scale: classifier-free guidance; 1 or less means none.
        num_frames: length of the clip.
        height, width: in pixels.
        fps: frames per second to play it at.
        started_at: UTC, ISO 8601.
        seconds: by stage.
        graphs: digests of the exported graphs, and the engines that computed them, by name.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    prompt: str
    negative_prompt: str = ""
    policy: str
    revision: int
    encoder_digest: str | None = None
    base: str
    base_digest: str
    seed: int
    scheduler: str
    acceleration: str = "none"
    num_inference_steps: int
    guidance_scale: float
    num_frames: int
    height: int
    width: int
    fps: float
    started_at: str
    seconds: dict[str, float] = {}
    graphs: dict[str, str] = {}
