"""The published folders: their odd values are there, and every command reads them."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.engines import published_folders
from benchmarks.measuring.processes import ProcessFailed
from benchmarks.measuring.published import NAMES, WAN, version_3, write_published
from benchmarks.measuring.real_size import VIDEO_SIZES, motion_adapter
from unsee.models.base import load_base
from unsee.models.check import require
from unsee.models.schedulers import offered_schedulers


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The reduced folder of a name, written when it is first asked for."""

    @cache
    def write(name: str) -> Path:
        folder = tmp_path_factory.mktemp(name)
        write_published(folder, name, reduced=True)
        return folder

    return write


@pytest.mark.parametrize(
    ("name", "layers", "pad", "scheduler"),
    [
        ("sd15-animatediff-v3", 12, "<|endoftext|>", "PNDMScheduler"),
        ("sd21-modelscope", 23, "!", "DDIMScheduler"),
    ],
)
def test_the_odd_values_are_there_and_are_read(
    written: Callable[[str], Path], name: str, layers: int, pad: str, scheduler: str
) -> None:
    folder = written(name)
    base = load_base(folder)
    notes = " ".join(require(base))
    assert "has the ids 0 and 2; the tokenizer's 49406 and 49407 are used" in notes
    config = base.text_encoder().config
    assert (config.num_hidden_layers, config.vocab_size) == (layers, 49408)
    frame = base.prompt_frame()
    assert (*frame.start, frame.eos) == (49406, 49407)
    assert base.tokenizer().pad_token == pad
    assert offered_schedulers(base).own == scheduler
    index = json.loads((folder / "t2i" / "model_index.json").read_text())
    assert {"feature_extractor", "safety_checker"} <= index.keys()


def test_the_motion_adapter_has_the_schedule_of_its_makers(written: Callable[[str], Path]) -> None:
    base = load_base(written("sd15-animatediff-v3"))
    assert offered_schedulers(base).warnings == ()
    assert float(base.t2v_scheduler().alphas_cumprod[801]) == pytest.approx(0.0138, abs=1e-4)
    assert float(base.scheduler().alphas_cumprod[801]) == pytest.approx(0.0365, abs=1e-4)


def test_wan_2_1_is_read_with_its_sampler(written: Callable[[str], Path]) -> None:
    base = load_base(written(WAN))
    require(base)
    offer = offered_schedulers(base)
    assert offer.own == "UniPCMultistepScheduler"
    assert "FlowMatchEulerDiscreteScheduler" in offer.offered
    assert base.prompt_frame().length == 512


def test_version_3_has_no_motion_module_in_the_middle() -> None:
    with torch.device("meta"):
        adapter = motion_adapter(version_3(VIDEO_SIZES["animatediff"]))
    file_bytes = 4 * sum(parameter.numel() for parameter in adapter.parameters())
    assert round(file_bytes / 1e9, 2) == 1.67  # of the published file


def test_a_stage_that_fails_ends_the_run_with_what_it_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "base.yaml").write_text("name: broken\n")
    ran: list[Any] = []
    monkeypatch.setattr(published_folders, "in_own_process", lambda *given: ran.append(given))
    name = NAMES[0]
    with pytest.raises(ProcessFailed, match=r"unsee base check .* ended with 2: .*base\.yaml"):
        published_folders.measured(tmp_path, name, reduced=True)
    assert ran == []
