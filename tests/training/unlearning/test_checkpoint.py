"""What an interrupted job leaves behind, and what is made of it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file

from unsee.core.errors import InputError
from unsee.core.files import UNFINISHED
from unsee.unlearning import checkpoint as module
from unsee.unlearning.checkpoint import open_checkpoint, partial_folder

JOB = {"concept": "Blimbo", "seed": 0, "settings": {"steps": 3, "betas": (0.9, 0.98)}}
STATE = {
    "up": torch.arange(6.0).view(2, 3).T,
    "generator": torch.Generator().manual_seed(3).get_state(),
    "step": torch.tensor(7),
}


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "deltas" / "blimbo"


def _save(output: Path, step: int = 7) -> None:
    with open_checkpoint(output, JOB) as checkpoint:
        checkpoint.step = step
        checkpoint.save(STATE)


def test_the_same_job_finds_its_state(output: Path) -> None:
    _save(output)
    with open_checkpoint(output, dict(reversed(JOB.items()))) as checkpoint:
        assert (checkpoint.saved_step, checkpoint.step) == (7, 7)
        state = checkpoint.load()
        assert state is not None
        assert state.keys() == STATE.keys()
        for name, tensor in STATE.items():
            assert torch.equal(state[name], tensor)
            assert state[name].dtype == tensor.dtype
        checkpoint.remove()
    assert list(output.parent.iterdir()) == []


@pytest.mark.parametrize("change", [{"seed": 1}, {"settings": {"steps": 4}}, {"more": None}])
def test_another_job_discards_it(output: Path, change: dict[str, object]) -> None:
    _save(output)
    with open_checkpoint(output, JOB | change) as checkpoint:
        assert checkpoint.saved_step is None
        assert checkpoint.load() is None
        assert checkpoint.is_empty()


def test_anew_discards_it(output: Path) -> None:
    _save(output)
    with open_checkpoint(output, JOB, anew=True) as checkpoint:
        assert checkpoint.load() is None


def test_a_job_that_kept_nothing_leaves_nothing(output: Path) -> None:
    with open_checkpoint(output, JOB):
        assert partial_folder(output).is_dir()
    assert list(output.parent.iterdir()) == []


def test_saves_are_not_too_frequent(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("unsee.unlearning.checkpoint.time.monotonic", lambda: now)
    with open_checkpoint(output, JOB) as checkpoint:
        for step, now in ((1, 100.0), (2, 101.9), (3, 102.0), (4, 103.0)):  # noqa: B007
            checkpoint.step = step
            checkpoint.save(STATE)
            assert checkpoint.saved_step == (1 if step < 3 else 3)


def test_images_come_back_as_they_were(output: Path, images: list[Image.Image]) -> None:
    with open_checkpoint(output, JOB) as checkpoint:
        assert checkpoint.load_images() is None
        checkpoint.save_images(images, 1.25)
        assert not checkpoint.is_empty()
    with open_checkpoint(output, JOB) as checkpoint:
        kept = checkpoint.load_images()
        assert kept is not None
        assert kept.seconds == 1.25
        assert [image.tobytes() for image in kept.images] == [image.tobytes() for image in images]


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(length=st.integers(min_value=0, max_value=2000))
def test_a_cut_off_state_gets_one_sentence(output: Path, length: int) -> None:
    _save(output)
    file = partial_folder(output) / module.STATE_FILE
    content = file.read_bytes()
    file.write_bytes(content[: min(length, len(content) - 1)])
    with pytest.raises(InputError, match=r"is damaged; remove the folder .*\.blimbo\.partial"):
        _save(output)
    file.write_bytes(content)


@pytest.mark.parametrize("metadata", [None, {}, {"step": "soon"}])
def test_a_state_without_its_step_gets_one_sentence(
    output: Path, metadata: dict[str, str] | None
) -> None:
    _save(output)
    save_file({"a": torch.zeros(1)}, partial_folder(output) / module.STATE_FILE, metadata)
    with pytest.raises(InputError, match="is damaged"):
        _save(output)


@pytest.mark.parametrize("damage", ["missing", "other", "text"])
def test_damaged_images_get_one_sentence(
    output: Path, images: list[Image.Image], damage: str
) -> None:
    with open_checkpoint(output, JOB) as checkpoint:
        checkpoint.save_images(images, 1.0)
    file = partial_folder(output) / "images" / "0001.png"
    if damage == "missing":
        file.unlink()
    elif damage == "other":
        images[0].save(file)
    else:
        file.write_text("no image")
    with (
        open_checkpoint(output, JOB) as checkpoint,
        pytest.raises(InputError, match=r"images\.json was left by an interrupted run"),
    ):
        checkpoint.load_images()


def test_two_at_a_time_are_refused(output: Path) -> None:
    with open_checkpoint(output, JOB) as checkpoint:
        checkpoint.save(STATE)
        with (
            pytest.raises(InputError, match="another process is making"),
            open_checkpoint(output, JOB | {"seed": 1}),
        ):
            pass
        assert checkpoint.load() is not None


def test_what_is_not_ours_is_kept(output: Path) -> None:
    folder = partial_folder(output)
    folder.mkdir(parents=True)
    (folder / "thesis.txt").write_text("mine")
    with (
        pytest.raises(InputError, match=r"holds other files \(thesis\.txt\)"),
        open_checkpoint(output, JOB),
    ):
        pass
    assert (folder / "thesis.txt").read_text() == "mine"

    other = output.with_name("zorpik")
    partial_folder(other).symlink_to(folder)
    with pytest.raises(InputError, match="is in the way"), open_checkpoint(other, JOB):
        pass


def test_leftovers_of_a_killed_write_do_no_harm(output: Path) -> None:
    _save(output)
    folder = partial_folder(output)
    (folder / f"{UNFINISHED}0.safetensors").write_bytes(b"half")
    with open_checkpoint(output, JOB) as checkpoint:
        assert checkpoint.load() is not None
        checkpoint.remove()
    assert not folder.exists()


def test_a_killed_process_leaves_a_whole_state(output: Path) -> None:
    opened = f"open_checkpoint(Path({str(output)!r}), {{'job': 1}})"
    code = (
        "import torch\n"
        "from pathlib import Path\n"
        "from unsee.unlearning.checkpoint import open_checkpoint\n"
        f"with {opened} as checkpoint:\n"
        "    for step in range(1, 10**9):\n"
        "        checkpoint.step = step\n"
        "        checkpoint._next_save = 0.0\n"
        "        checkpoint.save({'value': torch.full((50_000,), float(step))})\n"
        "        print(step, flush=True)\n"
    )
    path = os.pathsep.join(entry for entry in sys.path if entry)
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
    )
    assert process.stdout is not None
    seen = [int(process.stdout.readline()) for _ in range(25)][-1]
    process.send_signal(signal.SIGKILL)
    process.communicate()
    with open_checkpoint(output, {"job": 1}) as checkpoint:
        state = checkpoint.load()
        assert state is not None
        assert checkpoint.saved_step is not None
        assert checkpoint.saved_step >= seen
        assert torch.equal(state["value"], torch.full((50_000,), float(checkpoint.saved_step)))
    assert json.loads((partial_folder(output) / "job.json").read_text()) == {"job": 1}


@pytest.mark.parametrize(
    ("output", "name"),
    [("a/b", ".b.partial"), ("b/", ".b.partial"), ("a/../b", ".b.partial"), ("b", ".b.partial")],
)
def test_the_folder_lies_beside_the_output(output: str, name: str) -> None:
    assert partial_folder(Path(output)).name == name
    assert partial_folder(Path(output)).parent.is_absolute()
