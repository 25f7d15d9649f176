"""Deltas in folders: complete or absent, and refused when any byte is not as it was written."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from delta_fakes import write_manifest
from PIL import Image
from safetensors.torch import load_file, save_file

from unsee.core import files
from unsee.core.errors import DeltaDamaged, InputError
from unsee.deltas import folder as delta_folder_module
from unsee.deltas.delta import Delta
from unsee.deltas.files import read_card, write_card
from unsee.deltas.folder import check_writable, load_card, load_delta, save_delta

DeltaMaker = Callable[..., Delta]


@pytest.fixture
def delta(make_delta: DeltaMaker) -> Delta:
    return make_delta(_random_tensors(0))


@pytest.fixture
def folder(delta: Delta, tmp_path: Path) -> Path:
    images = [Image.new("RGB", (4, 4), (index, 0, 0)) for index in range(2)]
    save_delta(delta, tmp_path / "deltas" / "blimbo", images=images)
    return tmp_path / "deltas" / "blimbo"


def _random_tensors(seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(3, 2, generator=generator) for name in ("down", "up")}


def test_a_folder_gives_back_what_was_saved(delta: Delta, folder: Path) -> None:
    loaded = load_delta(folder)
    assert loaded.card == load_card(folder) == delta.card
    assert loaded.tensors.keys() == delta.tensors.keys()
    assert all(torch.equal(loaded.tensors[name], delta.tensors[name]) for name in delta.tensors)
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    written = {"delta.safetensors", "card.json", "images/00.png", "images/01.png"}
    assert files == written


def test_a_signature_in_the_folder_is_no_foreign_file(folder: Path) -> None:
    (folder / "signature.sig").write_text("whatever it says")
    load_delta(folder)
    check_writable(folder, force=True)


def test_a_card_without_digests_is_refused(delta: Delta, folder: Path) -> None:
    (folder / "card.json").write_text(delta.card.model_dump_json(indent=2) + "\n")
    for load in (load_card, load_delta):
        with pytest.raises(DeltaDamaged, match=r"version before 0\.1.* unlearn again with --force"):
            load(folder)


def test_a_folder_of_version_0_1_is_read_and_verified(delta: Delta, folder: Path) -> None:
    card = delta.card.model_copy(update={"schema_version": 2})
    (folder / "card.json").write_text(card.model_dump_json(indent=2) + "\n")
    write_manifest(folder)
    assert load_delta(folder).card == load_card(folder) == card
    check_writable(folder, force=True)
    (folder / "images" / "01.png").unlink()
    with pytest.raises(DeltaDamaged, match=r"01\.png is missing"):
        load_delta(folder)


def test_an_extra_file_and_a_link_are_refused(folder: Path) -> None:
    (folder / "images" / "02.png").symlink_to(folder / "images" / "01.png")
    with pytest.raises(DeltaDamaged, match=r"images/02\.png is a link"):
        load_delta(folder)
    (folder / "images" / "02.png").unlink()
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(DeltaDamaged, match=r"notes\.txt does not belong to the delta"):
        load_delta(folder)


def test_the_card_is_read_only_as_it_was_written(folder: Path) -> None:
    (folder / "delta.safetensors").unlink()
    load_card(folder)
    card = folder / "card.json"
    card.write_text(card.read_text().replace("Blimbo", "Zorpik"))
    with pytest.raises(DeltaDamaged, match=r"card\.json was changed"):
        load_card(folder)


def test_tensors_that_the_card_does_not_describe_are_refused(folder: Path) -> None:
    file, fields = folder / "delta.safetensors", read_card(folder)[0]
    tensors = load_file(file)
    tensors["up"][0, 0] += 1
    save_file(tensors, file)
    write_card(folder, fields)
    with pytest.raises(DeltaDamaged, match=r"delta\.safetensors .*'Blimbo'.*digest"):
        load_delta(folder)
    file.write_bytes(b"no tensors")
    write_card(folder, fields)
    with pytest.raises(DeltaDamaged, match=r"delta\.safetensors .* unreadable"):
        load_delta(folder)
    file.unlink()
    write_card(folder, fields)
    with pytest.raises(DeltaDamaged, match=r"delta\.safetensors .* missing"):
        load_delta(folder)


def test_a_wrong_card_or_none(folder: Path) -> None:
    write_card(folder, {})
    with pytest.raises(DeltaDamaged, match=r"card\.json is not a valid card: base: .*missing"):
        load_delta(folder)
    (folder / "card.json").unlink()
    with pytest.raises(InputError, match=r"holds no delta: there is no card\.json"):
        load_card(folder)


def test_a_folder_without_a_delta_is_none(tmp_path: Path) -> None:
    for load in (load_card, load_delta):
        for place in (tmp_path, Path(__file__)):
            with pytest.raises(InputError, match=rf"{place.name} holds no delta: .*unsee unlearn"):
                load(place)
        with pytest.raises(InputError, match=r"there is no .*nowhere; make a delta with"):
            load(tmp_path / "nowhere")


def test_a_folder_is_replaced_only_by_force(make_delta: DeltaMaker, folder: Path) -> None:
    (folder / "signature.sig").write_text("of the old delta")
    other = make_delta(_random_tensors(1))
    with pytest.raises(InputError, match="already exists"):
        save_delta(other, folder)
    save_delta(other, folder, force=True)
    assert load_delta(folder).card == other.card
    assert not (folder / "signature.sig").exists()
    assert list(folder.parent.iterdir()) == [folder]


@pytest.mark.parametrize(
    "name", ["thesis.txt", "images/thesis.txt", "images/cat.png", "old/00.png"]
)
def test_force_never_touches_other_files(delta: Delta, folder: Path, name: str) -> None:
    precious = folder / name
    precious.parent.mkdir(exist_ok=True)
    precious.write_text("years of work")
    with pytest.raises(
        InputError, match=r"holds other files \((thesis|images/|old).*\) and is kept"
    ):
        save_delta(delta, folder, force=True)
    with pytest.raises(InputError, match="is not a folder"):
        save_delta(delta, precious, force=True)
    assert precious.read_text() == "years of work"


@pytest.mark.parametrize("force", [True, False])
def test_a_link_is_no_folder_to_replace(
    delta: Delta, folder: Path, tmp_path: Path, force: bool
) -> None:
    latest = tmp_path / "latest"
    latest.symlink_to(folder)
    with pytest.raises(InputError, match=r"latest is a link.*name the folder itself"):
        save_delta(delta, latest, force=force)
    assert latest.is_symlink()


def test_a_linked_images_folder_is_kept(delta: Delta, folder: Path, tmp_path: Path) -> None:
    (folder / "images").rename(tmp_path / "images")
    (folder / "images").symlink_to(tmp_path / "images")
    with pytest.raises(InputError, match=r"holds other files \(images\) and is kept"):
        save_delta(delta, folder, force=True)
    assert (tmp_path / "images" / "00.png").exists()


@pytest.mark.parametrize("stage", ["_write", "write_card", "sync", "rename"])
def test_an_interrupted_save_leaves_nothing(
    delta: Delta, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    _interrupt(monkeypatch, stage)
    with pytest.raises(KeyboardInterrupt):
        save_delta(delta, tmp_path / "blimbo")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("stage", ["_write", "write_card", "sync", "rename"])
def test_an_interrupted_replacement_leaves_the_old_delta(
    delta: Delta,
    folder: Path,
    make_delta: DeltaMaker,
    monkeypatch: pytest.MonkeyPatch,
    stage: str,
) -> None:
    _interrupt(monkeypatch, stage)
    with pytest.raises(KeyboardInterrupt):
        save_delta(make_delta(_random_tensors(1)), folder, force=True)
    assert load_delta(folder).card == delta.card
    assert list(folder.parent.iterdir()) == [folder]


def _interrupt(monkeypatch: pytest.MonkeyPatch, stage: str) -> None:
    """Ctrl-C at a stage of saving; `rename` is that of the new folder to its name, once."""

    def interrupt(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    original, interrupted = Path.rename, []

    def interrupt_once(path: Path, target: Path) -> Path:
        if target.name == "blimbo" and not interrupted:
            interrupted.append(path)
            raise KeyboardInterrupt
        return original(path, target)

    if stage == "rename":
        monkeypatch.setattr(Path, "rename", interrupt_once)
    else:
        monkeypatch.setattr(files if stage == "sync" else delta_folder_module, stage, interrupt)
