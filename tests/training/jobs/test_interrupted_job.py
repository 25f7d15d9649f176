"""Unlearning that is interrupted or killed: it goes on, and the delta is the same."""

import re
import signal
import subprocess
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from PIL import Image

from unsee.core.policy import Concept
from unsee.core.unlearning_settings import AnchoredMode
from unsee.deltas.folder import load_delta
from unsee.jobs.cli import INTERRUPTED
from unsee.jobs.job import JobInterrupted, Report, UnlearnJob, run_job
from unsee.models.base import load_base
from unsee.unlearning import checkpoint
from unsee.unlearning.estimate import Estimate

PROGRAM = """
import signal, sys, time
from unsee.cli import main as command
from unsee.unlearning import checkpoint
checkpoint.INTERVAL_S = 0.0
checkpoint._MAX_SHARE = float("inf")
save, hold_at = checkpoint.FolderCheckpoint.save, int(sys.argv.pop(1))

def save_or_hold(self, tensors):
    print(f"has taken step {self.step}", file=sys.stderr, flush=True)
    if self.step == hold_at:
        time.sleep(600)
    save(self, tensors)

checkpoint.FolderCheckpoint.save = save_or_hold
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job starts without it
sys.exit(command.run(["unlearn", *sys.argv[1:]]))
"""
"""`unsee unlearn` that keeps every step, and waits for a signal before it keeps a certain one."""
ATTACKERS = 6
ANCHOR = "zzzzzzzzzz"


@pytest.fixture(scope="module")
def slow_base(base_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny base with many weak attackers, none of which ends the learning."""
    folder = tmp_path_factory.mktemp("slow")
    content = yaml.safe_load((base_dir / "base.yaml").read_text())
    content |= {"t2i": str(base_dir / "t2i"), "t2v": str(base_dir / "t2v")}
    anchored = {
        "shots": 2,
        "attackers": ATTACKERS,
        "attack_steps": 2,
        "batch_size": 2,
        "erased_at_least": 50.0,
        "prompts_to_forget": 8,
        "prompts_to_keep": 8,
    }
    content["unlearn"] = {"anchored": anchored}
    (folder / "base.yaml").write_text(yaml.safe_dump(content))
    return folder


def _job(base: Path) -> UnlearnJob:
    opened = load_base(base)
    # the tiny base's pictures tell this anchor from the concept, so that attackers act
    settings = replace(opened.spec.unlearn.anchored, anchor=ANCHOR)
    return UnlearnJob(opened, Concept(name="Blimbo", category="character"), settings, seed=0)


def _silent(label: str) -> AbstractContextManager[Report]:
    return nullcontext(lambda step, total, note: None)


@pytest.fixture(scope="module")
def unlearn(warm_python: list[str], tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The words that start `PROGRAM`."""
    program = tmp_path_factory.mktemp("program") / "unlearn.py"
    program.write_text(PROGRAM)
    return [*warm_python, str(program)]


def _process(
    unlearn: list[str],
    base: Path,
    output: Path,
    *,
    stop: tuple[int, signal.Signals] | None = None,
) -> tuple[int, list[int], str]:
    """`unsee unlearn` in a process of its own: its status, its steps, what it said on stderr.

    With `stop` it waits when it has taken that step, and is sent that signal.
    """
    concept = ["Blimbo", "--category", "character", "--anchor", ANCHOR]
    hold_at = "0" if stop is None else str(stop[0])
    with subprocess.Popen(
        [*unlearn, hold_at, *concept, "--base", str(base), "-o", str(output)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        said, steps = "", []
        for line in process.stderr:
            said += line
            if taken := re.fullmatch(r"has taken step (\d+)\n", line):
                steps.append(int(taken[1]))
                if stop is not None and steps[-1] == stop[0]:
                    process.send_signal(stop[1])
        return process.wait(), steps, said


@pytest.mark.slow
def test_the_same_command_goes_on_after_ctrl_c_and_after_a_kill(
    unlearn: list[str], slow_base: Path, tmp_path: Path
) -> None:
    output = tmp_path / "blimbo"
    status, steps, said = _process(unlearn, slow_base, output, stop=(2, signal.SIGINT))
    assert status == INTERRUPTED, said
    assert steps == [1, 2]
    assert "Traceback" not in said
    words = f"interrupted at step 2 of {ATTACKERS}; the same command goes on after step 1"
    assert words in said.splitlines()

    status, steps, said = _process(unlearn, slow_base, output, stop=(4, signal.SIGKILL))
    assert status == -signal.SIGKILL, said
    assert "was interrupted before; it goes on after step 1\n" in said
    assert steps == [2, 3, 4]
    assert "few-shot images" not in said
    assert not output.exists()

    status, steps, said = _process(unlearn, slow_base, output)
    assert status == 0, said
    assert steps == [4, 5, 6]
    assert list(tmp_path.iterdir()) == [output]
    assert _process(unlearn, slow_base, tmp_path / "undisturbed")[0] == 0
    found, expected = (load_delta(tmp_path / name).card for name in ("blimbo", "undisturbed"))
    assert found.losses == expected.losses
    assert found.tensors_digest == expected.tensors_digest
    assert found.images_digest == expected.images_digest


def _interrupted(
    job: UnlearnJob, output: Path, *, force: bool = False, after: int = 3
) -> tuple[list[int], str]:
    """The steps that a job took before it was interrupted in its last, and its last words."""
    steps: list[int] = []

    def watch(estimate: Estimate) -> None:
        steps.append(estimate.step)
        if len(steps) == after:
            raise KeyboardInterrupt

    with pytest.raises(JobInterrupted) as caught:
        run_job(job, output, force=force, stage_progress=_silent, watch=watch)
    return steps, str(caught.value)


def _interrupting(label: str) -> AbstractContextManager[Report]:
    raise KeyboardInterrupt


def test_what_goes_on_and_what_starts_anew(
    slow_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "INTERVAL_S", 0.0)
    monkeypatch.setattr(checkpoint, "_MAX_SHARE", float("inf"))
    job, output = _job(slow_base), tmp_path / "blimbo"
    goes_on = f"interrupted at step {{}} of {ATTACKERS}; the same command goes on after step {{}}"
    assert _interrupted(job, output) == ([1, 2, 3], goes_on.format(3, 2))
    assert _interrupted(job, output) == ([3, 4, 5], goes_on.format(5, 4))
    other = replace(job, seed=1)
    assert _interrupted(other, output) == ([1, 2, 3], goes_on.format(3, 2))
    steps, words = _interrupted(other, output, force=True)
    assert steps == [1, 2, 3]
    assert words.endswith("the same command without --force goes on after step 2")


def test_a_forced_run_that_is_interrupted_leaves_the_other_delta(
    slow_base: Path, tmp_path: Path
) -> None:
    job, output = _job(slow_base), tmp_path / "blimbo"
    assert isinstance(job.settings, AnchoredMode)
    quick = replace(job, settings=replace(job.settings, attackers=1))
    made = run_job(quick, output, force=False, stage_progress=_silent).delta
    _, words = _interrupted(job, output, force=True)
    assert words.endswith(f"{output} is as it was, and the same command starts anew (--force)")
    assert load_delta(output).card == made.card
    run_job(quick, output, force=False, stage_progress=_silent)
    assert list(tmp_path.iterdir()) == [output]


def test_what_was_not_begun_is_said_so(
    slow_base: Path,
    tmp_path: Path,
    images: list[Image.Image],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(checkpoint, "INTERVAL_S", 3600.0)  # only the first step is kept

    def words(job: UnlearnJob) -> str:
        with pytest.raises(JobInterrupted) as caught:
            run_job(job, tmp_path / "blimbo", force=False, stage_progress=_interrupting)
        return str(caught.value)

    job = _job(slow_base)
    from_the_beginning = "; the same command starts from the beginning"
    assert words(job) == f"interrupted before a first step was kept{from_the_beginning}"
    (tmp_path / "images").mkdir()
    for index, image in enumerate(images):
        image.save(tmp_path / "images" / f"{index}.png")
    paper = replace(job, settings=job.base.spec.unlearn.paper, images_dir=tmp_path / "images")
    _, said = _interrupted(paper, tmp_path / "blimbo", after=2)
    assert said == f"interrupted at step 2 of 10{from_the_beginning}"
    assert [path.name for path in tmp_path.iterdir()] == ["images"]
    _interrupted(job, tmp_path / "blimbo")
    assert words(job) == "interrupted again; the same command goes on after step 1"
