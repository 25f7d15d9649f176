"""What an interrupted unlearning left behind, so that the same job can go on there.

Beside the output folder `deltas/blimbo` lies `deltas/.blimbo.partial` while the job is at work:

    job.json             which job it is; another job's leftovers are discarded
    images/, images.json the generated images, what they took and their digest; written last
    state.safetensors    the trainer's tensors; the header's metadata says after which step

Every file is whole, so a killed process leaves the last complete one.
"""

import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from unsee.core.errors import InputError, Locked
from unsee.core.files import UNFINISHED, lock, new_file, write_json
from unsee.images.image_folder import load_images
from unsee.models.digest import images_digest
from unsee.models.files.weights import writing

JOB_FILE = "job.json"
IMAGES_FOLDER = "images"
IMAGES_FILE = "images.json"
STATE_FILE = "state.safetensors"
INTERVAL_S = 2.0
_MAX_SHARE = 0.1


class Checkpoint(Protocol):
    """Where a trainer keeps its state: tensors only, random states among them as uint8."""

    def load(self) -> dict[str, torch.Tensor] | None:
        """Return what was saved last for the very same job, or None."""

    def save(self, tensors: dict[str, torch.Tensor]) -> None:
        """Keep the tensors, which must not share memory; may skip a call that comes too soon."""


@dataclass(frozen=True)
class KeptImages:
    """Images that were generated before the interruption, and the seconds that they took."""

    images: list[Image.Image]
    seconds: float


class FolderCheckpoint:
    """A `Checkpoint` in a folder; open it with `open_checkpoint`.

    State is written at most every `INTERVAL_S` seconds, and seldom enough that writing takes no
    more than a tenth of the time. `step` is the step that the trainer has finished: whoever runs
    the trainer sets it, and it is kept with the state as `saved_step` (None: nothing is saved).
    Raises `InputError` if a kept state cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._next_save = 0.0
        self.saved_step = self._kept_step()
        self.step = self.saved_step or 0

    def load(self) -> dict[str, torch.Tensor] | None:
        """Return what was saved last for this job, or None."""
        if self.saved_step is None:
            return None
        with self._readable(STATE_FILE) as file:
            # into memory of their own: the file's offsets are aligned differently, and some matrix
            # products round by alignment
            return {name: tensor.clone() for name, tensor in load_file(file).items()}

    def save(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Write the tensors as they are now, unless the last write was a moment ago."""
        started = time.monotonic()
        if started < self._next_save:
            return
        file = self._folder / STATE_FILE
        content = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        with writing(file), new_file(file) as fresh:
            save_file(content, fresh, metadata={"step": str(self.step)})
        self.saved_step = self.step
        finished = time.monotonic()
        self._next_save = finished + max(INTERVAL_S, (finished - started) / _MAX_SHARE)

    def load_images(self) -> KeptImages | None:
        """Return the images that were kept for this job, or None.

        Raises `InputError` if they are not what was kept.
        """
        if not (self._folder / IMAGES_FILE).exists():
            return None
        with self._readable(IMAGES_FILE) as file:
            record = json.loads(file.read_text(encoding="utf-8"))
            images = load_images(self._folder / IMAGES_FOLDER)
            if images_digest(images) != record["digest"]:
                raise ValueError(record["digest"])
            return KeptImages(images=images, seconds=float(record["seconds"]))

    def save_images(self, images: Sequence[Image.Image], seconds: float) -> None:
        """Keep the generated images, losslessly, and the seconds that making them took."""
        folder = self._folder / IMAGES_FOLDER
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for index, image in enumerate(images):
            with new_file(folder / f"{index:04d}.png") as file:
                image.convert("RGB").save(file, format="PNG")
        record = {"digest": images_digest(images), "seconds": seconds}
        write_json(self._folder / IMAGES_FILE, record)

    def is_empty(self) -> bool:
        """Whether nothing is kept that a later run could go on from."""
        return not any((self._folder / name).exists() for name in (STATE_FILE, IMAGES_FILE))

    def remove(self) -> None:
        """Remove the folder and all that it keeps."""
        _clear(self._folder)
        self._folder.rmdir()

    def _kept_step(self) -> int | None:
        if not (self._folder / STATE_FILE).exists():
            return None
        with self._readable(STATE_FILE) as file, safe_open(file, framework="pt") as content:
            return int(content.metadata()["step"])

    @contextmanager
    def _readable(self, name: str) -> Iterator[Path]:
        """The file `name`, with one sentence for whatever is wrong with what it holds."""
        file = self._folder / name
        try:
            yield file
        except (OSError, SafetensorError, KeyError, TypeError, ValueError, InputError) as error:
            raise InputError(
                f"{file} was left by an interrupted run and is damaged; "
                f"remove the folder {self._folder} to start anew"
            ) from error


@contextmanager
def open_checkpoint(
    output: Path, identity: Mapping[str, Any], *, anew: bool = False
) -> Iterator[FolderCheckpoint]:
    """The checkpoint of the job `identity` (JSON values) whose result will be the folder `output`.

    What another job left is discarded, with `anew` what this one left too. Call `remove` when the
    result is in its place; on leaving, a folder that keeps nothing is removed. Raises `InputError`
    if another process is at the same output, or the folder holds files of somebody else.
    """
    folder = partial_folder(output)
    with _locked(folder, output):
        if anew or _read_job(folder) != json.loads(json.dumps(identity)):
            _clear(folder)
            write_json(folder / JOB_FILE, identity)
        checkpoint = FolderCheckpoint(folder)
        try:
            yield checkpoint
        finally:
            if folder.exists() and checkpoint.is_empty():
                checkpoint.remove()


def partial_folder(output: Path) -> Path:
    """Where the state of a job is kept while its result is not yet in `output`."""
    place = Path(os.path.abspath(output))  # noqa: PTH100 – resolve() would follow links
    return place.with_name(f".{place.name}.partial")


@contextmanager
def _locked(folder: Path, output: Path) -> Iterator[None]:
    """Make the folder and hold it for this process; the system lets go when the process ends."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise InputError(f"{folder} is in the way of an unfinished {output.name}; move it away")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with lock(folder, command="unlearn"):
            yield
    except Locked as error:
        raise InputError(
            f"another process is making {output} at this moment; wait for it or stop it"
        ) from error


def _read_job(folder: Path) -> Any:
    try:
        return json.loads((folder / JOB_FILE).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None


def _clear(folder: Path) -> None:
    """Remove what a checkpoint writes, the job first: without it the rest counts for nothing."""
    known = {JOB_FILE, IMAGES_FOLDER, IMAGES_FILE, STATE_FILE}
    entries = list(folder.iterdir())
    names = [entry.name for entry in entries if not entry.name.startswith(UNFINISHED)]
    foreign = [name for name in names if name not in known]
    if foreign:
        raise InputError(f"{folder} holds other files ({min(foreign)}); move them away")
    for entry in sorted(entries, key=lambda entry: entry.name != JOB_FILE):
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
