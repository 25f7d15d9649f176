"""The run's estimates as TensorBoard scalars: loss, erased and kept over the steps.

Written with tensorboardX, which needs neither TensorFlow nor TensorBoard itself.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from unsee.core.errors import InputError
from unsee.unlearning.estimate import Estimate

_FLUSH_S = 5


@contextmanager
def tensorboard_log(folder: Path) -> Iterator[Callable[[Estimate], None]]:
    """Give a function that writes each estimate into `folder`; nothing is written before.

    Steps of an earlier run in the same folder, from the first one written here on, are hidden, so
    a resumed run continues its curves. Raises `InputError` naming the extra
    unless tensorboardX is installed.
    """
    log = _Log(_writer_class(), folder)
    try:
        yield log.write
    finally:
        log.close()


class _Log:
    def __init__(self, writer_class: Any, folder: Path) -> None:
        self._writer_class = writer_class
        self._folder = folder
        self._writer: Any = None

    def write(self, estimate: Estimate) -> None:
        if self._writer is None:
            self._writer = self._writer_class(
                logdir=str(self._folder), purge_step=estimate.step, flush_secs=_FLUSH_S
            )
        scalars = {"loss": estimate.loss, "erased": estimate.erased, "kept": estimate.kept}
        for name, value in scalars.items():
            if value is not None:
                self._writer.add_scalar(name, value, estimate.step)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def _writer_class() -> Any:
    try:
        from tensorboardX import SummaryWriter
    except ModuleNotFoundError as error:
        raise InputError(
            '--log-dir needs tensorboardX; install it with: pip install "unsee[train,tensorboard]"'
        ) from error
    return SummaryWriter
