"""Many clips in threads: what the tests of the clients cannot reach."""

import signal
import threading
import time

import pytest

from unsee.client.many import in_threads


class Drive:
    def __init__(self):
        self.cancelled = threading.Event()

    def cancel(self):
        self.cancelled.set()


@pytest.mark.parametrize("after_s", [0.0, 0.3])
def test_an_interrupt_that_the_wait_itself_did_not_see_ends_it(after_s):
    drive = Drive()

    def make(index, asked, drive):
        time.sleep(after_s)
        # to this thread, so that the one that waits is not woken, as just before its wait begins
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)
        drive.cancelled.wait(20)

    with pytest.raises(KeyboardInterrupt):
        list(in_threads(make, lambda: drive, ["a cat"], 1))
    assert drive.cancelled.is_set()
