"""`report.html`: the report as one page that opens offline and that a lawyer can read.

Puts words (`content`), plots and pictures into the template; measures and judges nothing. The
page holds everything that it shows: no script, no font, no picture from elsewhere.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from PIL import Image

from unsee.core.files import write_file
from unsee.core.policy import Thresholds
from unsee.evaluation.page import content
from unsee.evaluation.page.examples import Example, ExampleKind
from unsee.evaluation.page.findings import findings, more_findings
from unsee.evaluation.page.plots import (
    PlotRow,
    bar_plot,
    budget_plot,
    curve_plot,
    interval_plot,
)
from unsee.evaluation.report.schema import LASTING_SHARE, PAGE_FILE, AttackRow, Reach, Report
from unsee.evaluation.report.verdict import attack_name, percent, spaced, verdict_of
from unsee.evaluation.seeing.frame_store import Frames

TEMPLATE = "report_page.html.jinja"
STYLE = "report_page.css"
FRAME_PIXELS = 160
"""About the height of a shown frame: small ones grow by whole factors, large ones shrink."""
GAP_PIXELS = 4
JPEG_QUALITY = 92

KINDS: dict[ExampleKind, str] = {
    "erased": "Asked for what must be unseen",
    "sibling": "Asked for siblings, which must be kept",
    "other": "Asked for something else, which must be kept",
    "attack": "Under attack",
}


@dataclass(frozen=True)
class Strip:
    """Frames of one encoder side by side, as a `data:` URI; `tone` is `good`, `bad` or empty."""

    encoder: str
    uri: str
    width: int
    height: int
    seen: bool
    tone: str


@dataclass(frozen=True)
class Sheet:
    """An example as the page shows it."""

    title: str
    num_frames: int
    strips: tuple[Strip, Strip]


@dataclass(frozen=True)
class AttackKind:
    """The attacks of one reach: its heading, their plots, their rows and their budgets by name."""

    title: str
    plots: list[Plot]
    rows: list[AttackRow]
    budgets: list[tuple[str, AttackRow]]


@dataclass(frozen=True)
class Plot:
    """An inline SVG, what it shows in words, and a name for its description's id."""

    name: str
    caption: str
    svg: Markup


def write_page(
    report: Report, examples: Sequence[Example], thresholds: Thresholds, folder: Path
) -> Path:
    """Write `report.html` into `folder` (there, or made) and return its path.

    The file appears whole or not at all. Examples are shown in their order, by kind.
    """
    page = _render(report, examples, thresholds)
    file = folder / PAGE_FILE
    write_file(file, page.encode())
    return file


def _render(report: Report, examples: Sequence[Example], thresholds: Thresholds) -> str:
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_unbroken,
    )
    environment.filters |= {
        "whole": content.whole,
        "interval": content.interval,
        "name_of_attack": _name_of_attack,
    }
    template = environment.from_string(_resource(TEMPLATE))
    return template.render(
        **_words(report, thresholds),
        style=Markup(_resource(STYLE)),  # a file of this package, not input
        sheets={KINDS[kind]: _sheets(examples, kind) for kind in KINDS},
        plots=_plots(report),
    )


def _words(report: Report, thresholds: Thresholds) -> dict[str, Any]:
    verdict = verdict_of(report, thresholds)
    return {
        "report": report,
        "verdict": verdict,
        "headline": content.headline(verdict),
        "concepts": _listed([concept.name for concept in report.target.concepts]),
        "findings": findings(report),
        "more_findings": more_findings(report),
        "checks": content.check_lines(verdict),
        "note": content.thresholds_note(thresholds),
        "wordings": content.WORDINGS,
        "media": content.MEDIA,
        "groups": content.GROUPS,
        "shapes": content.SHAPES,
        "attacks": [_attack_kind(report, reach) for reach in content.REACHES],
        "lasting": percent(LASTING_SHARE),
        "made": f"{report.created_at:%d %B %Y, %H:%M %Z}".lstrip("0"),
    }


def _plots(report: Report) -> dict[str, list[Plot]]:
    curves = [
        Plot(
            f"curve-{index}",
            f"{row.concept}, frame by frame, over all clips that asked for it",
            Markup(curve_plot(row.tuned_curve, row.base_curve, f"curve-{index}")),
        )
        for index, row in enumerate(report.reemergence)
        if row.tuned_curve
    ]
    return {
        "bars": _bars(report),
        "erased": _plot("erased", "Still recognised, by wording", content.erased_rows(report)),
        "shapes": _plot("shapes", "Other shapes of the name", content.shape_rows(report)),
        "kept": _plot("kept", "Kept, by concept", content.kept_rows(report)),
        "curves": curves,
    }


def _bars(report: Report) -> list[Plot]:
    rows = content.bar_rows(report)
    caption = "Recognised: before, now, and where nobody asks for it"
    return [Plot("bars", caption, Markup(bar_plot(rows, "bars")))] if rows else []


def _attack_kind(report: Report, reach: Reach) -> AttackKind:
    rows = content.attack_rows(report, reach)
    name = f"attacks-{reach}"
    curves = [
        Plot(f"{name}-{index}", caption, Markup(budget_plot(points, f"{name}-{index}")))
        for index, (attack, points) in enumerate(content.attack_curves(report, reach).items())
        for caption in [f"{spaced(attack).capitalize()}, by budget"]
    ]
    measured = [row for row in report.attacks if row.reach == reach]
    return AttackKind(
        content.REACHES[reach],
        [*_plot(name, "Brought back, by attack", rows), *curves],
        measured,
        list({_name_of_attack(row): row for row in measured}.items()),
    )


def _name_of_attack(row: AttackRow) -> str:
    return attack_name(row.attack, row.times)


def _plot(name: str, caption: str, rows: list[PlotRow]) -> list[Plot]:
    return [Plot(name, caption, Markup(interval_plot(rows, name)))] if rows else []


def _sheets(examples: Sequence[Example], kind: ExampleKind) -> list[Sheet]:
    wanted = kind in ("sibling", "other")
    return [
        Sheet(
            example.title,
            len(example.base),
            (
                _strip("unmodified encoder", example.base, example.base_seen, ""),
                _strip(
                    "this encoder",
                    example.tuned,
                    example.tuned_seen,
                    "good" if example.tuned_seen == wanted else "bad",
                ),
            ),
        )
        for example in examples
        if example.kind == kind
    ]


def _strip(encoder: str, frames: Frames, seen: bool, tone: str) -> Strip:
    tiles = [_scaled(Image.fromarray(frame)) for frame in frames]
    width, height = tiles[0].size
    strip = Image.new("RGB", (len(tiles) * (width + GAP_PIXELS) - GAP_PIXELS, height), "white")
    for index, tile in enumerate(tiles):
        strip.paste(tile, (index * (width + GAP_PIXELS), 0))
    return Strip(encoder, _data_uri(strip), *strip.size, seen=seen, tone=tone)


def _scaled(tile: Image.Image) -> Image.Image:
    if tile.height > FRAME_PIXELS:
        width = round(tile.width * FRAME_PIXELS / tile.height)
        return tile.resize((width, FRAME_PIXELS), Image.Resampling.LANCZOS)
    factor = FRAME_PIXELS // tile.height
    return tile.resize((factor * tile.width, factor * tile.height), Image.Resampling.NEAREST)


def _data_uri(image: Image.Image) -> str:
    data = io.BytesIO()
    image.save(data, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return f"data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode()}"


def _unbroken(value: Any) -> Any:
    """No line break between a number and its per cent sign."""
    return value.replace(" %", "\N{NO-BREAK SPACE}%") if type(value) is str else value


def _listed(names: Sequence[str]) -> str:
    """The names as in a sentence, of many the first ones and how many more."""
    if len(names) > content.MOST_BARS + 1:
        names = [*names[: content.MOST_BARS], f"{len(names) - content.MOST_BARS} more"]
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def _resource(name: str) -> str:
    return files("unsee.evaluation.page").joinpath(name).read_text(encoding="utf-8")
