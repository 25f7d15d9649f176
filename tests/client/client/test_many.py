"""Many clips in threads: what the tests of the clients cannot reach."""

import signal
import threading
import time

import pytest

from unsee.client.client import in_threads


class FakeConversation:
    def __init__(self):
        self.cancelled = threading.Event()

    def cancel(self):
        self.cancelled.set()


@pytest.mark.parametrize("after_s", [0.0, 0.3])
def test_an_interrupt_that_the_wait_itself_did_not_see_ends_it(after_s):
    conversation = FakeConversation()

    def finish(index, conversation):
        time.sleep(after_s)
        # to this thread, so that the one that waits is not woken, as just before its wait begins
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)
        conversation.cancelled.wait(20)

    with pytest.raises(KeyboardInterrupt):
        list(in_threads(lambda item: conversation, finish, ["a cat"], 1))
    assert conversation.cancelled.is_set()
