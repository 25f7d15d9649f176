"""The measured pages: each is what its records give, and so are its plots."""

import json
import re
import shutil
import xml.etree.ElementTree as ElementTree
from functools import cache
from pathlib import Path

import matplotlib
import pytest

from benchmarks.measuring.record import as_json
from benchmarks.pages import concepts, edits, figures, floors
from benchmarks.pages.render import (
    MEASURED,
    PAGES,
    TEMPLATES,
    Page,
    of_other_bases,
    write_pages,
)

HAND_WRITTEN = {"index", "tried"}
EVERY = [page for page in (*PAGES, *of_other_bases()) if page.records]
BY_NAME = pytest.mark.parametrize("page", EVERY, ids=[page.base + page.name for page in EVERY])


@cache
def files_of(page: Page) -> dict[str, bytes]:
    return page.files(MEASURED)


def drawn_by(svg: bytes) -> str:
    """The version of Matplotlib that drew a plot."""
    (version,) = re.findall(rb"Matplotlib v([\d.]+)", svg)
    return version.decode()


@BY_NAME
def test_a_page_is_what_its_records_give(page: Page) -> None:
    for name, content in files_of(page).items():
        kept = (MEASURED / name).read_bytes()
        if name.endswith(".md") or drawn_by(kept) == matplotlib.__version__:
            assert kept == content, f"{name} is not what its records give; run `make pages`"


@BY_NAME
def test_every_picture_of_a_page_is_a_plot_of_it(page: Page) -> None:
    files = {str(Path(name).relative_to(page.base)): data for name, data in files_of(page).items()}
    shown = set(re.findall(r"!\[.*?\]\((.*?)\)", files[f"{page.name}.md"].decode()))
    assert shown == files.keys() - {f"{page.name}.md"}
    for name in shown:
        assert ElementTree.fromstring(files[name]).tag.endswith("svg")


def test_every_measured_page_is_rendered() -> None:
    names = {page.name for page in PAGES}
    pages = {str(Path(page.base, page.name)) for page in EVERY}
    found = {str(file.relative_to(MEASURED).with_suffix("")) for file in MEASURED.rglob("*.md")}
    assert found == pages | HAND_WRITTEN
    assert {file.name for file in TEMPLATES.glob("*.md.jinja")} == {f"{n}.md.jinja" for n in names}
    read = {str(Path(page.base, path)) for page in EVERY for path in page.records.values()}
    assert {str(file.relative_to(MEASURED)) for file in MEASURED.rglob("*.json")} == read


def test_another_record_gives_another_page_and_nothing_else_is_written(tmp_path: Path) -> None:
    folder = tmp_path / "measured"
    shutil.copytree(MEASURED, folder)
    pages = [page for page in PAGES if page.name in ("reliability", "client")]
    write_pages(folder, pages)
    file = folder / "reliability" / "malformed.json"
    record = json.loads(file.read_text())
    file.write_text(json.dumps(record | {"slowest_s": 0.987}))
    assert write_pages(folder, pages) == [folder / "reliability.md"]
    assert "the slowest answer took 987 ms" in (folder / "reliability.md").read_text()
    assert write_pages(folder, pages) == []


def test_the_records_of_another_base_become_pages_in_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "measured"
    shutil.copytree(MEASURED, folder)
    (folder / "other-base").mkdir()
    for name in ("results", "floors", "composition", "ablation"):
        shutil.copy(MEASURED / f"{name}.json", folder / "other-base")
    write_pages(folder)
    page = (folder / "other-base" / "results.md").read_text()
    assert page.startswith("# Every concept of other-base\n")
    assert "`make evaluation BASE=other-base`" in page
    assert "[evaluation.md](../../reference/evaluation.md)" in page
    assert (folder / "other-base" / "interference.svg").is_file()
    assert "[other-base](other-base/results.md)" in (folder / "results.md").read_text()


def test_shares_have_wilsons_interval() -> None:
    pair = {"tuned": 1, "base": 4, "n": 8}
    assert figures.percent(pair) == "12.5 % [2.2, 47.1] of 8"
    assert figures.percent(pair, "base") == "50.0 % [21.5, 78.5] of 8"
    assert figures.relative_percent(pair) == "25.0 % [4.5, 94.2] of 8"
    assert figures.before_after(pair) == "4 → **1** of 8"
    assert figures.pooled([pair, pair]) == {"tuned": 2, "base": 8, "n": 16}
    nothing = figures.pooled([])
    assert figures.percent(nothing) == figures.relative_percent(nothing) == "–"
    assert figures.before_after(nothing) == "–"


def test_what_could_not_be_measured_is_null_and_a_dash() -> None:
    kept = json.loads(as_json({"p99": float("nan"), "rows": [{"healthy_after_s": float("inf")}]}))
    assert kept == {"p99": None, "rows": [{"healthy_after_s": None}]}
    assert figures.fixed(None, 2) == "–"
    assert figures.fixed(1234.56, 1) == "1234.6"


def test_spreads_are_written_with_their_quartiles() -> None:
    spread = {"median": 0.5, "low_quartile": 0.45, "high_quartile": 0.6}
    assert figures.seconds(spread) == "0.500 (0.450–0.600)"
    assert figures.seconds(spread | {"median": 1.5}) == "1.50 (0.45–0.60)"
    assert figures.ratio(spread) == "0.50 (0.45–0.60)"
    assert figures.ratio(None) == figures.seconds(None) == ""


def test_a_mean_has_its_range_where_values_differ() -> None:
    assert figures.mean_range([1.0, None, 1.2]) == "1.10 (1.00 to 1.20)"
    assert figures.mean_range([2365440, 2365440], 0) == "2,365,440"
    assert figures.mean_range([None]) == figures.mean([None]) == "–"
    assert figures.mean([1.0, 2.0], 1) == "1.5"


def test_interference_leaves_out_the_diagonal() -> None:
    matrix = {
        "concepts": ["Blimbo", "Zorpik", "car"],
        "categories": ["character", "character", "object"],
        "shares": [[1.0, 0.2, 0.01], [0.3, 0.9, 0.02], [0.0, 0.04, 0.8]],
    }
    found = figures.interference(matrix)
    assert found["own"] == [1.0, 0.9, 0.8]
    assert found["siblings"] == pytest.approx(0.25)
    assert found["others"] == pytest.approx(0.015)
    assert found["worst"][:2] == [("Zorpik", "Blimbo", 0.3), ("Blimbo", "Zorpik", 0.2)]
    assert len(found["worst"]) == 6


def test_edits_are_compared_on_what_each_was_tried_on(tmp_path: Path) -> None:
    asked = {"tuned": 1, "base": 4, "floor": 0, "n": 4}
    found = {"seconds": 10.0, "asked for": asked, "siblings": {"tuned": 8, "base": 8, "n": 8}}
    ways = {"projection": {"Blimbo": found, "kite": found}, "held inside": {"kite": found}}
    record = {"attacks": {"soft-prompt": "4 vectors"}, "ways": ways}
    (tmp_path / "edits_image.json").write_text(json.dumps(record))
    page = Page("edits", {"images": "edits_image.json"}, context=edits.context)
    text = page.files(tmp_path)["edits.md"].decode()
    assert "Concepts: kite." in text
    share = "25.0 % [4.6, 69.9] of 4"
    assert f"| projection | {share} | 100.0 % [67.6, 100.0] of 8 | 10 |" in text
    assert "| *floor* | 0.0 % [0.0, 49.0] of 4 | – | – |" in text
    assert Page("edits", {}).bases(tmp_path) == []


def test_an_excess_is_over_the_floor() -> None:
    pair = {"tuned": 2, "base": 8, "floor": 1, "n": 8}
    assert figures.percent(pair, "floor") == "12.5 % [2.2, 47.1] of 8"
    assert figures.excess(pair) == "+12.5 [-26.4, 48.1]"
    assert figures.pooled([pair, pair])["floor"] == 2
    assert figures.before_after(pair) == "8 → **2** of 8, floor 1"
    without = {"tuned": 2, "base": 8, "n": 8}
    assert "floor" not in figures.pooled([pair, without])
    assert figures.percent(without, "floor") == figures.excess(without) == "–"


def test_the_rules_of_recognition_are_read_from_the_frames_of_each_clip() -> None:
    clips = {"base": [16, 12], "tuned": [1, 4], "floor": [0, 2]}
    whole = {"base": 2, "tuned": 0, "floor": 0, "n": 2}
    one = {"num_frames": 16, "clips": {"alone": clips}, "whole": {"alone": whole}}
    action = {"num_frames": 16, "clips": {}, "whole": {"alone": whole | {"tuned": 1}}}
    given = floors.context(
        {"floors": {"clip": {"num_frames": 16}, "concepts": {"Blimbo": one, "spinning": action}}}
    )
    lines = {line["rule"]: line for line in given["lines"]}
    assert len(lines) == 17
    assert [lines["any frame"][side] for side in ("base", "tuned", "floor")] == [2, 2, 1]
    quarter = lines[given["chosen"]]
    assert quarter["rule"] == "at least 4 of 16 frames"
    assert given["best"] == [f"at least {least} of 16 frames" for least in range(3, 13)] + [
        "mean frame"
    ]
    assert [quarter[side] for side in ("base", "tuned", "floor")] == [2, 1, 0]
    assert (quarter["separation"], lines["at least 13 of 16 frames"]["separation"]) == (1.0, 0.5)
    assert lines["mean frame"]["tuned"] == 0
    assert given["by_concept"]["Blimbo"]["lasting"] == {"tuned": 1, "base": 2, "n": 2, "floor": 0}
    assert given["by_concept"]["spinning"]["lasting"]["tuned"] == 1
    assert given["together"]["any_frame"] == {"tuned": 3, "base": 4, "n": 4, "floor": 1}


def finding(seen: int, motion: float) -> dict[str, object]:
    counts = {"tuned": seen, "base": 4, "n": 4}
    kept = {"tuned": 3, "base": 4, "n": 4}
    sizes = {"seconds": 2.0 + seen, "values": 100, "bytes": 1400, "anchor": None}
    pairs = {"clips": counts, "siblings, clips": kept, "soft-prompt, clips": counts}
    return {**sizes, "motion_ratio": motion, **pairs}


def test_the_worst_concept_stands_beside_all_together() -> None:
    first = {"Blimbo": finding(2, 1.2), "Zorpik": finding(0, 1.0)}
    concepts_record = {"anchored": {"seed-0": first, "seed-1": {"Blimbo": finding(0, 1.0)}}}
    given = concepts.context({"results": {"concepts": concepts_record}})
    rows = {title: (base, *tuned, worst) for title, base, tuned, *_, worst in given["rows"]}
    assert rows["concept, clips, any frame"] == (
        "100.0 % [75.8, 100.0] of 12",
        "16.7 % [4.7, 44.8] of 12",
        "Blimbo: 25.0 % [7.1, 59.1] of 8",
    )
    assert rows["attack soft-prompt, clips, any frame"][2].startswith("Blimbo: 25.0 %")
    assert rows["siblings, clips, relative to the base"][2] == "all alike"
    assert rows["motion ratio"] == ("1", "1.05 (1.00 to 1.10)", "Blimbo: 1.10")
    assert rows["seconds per concept"][1] == "2.7 (2.0 to 4.0)"
    assert rows["bytes of a delta"][1:] == ("1,400", "all alike")
    assert {row[3:5] for row in given["rows"]} == {("–", "–")}  # nobody measured a floor
    assert given["shown"] == "anchored"
    assert given["columns"] == ["clips", "siblings, clips", "soft-prompt, clips"]
