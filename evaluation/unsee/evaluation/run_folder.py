"""The folder of one evaluation: what it was started with, and whether it is finished.

`inputs.json` is written first and `report.json` last, so a folder with the first alone is resumed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from unsee.core.errors import InputError
from unsee.core.files import write_file, write_json
from unsee.core.policy import Thresholds
from unsee.core.validation import ClosedModel
from unsee.deltas.files import CARD_FILE
from unsee.evaluation.report.consistency import inconsistencies
from unsee.evaluation.report.schema import (
    PAGE_FILE,
    REPORT_FILE,
    SIGNATURE_FILE,
    EvaluationSettings,
    Media,
    Report,
    Target,
)

INPUTS_FILE = "inputs.json"
ATTACKS_FOLDER = "attacks"
FRAMES_FOLDER = "frames"


class Inputs(ClosedModel):
    """Everything that decides a report; digests are `"sha256:…"`.

    `models` are the denoisers' by medium, and that of an attacker's pictures if it is another one,
    `attacks` the budgets by name, `clip_model` the digest of the model of the CLIP score,
    `questions` that of the concepts and templates. `clip_size` is height and width, `ends` the most
    guidance and steps that other shapes are asked with. `thresholds` decide what the page says and
    nothing that is measured. The last three are None in folders of version 0.1.
    """

    schema_version: Literal[1] = 1
    target: Target
    settings: EvaluationSettings
    media: tuple[Media, ...]
    attacks: dict[str, str]
    models: dict[str, str]
    clip_model: str | None
    questions: str
    clip_size: tuple[int, int] | None = None
    ends: tuple[float, int] | None = None
    thresholds: Thresholds | None = None


def begin(folder: Path, inputs: Inputs, *, force: bool) -> Report | None:
    """Make `folder` ready for `inputs`; return its report if it was finished with the same ones.

    Raises `InputError` if the folder is a delta's, or if it holds another evaluation or other files
    and `force` is not given; with `force` another evaluation's report is removed, and other files
    are left alone. A report that was only held against other thresholds is written again, and so is
    one that was changed so that it does not fit `inputs` or itself.
    """
    known = load_inputs(folder)
    if known == inputs:
        report = _load_report(folder, inputs)
        if report is not None and not report.models:  # of a version that did not record them
            report = report.model_copy(update={"models": inputs.models})
            (folder / SIGNATURE_FILE).unlink(missing_ok=True)
            finish(folder, report)
        if report is not None:
            return report
    measures_the_same = known is not None and inputs == known.model_copy(
        update={"thresholds": inputs.thresholds}
    )
    if (folder / CARD_FILE).exists():
        raise InputError(
            f"{folder} holds a delta, which must hold nothing else; choose another output"
        )
    if not (force or measures_the_same):
        _check_free(folder, known, inputs)
    for name in (REPORT_FILE, PAGE_FILE, SIGNATURE_FILE):
        (folder / name).unlink(missing_ok=True)
    write_json(folder / INPUTS_FILE, inputs)
    return None


def finish(folder: Path, report: Report) -> Path:
    """Write `report.json`, which makes the folder's evaluation a finished one."""
    file = folder / REPORT_FILE
    write_json(file, report)
    return file


def _check_free(folder: Path, known: Inputs | None, inputs: Inputs) -> None:
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} exists and is not a folder; choose another output")
    if known is not None:
        differing = ", ".join(_differences(known, inputs))
        raise InputError(
            f"{folder} already holds another evaluation ({differing} differ); "
            "choose another output or add --force"
        )
    entries = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    foreign = sorted(entries - {FRAMES_FOLDER})
    if foreign:
        raise InputError(
            f"{folder} holds other files ({foreign[0]}); choose another output or add --force"
        )


def _differences(known: Inputs, inputs: Inputs) -> list[str]:
    """The names of differing fields; those of the target and the settings one by one."""
    names = []
    for name in Inputs.model_fields:
        old, new = getattr(known, name), getattr(inputs, name)
        if old == new:
            continue
        if isinstance(old, (Target, EvaluationSettings)):
            names += [field for field, value in old if value != getattr(new, field)]
        else:
            names.append(name)
    return names


def load_inputs(folder: Path) -> Inputs | None:
    """What the evaluation in `folder` was started with; None if that cannot be read."""
    try:
        return Inputs.model_validate_json((folder / INPUTS_FILE).read_bytes())
    except (OSError, ValidationError):
        return None


def _load_report(folder: Path, inputs: Inputs) -> Report | None:
    if not (folder / PAGE_FILE).is_file():
        return None
    try:
        report = Report.model_validate_json((folder / REPORT_FILE).read_bytes())
    except (OSError, ValidationError):
        return None
    is_of_these = (report.target, report.settings) == (inputs.target, inputs.settings)
    return report if is_of_these and not inconsistencies(report) else None


def sign_report(folder: Path, sign: Callable[[Mapping[str, bytes]], bytes]) -> None:
    """Write `report.sig`: what `sign` makes of report.json and report.html, by name."""
    files = {name: (folder / name).read_bytes() for name in (REPORT_FILE, PAGE_FILE)}
    write_file(folder / SIGNATURE_FILE, sign(files))
