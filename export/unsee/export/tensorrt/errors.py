"""What can go wrong with engines: the errors that this package adds to `unsee.client.errors`.

    UnseeError
    ├── EngineBuildFailed    TensorRT made no engine, or would not run one
    └── InputError
        ├── ProfileError     shapes do not fit the graph that they were given for
        └── TensorRTMissing  the library or the GPU that is needed is not there

It knows nothing of who raises them.
"""

from unsee.client.errors import InputError, UnseeError


class EngineBuildFailed(UnseeError):
    """TensorRT refused a graph, made no engine of it or would not run the engine."""


class ProfileError(InputError):
    """The sizes of a profile do not fit the graph; the message names the axis."""


class TensorRTMissing(InputError):
    """TensorRT or an NVIDIA GPU is needed here and is missing; the message says what to install."""
