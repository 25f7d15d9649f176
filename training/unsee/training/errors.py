"""What can go wrong in training: the errors that this package adds to `unsee.client.errors`.

    UnseeError
    ├── UnlearnDiverged      the ascent left the finite numbers
    └── InputError
        ├── BaseFolderError  a base is missing, incomplete or unreadable
        ├── DeltaDamaged     a delta folder is incomplete or differs from its card
        └── DeltaMismatch    a delta was made for another text encoder

It knows nothing of who raises them.
"""

from unsee.client.errors import InputError, UnseeError


class BaseFolderError(InputError):
    """A base is missing, incomplete or unreadable; the message names the component and folder."""


class DeltaDamaged(InputError):
    """A delta folder is incomplete, or its tensors are not those that its card describes."""


class DeltaMismatch(InputError):
    """A delta does not belong to the text encoder that it was to be added to."""


class UnlearnDiverged(UnseeError):
    """The loss or a weight stopped being a finite number."""
