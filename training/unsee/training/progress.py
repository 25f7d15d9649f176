"""Progress on stderr, which is `unsee.client.progress`'s; here for those who train from Python."""

from unsee.client.progress import Report, stage_progress

__all__ = ["Report", "stage_progress"]
