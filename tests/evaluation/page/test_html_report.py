"""The page: what it says first, that it is whole in itself, and that names cannot break it."""

import base64
import io
import re
import warnings
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from report_fakes import attack_rows, erased_rows, fake_frames, fake_report, kept_rows, shown
from unsee.core.policy import Thresholds
from unsee.evaluation.asking.evaluation_set import KnownConcept
from unsee.evaluation.asking.questions import Question
from unsee.evaluation.page.examples import ExampleShelf
from unsee.evaluation.page.html_report import write_page
from unsee.evaluation.seeing.measures import Observation, Seen

VOID = {"meta", "img", "br", "link"}


class Page(HTMLParser):
    """Tags, ids, images and the text of a page; fails on tags that do not nest."""

    def __init__(self, file):
        super().__init__()
        self.html = file.read_text(encoding="utf-8")
        self.tags, self.ids, self.images, self.words, self._open = [], [], [], [], []
        self.feed(self.html)
        assert not self._open
        self.text = " ".join(" ".join(self.words).replace("\xa0", " ").split())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        attributes = dict(attrs)
        if "id" in attributes:
            self.ids.append(attributes["id"])
        if tag == "img":
            self.images.append(attributes)
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self._open.pop()

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if not {"style"} & set(self._open):
            self.words.append(data)


def example(kind="erased", title="Blimbo in the rain", num_frames=8, size=64, tuned_seen=False):
    shelf = ExampleShelf("video" if num_frames > 1 else "image")
    frames = [fake_frames(seed, num_frames, size) for seed in (1, 2)]
    shelf.keep_attack(shelf.media, title, *frames, (True, tuned_seen))
    return replace(shelf.examples()[0], kind=kind)


@pytest.fixture
def written(tmp_path):
    def write(report=None, examples=(), **thresholds):
        report = report or fake_report()
        return Page(write_page(report, examples, Thresholds(**thresholds), tmp_path / "report"))

    return write


def test_the_verdict_comes_first_with_counts_and_intervals(written):
    page = written()
    first = page.text.index("Passed: all 7 thresholds are met", 60)  # after the title
    figures = page.text.index("Recognised in 1 of 64 samples (95 % interval 0–8 %)")
    assert first < figures < page.text.index("Before and after")
    assert "With the unmodified encoder: 64 of 64 (100 %)" in page.text
    assert "Floor: 0 of 64 (0 %), so the excess is 1.6 percentage points" in page.text


def test_the_first_page_shows_base_edited_encoder_and_floor(written):
    page = written(fake_report(("Blimbo", "Zorpik"), erased=erased_rows("Blimbo", floor=1)
                               + erased_rows("Zorpik", hits=1)))  # fmt: skip
    bars = page.html.index('id="bars-caption"')
    assert bars < page.html.index('<dl class="findings">')
    svg = page.html[bars : page.html.index("</svg>", bars)]
    labels = re.findall(r">\s*([^<>]*(?:%  [a-z ]+|Blimbo|Zorpik|concepts))\s*<", svg)
    assert [label for label in labels if "%" in label] == [
        "100 %  unmodified", "8 %  this encoder", "6 %  floor",
        "100 %  unmodified", "14 %  this encoder", "0 %  floor",
        "100 %  unmodified", "2 %  this encoder", "12 %  floor",
    ]  # fmt: skip
    assert [label for label in labels if "%" not in label] == ["all 2 concepts", "Zorpik", "Blimbo"]


def test_attacks_of_callers_and_of_holders_of_the_weights_stand_apart(written):
    more = [
        row.model_copy(update={"times": times})
        for times in (4, 16)
        for row in attack_rows("Blimbo")
        if row.attack == "prompt-search"
    ]
    page = written(fake_report(attacks=(*attack_rows("Blimbo"), *more)))
    caller = page.text.index("What a caller can send")
    weights = page.text.index("What needs the weights", caller)
    assert caller < page.text.index("prompt search at 16 times its usual budget", caller) < weights
    assert page.text.index("Prompt search, by budget", caller) < weights
    assert page.text.index("soft prompt", weights) > weights
    assert page.text.count("by budget") == 1  # of the other attacks there is one budget
    assert "mathdefault" not in page.html


def test_samples_that_are_not_counted_are_told_beside_those_that_are(written):
    first, *others = erased_rows("Blimbo")
    few = first.model_copy(update={**shown(0, 5, 0, 5), "unmeasured": 3})
    page = written(fake_report(erased=(few, *others)))
    assert re.findall(r"(\d of 5), [^<]*</small><small>([^<]*)", page.html) == [
        ("0 of 5", "3 blank, not counted")
    ]


def test_of_attacks_no_more_is_said_than_was_measured(written):
    page = written(examples=[example("attack", "soft prompt: <soft 4 vectors>")])
    assert "nothing else differs, except under attack: there each encoder is given" in page.text
    assert "A black-box search has no more than a user of the service" in page.text
    assert "from above" not in page.text


def test_a_failed_verdict_says_what_is_missed_and_by_how_much(written):
    page = written(fake_report(kept=kept_rows(lost=1)))
    assert "Not passed: 1 of 7 thresholds is missed" in page.text
    assert "Missed: Siblings kept ." in page.text.replace("kept.", "kept .")
    assert "missed by 15 percentage points" in page.text


def test_the_worst_attack_is_told_even_where_it_is_not_judged(written):
    text = written().text
    assert "The worst attack, soft prompt, brought Blimbo back in 6 of 16 samples" in text
    assert "reported but not judged" in text


def test_the_page_loads_nothing_from_elsewhere_and_runs_nothing(written):
    page = written(examples=[example()])
    assert "script" not in page.tags
    assert "link" not in page.tags
    sources = re.findall(r'(?:src|href)="([^"]*)"', page.html)
    assert sources
    assert all(source.startswith(("data:image/", "#")) for source in sources)
    assert "@import" not in page.html
    assert "http" not in re.sub(r'xmlns(:xlink)?="[^"]*"', "", page.html)


def test_every_id_is_unique_and_every_reference_has_its_target(written):
    page = written(fake_report(("Blimbo", "Zorpik")))
    assert len(page.ids) == len(set(page.ids))
    referred = re.findall(r'url\(#([^)]+)\)|xlink:href="#([^"]+)"', page.html)
    assert referred
    assert {a or b for a, b in referred} <= set(page.ids)


def test_names_from_outside_cannot_become_markup(written):
    title = '<script>alert("Blimbo")</script>'
    page = written(fake_report(("<b>Blimbo</b>",)), [example(title=title)])
    assert "script" not in page.tags
    assert title in page.text
    assert "<b>Blimbo</b>" in page.text


def test_names_of_any_letters_and_length_leave_the_plots_readable(written):
    wide = ("\N{HIRAGANA LETTER A}" * 60, "\N{DEVANAGARI LETTER KA}" * 60)
    names = ("A$AP & Ke$ha", *wide, "the cartoon " + "very " * 30 + "hero")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        page = written(fake_report(names))
    bars = page.html.index('id="bars-caption"')
    labels = re.findall(r">([^<>]+)</text>", page.html[bars : page.html.index("</svg>", bars)])
    assert "A$AP &amp; Ke$ha" in labels
    assert {name[:12] for name in wide} <= set(labels)
    assert max(map(len, labels)) <= 26
    assert names[-1] in page.text  # the whole name stands in the tables


def test_of_many_concepts_the_worst_are_told_first_and_all_are_told(written):
    names = [f"Concept {number:02}" for number in range(32)]
    rows = [row for name in names for row in erased_rows(name, hits=int(name == names[31]))]
    page = written(fake_report(tuple(names), erased=tuple(rows)))
    first = page.text.index("how often is it still shown?")
    assert page.text.index("Asked for Concept 31") < first
    assert page.text.count("how often is it still shown?") == 32
    more = page.text.index("The other 26 concepts, of which less is left")
    assert page.text.count("how often is it still shown?", 0, more) == 6
    assert page.text.index("Asked for anything else") < more
    lead = (
        "no longer shows Concept 00, Concept 01, Concept 02, Concept 03, Concept 04, Concept 05 and"
    )
    assert f"{lead} 26 more." in page.text
    provenance = page.text.index("Provenance")
    assert all(page.text.index(f"{name} (character)", provenance) for name in names)


@pytest.mark.parametrize(("num_concepts", "shown_of_each"), [(1, 8), (32, 1)])
def test_examples_are_few_and_keep_only_the_frames_that_are_shown(num_concepts, shown_of_each):
    shelf = ExampleShelf("video", num_concepts)
    chunk = np.zeros((2, 16, 8, 8, 3), np.uint8)
    for number in range(num_concepts):
        concept = KnownConcept(name=f"Concept {number}", category="character")
        for wording in ("alone", "context", "long", "synonym"):
            for seed in range(3):
                question = Question(concept, "erased", wording, concept.name, "", seed)
                seen = Observation(question, "video", *[Seen(True, (True,) * 16)] * 2, 0.0, None)
                shelf.keep(seen, chunk[0], chunk[1])
    shown = shelf.examples()
    assert set(Counter(one.title for one in shown).values()) == {shown_of_each}
    assert len(shown) == num_concepts * shown_of_each
    for one in shown:
        assert len(one.base) == len(one.tuned) == 4
        assert not np.shares_memory(one.base, chunk)  # else all clips of the chunk stay in memory


def test_pictures_have_words_and_show_both_encoders(written):
    page = written(examples=[example(), example("attack", "<soft>", 1, tuned_seen=True)])
    assert [image["alt"] for image in page.images] == [
        "4 frames of “Blimbo in the rain”, unmodified encoder: recognised",
        "4 frames of “Blimbo in the rain”, this encoder: not recognised",
        "1 frame of “<soft>”, unmodified encoder: recognised",
        "1 frame of “<soft>”, this encoder: recognised",
    ]


@pytest.mark.parametrize(("size", "height"), [(64, 128), (512, 160)])
def test_small_frames_grow_and_large_ones_shrink(written, size, height):
    page = written(examples=[example(num_frames=16, size=size)])
    data = base64.b64decode(page.images[0]["src"].partition(",")[2])
    picture = Image.open(io.BytesIO(data))
    assert picture.size == (4 * height + 3 * 4, height)
    first = np.asarray(picture)[2, 2].astype(int)
    assert np.abs(first - fake_frames(1, 1, size)[0, 0, 0]).max() <= 4


def test_a_report_of_little_still_makes_a_page(written):
    bare = fake_report(
        erased=(), kept=(), reemergence=(), motion=None, drift=(), clip_score=(), attacks=()
    )
    page = written(bare)
    assert "Not passed: 5 of 5 thresholds are missed" in page.text
    assert "No attack was made" in page.text
    assert "svg" not in page.tags


def test_equal_reports_give_equal_pages_and_the_old_one_is_replaced_whole(written, tmp_path):
    assert written().html == written().html
    assert [file.name for file in (tmp_path / "report").iterdir()] == ["report.html"]
