"""What can go wrong in export: the errors that this package adds to `unsee.client.errors`.

    UnseeError
    ├── ParityError          an exported graph does not compute what its PyTorch model computes
    └── InputError
        ├── NotExportable    a base uses something that the exported service cannot reproduce
        └── RepositoryError  a model repository cannot take what was to be written

It knows nothing of who raises them.
"""

from unsee.client.errors import InputError, UnseeError


class ParityError(UnseeError):
    """An exported graph differs from its PyTorch model by more than its tolerance."""


class NotExportable(InputError):
    """A base uses a model or an option that the exported service cannot reproduce."""


class RepositoryError(InputError):
    """A model repository cannot take what was to be written; the message says why."""
