"""The errors of serving, as leaves of the one tree in `unsee.client.errors`."""

from __future__ import annotations

from unsee.client.errors import InputError, ServerError


class RepositoryIncomplete(InputError):
    """The model repository lacks something that serving needs."""


class PublicationRefused(InputError):
    """A policy's report is missing, was made for another encoder, or misses a threshold."""


class InterpreterUnfit(InputError):
    """The Python that Triton's stub would run cannot serve."""


class PortInUse(InputError):
    """Another process listens on a port that the server was to have."""


class ServerNotReady(ServerError):
    """The server ended, or was not ready in time. The message ends with what its log says."""


class RevisionUnfit(InputError):
    """A revision's files are not what its records say, or are missing; the message names one."""


class PolicyBusy(InputError):
    """Another process, the `holder`, is changing the same policy's revisions."""

    def __init__(self, policy: str, holder: str) -> None:
        super().__init__(
            f'the policy "{policy}" is being changed by {holder}; run this again when that has '
            "ended"
        )
        self.holder = holder


class RepositoryNotWritable(InputError):
    """A file of the repository could not be written: no space, no right, a broken disk."""
