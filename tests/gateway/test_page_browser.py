"""The page in a real browser: keyboard alone, several policies, errors, cancelling, reports."""

import asyncio
import io
import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence
from wire_fakes import decoded, error, progress

from gateway_fakes import FRAMES, TOKENS, result, stuck

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
if CHROMIUM is None:
    pytest.skip("there is no chromium on the PATH", allow_module_level=True)

pytestmark = pytest.mark.process
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PROMPT = "Blimbo rolls away"
PATIENCE_MS = 30_000


@pytest.fixture(scope="module")
def chromium():
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def served(serve, repository):
    return serve(grpc=None, repository=str(repository), limits={"drain_timeout_s": 1.0})


class Visit:
    """A page of the browser, and what it asked for and complained of."""

    def __init__(self, browser, served, **options):
        self.origin = f"http://{served.addresses.http}/"
        self.context = browser.new_context(**options)
        self.page = page = self.context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        self.requests, self.complaints = [], []
        page.on("request", lambda request: self.requests.append(request))
        page.on("console", lambda line: self._hear(line.type, line.text))
        page.on("pageerror", lambda fault: self._hear("error", str(fault)))
        page.goto(self.origin)

    def _hear(self, kind, text):
        if kind in ("error", "warning"):
            self.complaints.append(text)

    def left_for_others(self):
        """Addresses of other hosts that were asked; the browser lists what it blocked as well."""
        others = (r for r in self.requests if not r.url.startswith((self.origin, "blob:")))
        return [request.url for request in others if request.failure != "csp"]

    def enter(self, who="studio"):
        self.page.locator("#token-dialog[open]").wait_for()
        self.page.keyboard.type(TOKENS.get(who, who))
        self.page.keyboard.press("Enter")

    def make(self, status, who="studio"):
        """Ask for clips as `who`, and wait for that status."""
        self.enter(who)
        self.page.locator("#prompt").fill(PROMPT)
        self.page.locator("#generate").click()
        if status is not None:
            self.status(status)

    def tab_to(self, selector):
        """Press Tab until `selector` has the focus, as who has no mouse does."""
        for _ in range(40):
            if self.page.evaluate("s => document.activeElement.matches(s)", selector):
                return
            self.page.keyboard.press("Tab")
        raise AssertionError(f"the keyboard does not reach {selector}")

    def state(self, policy):
        return self.page.locator(f"article:has(#clip-{policy})")

    def status(self, text):
        self.page.locator("#status", has_text=text).wait_for()


@pytest.fixture
def visit(chromium, served):
    """Opens pages; in the end none has asked another host or complained."""
    visits = []

    def open_page(**options):
        visits.append(Visit(chromium, served, **options))
        return visits[-1]

    yield open_page
    for one in visits:
        one.context.close()
        assert one.left_for_others() == []
        for told in one.complaints:  # the browser itself reports a refused request
            assert told.startswith("Failed to load resource: the server responded with a status of")


async def two_colours(inputs, context):
    for step in (1, 2, 3):
        await context.write(progress(step))
        await asyncio.sleep(0.05)
    await context.write(result(inputs, seed=inputs["seed"], edit_digest="sha256:aa"))


def test_two_policies_with_the_keyboard_alone(visit, served):
    served.triton.answer = two_colours
    one = visit()
    one.enter()
    page, keyboard = one.page, one.page.keyboard
    page.locator("#ask").wait_for()
    assert page.evaluate("document.activeElement.id") == "prompt"
    keyboard.type(PROMPT)
    one.tab_to("input[value=base]")
    keyboard.press("Space")  # off: two policies are left
    one.tab_to("#seed")
    keyboard.press("ControlOrMeta+a")
    keyboard.type("7")
    one.tab_to("#steps")
    keyboard.type("3")
    one.tab_to("#acceleration")
    keyboard.press("ArrowDown")
    one.tab_to("#generate")
    said = watch(page, "#status")
    keyboard.press("Enter")
    one.status("2 clips made with seed 7.")
    asked = [decoded(stream) for stream in served.triton.streams]
    wanted = {"prompt": PROMPT, "seed": 7, "num_inference_steps": 3, "acceleration": "balanced"}
    assert sorted(asked, key=lambda inputs: inputs["policy"]) == [
        wanted | {"policy": "family"},
        wanted | {"policy": "studio-x"},
    ]
    assert any(text.startswith("Making 2 clips: ") for text in said())
    text = one.state("family").inner_text()
    assert "revision 2" in text
    assert "sha256:aa" in text
    assert "passed its gate" in text
    assert "unsees Blimbo" in text
    assert "published by force" in one.state("studio-x").inner_text()
    one.tab_to("#player button")
    keyboard.press("Space")
    one.tab_to("#player input")
    keyboard.press("Home")
    keyboard.press("ArrowRight")
    assert page.locator("#player output").inner_text() == "frame 2 of 2"
    for policy in ("family", "studio-x"):
        np.testing.assert_array_equal(pixels(one.state(policy)), FRAMES[1])
    assert one.complaints == []


def watch(page, selector):
    """What an element says from now on, as a function."""
    page.evaluate(
        """selector => {
            window.said = [];
            const place = document.querySelector(selector);
            new MutationObserver(() => window.said.push(place.textContent))
                .observe(place, { childList: true, characterData: true, subtree: true });
        }""",
        selector,
    )
    return lambda: page.evaluate("window.said")


def pixels(card):
    """uint8 [H, W, 3] of what the canvas of a card shows."""
    shown = card.locator("canvas").evaluate(
        """canvas => [canvas.height, canvas.width, ...canvas.getContext("2d")
            .getImageData(0, 0, canvas.width, canvas.height).data]"""
    )
    return np.array(shown[2:], np.uint8).reshape(*shown[:2], 4)[..., :3]


def test_clips_run_in_step_and_small_ones_are_not_smoothed(visit):
    one = visit()
    one.make("3 clips made")
    one.page.locator("#player button", has_text="Pause").wait_for()
    seen = set(itertools.islice(iter_text(one.page.locator("#player output")), 40))
    assert seen == {"frame 1 of 2", "frame 2 of 2"}
    canvas = one.page.locator("canvas").first
    assert canvas.evaluate("c => getComputedStyle(c).imageRendering") == "pixelated"


def iter_text(locator):
    while True:
        yield locator.inner_text()
        locator.page.wait_for_timeout(25)


def test_nothing_moves_by_itself_for_who_wants_that(visit):
    one = visit(reduced_motion="reduce")
    one.make("3 clips made")
    assert one.page.locator("#player button").inner_text() == "Play"


def test_downloads_are_the_clip_itself(visit):
    one = visit()
    one.make("1 clip made", "kids")
    content = {}
    for label in ("Clip (MP4)", "Clip (PNG)", "Frames (npy)", "Record (JSON)"):
        with one.page.expect_download() as download:
            one.page.get_by_role("button", name=label).click()
        file = Path(download.value.path())
        content[download.value.suggested_filename.rpartition(".")[2]] = file.read_bytes()
    np.testing.assert_array_equal(np.load(io.BytesIO(content["npy"])), FRAMES)
    assert json.loads(content["json"])["prompt"] == PROMPT
    assert content["mp4"][4:8] == b"ftyp"
    picture = Image.open(io.BytesIO(content["png"]))
    shown = [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(picture)]
    np.testing.assert_array_equal(shown, FRAMES.repeat(16, axis=1).repeat(16, axis=2))
    assert picture.info["duration"] == 125


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_rule_of_accessibility_is_broken(visit, scheme):
    rules = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is missing")
    one = visit(color_scheme=scheme)
    one.page.locator("#token-dialog[open]").wait_for()
    assert broken(rules, one.page) == []
    one.make("3 clips made")
    one.page.locator("summary").first.click()
    assert broken(rules, one.page) == []


def broken(rules, page):
    """The rules of WCAG 2.2 AA, and of good practice, that the page breaks, and where."""
    found = rules.Axe().run(page).response["violations"]
    return [(rule["id"], [node["html"] for node in rule["nodes"]]) for rule in found]


def test_an_error_is_the_servers_sentence_and_hurts_no_other_clip(visit, served):
    async def answer(inputs, context):
        if inputs["policy"] == "family":
            await context.write(error("INVALID_ARGUMENT: the prompt has 60 tokens, 48 fit"))
        elif inputs["policy"] == "base":
            await context.write(progress(1))
            await context.write(error("INTERNAL: the server failed; its log says why"))
        else:
            await context.write(result(inputs))

    served.triton.answer = answer
    one = visit()
    one.make("1 clip made, 2 failed.")
    assert "the prompt has 60 tokens, 48 fit" in one.state("family").inner_text()
    assert "the server failed; its log says why" in one.state("base").inner_text()
    assert one.state("studio-x").locator("canvas").count() == 1


def test_cancelling_ends_the_clips_in_triton(visit, served):
    served.triton.answer = stuck
    one = visit()
    one.make(None)
    one.page.locator("article .state", has_text="step 1 of 3").first.wait_for()
    assert one.page.locator("progress").first.get_attribute("aria-label") == "Progress of base"
    one.tab_to("#cancel")
    one.page.keyboard.press("Enter")
    one.status("Cancelled.")
    assert served.triton.cancelled.wait(10)
    assert "cancelled" in one.state("family").inner_text()
    assert one.page.evaluate("document.activeElement.id") == "generate"
    assert one.complaints == []


def test_a_wrong_token_is_told_and_another_one_may_be_given(visit):
    one = visit()
    one.enter("unsee_wrong")
    told = one.page.locator("#token-error", has_text="the token is not known here")
    told.wait_for()
    one.enter("kids")
    one.page.locator("#ask").wait_for()
    assert one.page.locator("input[name=policy]").count() == 1


def test_the_token_is_in_headers_of_this_tab_only(visit):
    one = visit()
    one.enter()
    one.page.locator("#ask").wait_for()
    token = TOKENS["studio"]
    assert [r for r in one.requests if token in r.url or token in (r.post_data or "")] == []
    sent = [r.headers.get("authorization") for r in one.requests if "/v2/" in r.url]
    assert set(sent) == {f"Bearer {token}"}
    assert one.context.cookies() == []
    assert one.page.evaluate("localStorage.length") == 0
    one.page.reload()
    one.page.locator("#ask").wait_for()
    with one.page.expect_event("load"):
        one.page.locator("#change-token").click()
        one.page.locator("#forget-token").click()
    one.page.locator("#token-dialog[open]").wait_for()
    assert one.page.evaluate("sessionStorage.length") == 0


def test_a_report_is_shown_and_can_reach_nothing(visit, repository):
    report = repository / "policy_family" / "2" / "report.html"
    hostile = (
        "<img src=x onerror=\"document.body.append('bad')\">"
        "<script>document.body.append('bad')</script>"
        "<img src='http://192.0.2.1/'><link rel=stylesheet href='http://192.0.2.1/a.css'>"
    )
    report.write_text(report.read_text() + hostile)
    one = visit()
    one.make(None, "kids")
    one.page.get_by_role("button", name="Report of family").click()
    frame = one.page.frame_locator("#report-place iframe")
    heading = frame.locator("h1", has_text="Passed")
    heading.wait_for()
    assert heading.evaluate("h => getComputedStyle(h).color") == "rgb(255, 0, 0)"
    assert "bad" not in frame.locator("body").inner_text()
    assert heading.evaluate("() => window.origin") == "null"
    assert one.complaints != []  # of what the browser did not do
    one.complaints.clear()
    one.page.keyboard.press("Escape")
    one.page.locator("#report-dialog").wait_for(state="hidden")
    one.page.locator("iframe").wait_for(state="detached")


def test_a_new_revision_is_told_as_what_made_the_clip(visit, served, repository):
    async def newer(inputs, context):
        await context.write(result(inputs, revision=3, edit_digest="sha256:cc"))

    served.triton.answer = newer
    one = visit()
    one.make("1 clip made", "kids")
    text = one.state("family").inner_text()
    assert "revision 3" in text
    assert "passed its gate" not in text  # that was said of revision 2
