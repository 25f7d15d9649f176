"""Runs the `unsee` command in a process that dies, or finds the disk full, at its k-th step.

A step is whatever changes the disk or the server, and each sync. They are counted as they come, so
that a test needs no list of them; between two of them there is nothing that a killed process could
leave. The processes are forked from one that has imported everything already.
"""

import multiprocessing
import os
import signal
from functools import partial
from types import SimpleNamespace

from publish_fakes import write_next_revision
from report_fakes import BASE_DIGEST, ENCODER_DIGEST
from unsee.cli.main import run
from unsee.policies import publish
from unsee.policies.composed_policy import ComposedPolicy
from unsee.repository import pointer
from unsee.triton.server import Server

DISK = ("rename", "replace", "fsync", "write", "mkdir", "unlink", "rmdir", "utime")
SERVER = ("load", "unload", "probe")
NEEDS_SPACE = ("fsync", "write", "mkdir")

OTHERS = 2
"""The revisions up to this one were made of other deltas than those that are published."""

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    [
        "safetensors.numpy",
        "unsee.cli.main",
        "unsee.evaluation.report.statistics",
        "unsee.policies.tables",
        "unsee.policies.publish",
        "unsee.policies.recovery",
        "unsee.policies.retirement",
        "unsee.policies.revision_cli",
    ]
)


def unsee(*arguments, graph="good", kill_at=None, full_from=None):
    """`unsee ARGUMENTS` in a process of its own: how it ended, its steps' names, its words.

    Args:
        graph: what the exporter, a stand-in, writes (see `publish_fakes`).
        kill_at: the step before which the process is killed, counted from 1.
        full_from: the step from which on whatever needs space fails.
    """
    receiver, sender = _CONTEXT.Pipe(duplex=False)
    process = _CONTEXT.Process(
        target=_run, args=(sender, list(map(str, arguments)), graph, kill_at, full_from)
    )
    process.start()
    sender.close()
    try:
        code, steps, words = receiver.recv()
    except EOFError:
        code, steps, words = None, (), ""
    process.join()
    assert code is not None or process.exitcode == -signal.SIGKILL, process.exitcode
    return SimpleNamespace(code=code, steps=steps, words=words)


def _run(sender, arguments, graph, kill_at, full_from):
    steps = _Steps(kill_at, full_from)
    _fake_the_export(graph)
    stderr = os.memfd_create("stderr")
    os.dup2(stderr, 2)
    os.dup2(stderr, 1)
    for name in DISK:
        setattr(os, name, steps.counted(name, getattr(os, name)))
    for name in SERVER:
        setattr(Server, name, steps.counted(name, getattr(Server, name)))
    code = run(arguments)
    steps.over = True
    os.lseek(stderr, 0, os.SEEK_SET)
    sender.send((code, steps.done, os.read(stderr, 1 << 16).decode()))


class _Steps:
    def __init__(self, kill_at, full_from):
        self.done, self.over = [], False
        self._kill_at, self._full_from = kill_at, full_from

    def counted(self, name, function):
        def step(*arguments, **options):
            if self.over or (name == "write" and arguments[0] in (1, 2)):
                return function(*arguments, **options)
            self.done.append(name)
            if len(self.done) == self._kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            full = self._full_from is not None and len(self.done) >= self._full_from
            if full and name in NEEDS_SPACE:
                raise OSError(28, "No space left on device")
            return function(*arguments, **options)

        return step


def _fake_the_export(graph):
    base = SimpleNamespace(digest=lambda: BASE_DIGEST)
    composed = ComposedPolicy(base, [], None, ENCODER_DIGEST)

    def export(policy, composed, repository_dir, say):
        eligible = pointer.read(repository_dir).state(policy.name).eligible
        if max(eligible) > OTHERS:  # found, as the exporter finds what it made of the same deltas
            return max(eligible)
        return write_next_revision(repository_dir, policy.name, graph)

    publish.publish = partial(publish.publish, compose=lambda *_: composed, export=export)
