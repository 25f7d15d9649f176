"""The command `unsee evaluate`, as a user types it, on a tiny base with a fake recogniser."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
import yaml
from click.testing import CliRunner, Result
from recogniser_fakes import Bright, use_bright

from unsee.cli.main import run
from unsee.cli.progress import stage_progress
from unsee.core.errors import InputError
from unsee.core.policy import Concept
from unsee.deltas.composition import compose
from unsee.deltas.delta import Delta
from unsee.evaluation import evaluate as evaluation
from unsee.evaluation.asking.evaluation_set import EvaluationSet
from unsee.evaluation.asking.questions import SHAPES, QuestionMaker
from unsee.evaluation.attacks import Attacked, Victim
from unsee.evaluation.cli import evaluate
from unsee.evaluation.evaluate import EvaluationJob, EvaluationPlan
from unsee.evaluation.report.consistency import inconsistencies
from unsee.evaluation.report.schema import Media, Reach, Report, load_report
from unsee.evaluation.seeing.encode import PromptEncoder
from unsee.evaluation.seeing.frame_store import FrameStore
from unsee.evaluation.seeing.generate import FrameMaker, clip_sampling
from unsee.evaluation.seeing.observe import Encoder, Observer
from unsee.evaluation.seeing.recognise import Frames
from unsee.evaluation.target import open_target
from unsee.models.base import Base, load_base
from unsee.models.digest import tensors_digest
from unsee.models.spec import BASE_FILE


@dataclass(frozen=True)
class Ask:
    """The weakest attack: ordinary prompts. It counts how often it was run."""

    name: ClassVar[str] = "ask"
    source: ClassVar[str] = "nobody"
    reach: ClassVar[Reach] = "caller"
    times: int = 1
    victims: ClassVar[list[Victim]] = []

    def budget(self) -> str:
        return "nothing"

    def at(self, times: int) -> "Ask":
        return replace(self, times=times)

    def run(self, victim: Victim, num_prompts: int, seed: int, progress: Any = None) -> Attacked:
        self.victims.append(victim)
        if progress is not None:
            progress(1, 1)
        encoder = PromptEncoder(victim.text_encoder, victim.base)
        prompts = victim.concept_prompts[:num_prompts]
        return Attacked(encoder.embeds(prompts), encoder.embeds([""]), prompts)


@pytest.fixture(autouse=True)
def fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    use_bright(monkeypatch, Ask())
    Ask.victims.clear()


@pytest.fixture(scope="module")
def brief_dir(base_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny base with clips of two frames and one step."""
    folder = tmp_path_factory.mktemp("brief")
    spec = yaml.safe_load((base_dir / BASE_FILE).read_text())
    for name in ("t2i", "t2v", "evaluation"):
        spec[name] = str(base_dir / spec[name])
    spec["clip"] |= {"num_frames": 2, "num_inference_steps": 1}
    (folder / BASE_FILE).write_text(yaml.safe_dump(spec))
    return folder


@pytest.fixture(scope="module")
def frames_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store for all tests, as several reports would share it."""
    return tmp_path_factory.mktemp("frames")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "report"


SMALL = (
    *("--recogniser", "bright", "--prompts-per-wording", "1", "--prompts-per-sibling", "1"),
    *("--others", "4", "--attack-prompts", "2", "--prompts-per-shape", "0"),
)


@pytest.fixture
def arguments(brief_dir: Path, frames_dir: Path, out: Path) -> list[str]:
    return ["--base", str(brief_dir), "-o", str(out), "--cache", str(frames_dir), *SMALL]


def _evaluate(target: Path, *arguments: str) -> Result:
    return CliRunner().invoke(evaluate, [str(target), *arguments])


def test_a_delta_from_end_to_end(
    delta_dir: Path, arguments: Sequence[str], out: Path, base: Base, delta: Delta
) -> None:
    result = _evaluate(delta_dir, *arguments)
    assert result.exit_code == 0, result.output
    assert "Blimbo: seen in" in result.stdout
    assert "(unmodified encoder: " in result.stdout
    assert "; floor: " in result.stdout
    assert "thresholds" in result.stdout  # a verdict, whatever it is
    assert f"{out}/report.html" in result.stdout
    assert "videos" in result.stderr
    report = load_report(out)
    encoder = compose(base.text_encoder(), [delta])
    assert report.target.encoder_digest == tensors_digest(encoder.state_dict())
    assert report.settings.recogniser == "bright"
    wordings = [(row.media, row.wording, row.any_frame.tuned.n) for row in report.erased]
    assert wordings == [
        (media, wording, 1)
        for media in ("image", "video")
        for wording in ("alone", "context", "long", "synonym")
    ]
    for row in (*report.erased, *report.attacks):
        assert row.frames_shown is not None
        assert row.frames_shown.num_frames == (2 if row.media == "video" else 1)
        assert len(row.frames_shown.floor) == row.lasting.floor.n == row.lasting.tuned.n
    assert inconsistencies(report) == ()
    groups = {(row.concept, row.group, row.media) for row in report.kept}
    assert ("Zorpik", "sibling", "video") in groups
    assert ("Mipsu", "shared_words", "image") in groups
    assert ("spinning", "other", "video") in groups
    assert ("spinning", "other", "image") not in groups  # no single picture shows an action
    assert [row.concept for row in report.reemergence] == ["Blimbo"]
    assert len(report.reemergence[0].tuned_curve) == 2
    assert report.motion is not None
    assert report.motion.ratio.n == 7  # two siblings, four others and one with shared words
    assert [row.media for row in report.drift] == ["image", "video"]
    assert report.drift[1].tuned.value > 0
    assert [(row.attack, row.media) for row in report.attacks] == [
        ("ask", "image"),
        ("ask", "video"),
    ]
    assert set(report.seconds) == {"images", "videos", "attacks", "total"}


def test_the_attacker_holds_the_base_s_pictures(
    delta_dir: Path, arguments: Sequence[str], base: Base, blimbo: Concept
) -> None:
    assert _evaluate(delta_dir, *arguments, "--media", "image").exit_code == 0
    tuned, reference = Ask.victims
    assert reference.text_encoder is base.text_encoder() or _equal(
        reference.text_encoder, base.text_encoder()
    )
    assert not _equal(tuned.text_encoder, base.text_encoder())
    assert tuned.concept == blimbo
    assert len(tuned.images) == len(tuned.concept_prompts) == len(tuned.plain_prompts) == 2
    assert tuned.images[0].size == (64, 64)
    assert tuned.images == reference.images
    assert all("Blimbo" in prompt for prompt in tuned.concept_prompts)
    assert not any("Blim" in prompt for prompt in tuned.plain_prompts)
    assert not any("Blim" in prompt for prompt, _ in tuned.unrelated)
    assert tuned.look is not None
    seen = tuned.look(["Blimbo", "Blimbo", "word " * 60], [1, 1, 1])
    assert seen[0] == seen[1]
    assert seen[2] == 0  # the encoder does not read it to its end
    assert tuned.look_digest == reference.look_digest != None  # noqa: E711


def _equal(one: Any, other: Any) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_again_makes_nothing_and_other_inputs_need_force(
    delta_dir: Path, arguments: list[str], out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments += ["--media", "image"]
    first = _evaluate(delta_dir, *arguments, "--json")
    content = json.loads(first.stdout)
    assert content["reused"] is False
    assert set(content) >= {"report", "page", "passed", "verdict", "checks"}
    before = (out / "report.json").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(FrameMaker, "frames", None)  # nothing is made or looked up
        again = _evaluate(delta_dir, *arguments)
        old = json.loads(before)
        assert set(old.pop("models")) == {"image"}
        (out / "report.json").write_text(json.dumps(old))
        (out / "report.sig").write_bytes(b"of a version that recorded no models")
        assert _evaluate(delta_dir, *arguments).exit_code == 0
    assert "already holds this evaluation" in again.stdout
    assert (out / "report.json").read_bytes() == before
    assert not (out / "report.sig").exists()

    changed = json.loads(before)
    changed["erased"][0]["lasting"]["tuned"]["n"] += 1
    (out / "report.json").write_text(json.dumps(changed))
    (out / "report.sig").write_bytes(b"of the report before it was changed")
    mended = _evaluate(delta_dir, *arguments)
    assert "already holds" not in mended.stdout
    assert load_report(out).erased == Report.model_validate_json(before).erased
    assert not (out / "report.sig").exists()
    before = (out / "report.json").read_bytes()

    other = _evaluate(delta_dir, *arguments, "--seed", "1")
    assert isinstance(other.exception, InputError)
    assert "another evaluation (seed differ)" in str(other.exception)
    assert (out / "report.json").read_bytes() == before
    forced = _evaluate(delta_dir, *arguments, "--others", "3", "--force")
    assert forced.exit_code == 0, forced.output
    assert load_report(out).settings.num_others == 3


def test_other_thresholds_are_on_the_page_too_and_nothing_is_made_again(
    delta_dir: Path,
    arguments: list[str],
    out: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arguments += ["--media", "image", "--attacks", "none"]
    policy = tmp_path / "family.yaml"
    unsee = [{"concept": "blimbo", "category": "character", "delta": str(delta_dir)}]

    def page(samples: int) -> str:
        limits = {"samples_at_least": samples}
        policy.write_text(yaml.safe_dump({"name": "family", "unsee": unsee, "thresholds": limits}))
        result = _evaluate(policy, *arguments)
        assert result.exit_code == 0, result.output
        return (out / "report.html").read_text()

    assert "(at least 2)" in page(2)
    report = load_report(out)
    assert [one.name for one in report.target.concepts] == ["Blimbo"]  # as its rows call it
    assert {row.concept for row in report.erased} == {"Blimbo"}
    assert inconsistencies(report) == ()
    (out / "report.sig").write_bytes(b"of what stands here now")
    monkeypatch.setattr(FrameMaker, "_generate", None)  # all frames are found again
    assert "(at least 99; " in page(99)
    assert load_report(out).erased == report.erased
    assert not (out / "report.sig").exists()


def test_another_size_of_clips_or_other_limits_are_another_evaluation(
    delta_dir: Path, arguments: list[str], brief_dir: Path, tmp_path: Path, out: Path
) -> None:
    arguments += ["--media", "image", "--attacks", "none", "--prompts-per-shape", "1"]
    assert _evaluate(delta_dir, *arguments).exit_code == 0
    spec = yaml.safe_load((brief_dir / BASE_FILE).read_text())
    spec["clip"] |= {"height": 128}
    spec["limits"] = {**spec.get("limits", {}), "num_inference_steps": 9}
    (tmp_path / BASE_FILE).write_text(yaml.safe_dump(spec))
    other = _evaluate(delta_dir, *arguments, "--base", str(tmp_path))
    assert "another evaluation (clip_size, ends differ)" in str(other.exception)


def test_an_interrupted_run_goes_on(
    delta_dir: Path,
    brief_dir: Path,
    out: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    command = ["evaluate", str(delta_dir), "--base", str(brief_dir), "-o", str(out), *SMALL]
    command += ["--media", "image"]
    generate = FrameMaker._generate
    batches = 0

    def interrupted(self: FrameMaker, *arguments: Any) -> Frames:
        nonlocal batches
        batches += 1
        if batches == 4:  # when the images of the questions and of one attack are made
            raise KeyboardInterrupt
        return generate(self, *arguments)

    monkeypatch.setattr(FrameMaker, "_generate", interrupted)
    assert run(command) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "interrupted"
    made = {path: path.stat().st_mtime_ns for path in (out / "frames").rglob("*.npy")}
    assert made
    assert not (out / "report.json").exists()
    assert run(command) == 0
    assert {path: path.stat().st_mtime_ns for path in made} == made
    assert load_report(out).attacks


def test_attacks_are_not_run_again(delta_dir: Path, arguments: list[str], out: Path) -> None:
    arguments += ["--media", "image"]
    assert _evaluate(delta_dir, *arguments).exit_code == 0
    first = load_report(out)
    assert len(Ask.victims) == 2
    (out / "report.json").unlink()
    assert _evaluate(delta_dir, *arguments).exit_code == 0
    assert len(Ask.victims) == 2
    assert load_report(out).attacks == first.attacks
    tensors = next((out / "attacks").glob("ask-*-tuned.safetensors"))
    tensors.write_bytes(tensors.read_bytes()[:-4])
    (out / "report.json").unlink()
    assert _evaluate(delta_dir, *arguments).exit_code == 0
    assert len(Ask.victims) == 3


def test_the_floor_is_the_base_under_plain_prompts(
    delta_dir: Path, brief_dir: Path, frames_dir: Path, base: Base, known: EvaluationSet
) -> None:
    """An encoder that says of every prompt what the base says of its plain one reaches it."""
    maker = FrameMaker(base, FrameStore(frames_dir), clip_sampling(load_base(brief_dir)))
    concept = known.find("Blimbo")
    assert concept is not None
    asked = QuestionMaker(known, (concept,), 0, lambda prompt: True).about_erased(concept, 2)
    plain = [replace(question, prompt=question.plain) for question in asked]
    encoder = Encoder(base.text_encoder(), base)
    observer = Observer(encoder, encoder, maker, Bright())
    assert (
        observer.floor_frames(asked, "video") == observer.frames_of(encoder, plain, "video")
    ).all()
    ideal = [replace(one, floor=None).base for one in observer.observe(plain, "video")]
    found = observer.observe(asked, "video")
    assert [one.floor and one.floor.per_frame for one in found] == [one.per_frame for one in ideal]
    assert observer.cost(asked, "video") == 3 * len(asked)


def test_attacks_run_at_every_budget(delta_dir: Path, arguments: Sequence[str], out: Path) -> None:
    result = _evaluate(delta_dir, *arguments, "--media", "image", "--attack-budgets", "4,1")
    assert result.exit_code == 0, result.output
    assert [(row.attack, row.times) for row in load_report(out).attacks] == [("ask", 1), ("ask", 4)]
    assert inconsistencies(load_report(out)) == ()
    assert "under the attack ask at 4 times its usual budget: seen in" in result.stdout


def test_other_shapes_of_the_name_are_asked_with_their_parameters(
    delta_dir: Path, arguments: Sequence[str], out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = set()
    frames = FrameMaker.frames

    def watched(self: FrameMaker, media: Media, *rest: Any) -> Frames:
        made.add((self.settings.guidance_scale, self.settings.num_inference_steps))
        return frames(self, media, *rest)

    monkeypatch.setattr(FrameMaker, "frames", watched)
    more = ("--media", "image", "--prompts-per-shape", "1", "--attacks", "none")
    result = _evaluate(delta_dir, *arguments, *more)
    assert result.exit_code == 0, result.output
    assert "other shapes of the name: seen in" in result.stdout
    report = load_report(out)
    assert [row.shape for row in report.shapes] == list(SHAPES)
    assert {row.lasting.floor.n for row in report.shapes} == {1}
    assert report.settings.prompts_per_shape == 1
    assert inconsistencies(report) == ()
    usual = (report.settings.guidance_scale, 1)
    assert made == {usual, (1.0, 1), (20.0, 1), (usual[0], 5)}
    assert "Other shapes of the name" in (out / "report.html").read_text()


def test_an_attacker_may_hold_the_pictures_of_another_base(
    delta_dir: Path, brief_dir: Path, base: Base, known: EvaluationSet, tmp_path: Path
) -> None:
    """And an encoder that is the base's own is attacked once."""
    brief = load_base(brief_dir)
    target = open_target(delta_dir, brief)
    own = replace(target, text_encoder=brief.text_encoder(), encoder_digest=brief.digest())
    plan = EvaluationPlan(0, 1, 0, 2, 2, ("image",), (Ask(),))
    other = load_base(brief_dir)
    with torch.no_grad():
        for weight in other.denoiser().parameters():
            weight.mul_(1.5)
    job = EvaluationJob(brief, own, known, Bright(), plan)
    pictures = []
    for place, painter in (("same", None), ("other", other)):
        Ask.victims.clear()
        run_job(replace(job, painter=painter), tmp_path / place, tmp_path / "frames")
        (victim,) = Ask.victims
        pictures.append(victim.images)
        report = load_report(tmp_path / place)
        assert all(row.lasting.tuned == row.lasting.base for row in report.attacks)
    assert pictures[0] != pictures[1]


def run_job(job: EvaluationJob, folder: Path, frames_dir: Path) -> None:
    evaluation.evaluate(
        job, folder, frames_dir=frames_dir, force=False, stage_progress=stage_progress
    )


def test_an_encoder_names_its_concept(
    base: Base, arguments: Sequence[str], out: Path, tmp_path: Path
) -> None:
    base.text_encoder().save_pretrained(tmp_path / "same")
    named = ("--concept", "spinning", "--category", "action", "--attacks", "none")
    result = _evaluate(tmp_path / "same", *arguments, *named)
    assert result.exit_code == 0, result.output
    report = load_report(out)
    assert {row.media for row in report.erased} == {"video"}
    assert report.reemergence == ()
    assert report.attacks == ()
    for row in report.erased:
        assert row.any_frame.tuned == row.any_frame.base  # the base itself, put to the same test
    assert report.motion is not None
    assert report.motion.ratio.value == 1
    assert [row.tuned.value for row in report.drift] == [0, 0]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--media", "image,sound"), "--media is 'image,sound'"),
        (("--attacks", "ask,beg"), "'beg'; known are ask, smoothed-soft-prompt, all and none"),
        (("--attack-budgets", "1,many"), "--attack-budgets holds 'many'"),
        (("--attack-budgets", "0"), "--attack-budgets holds '0'"),
        (("--attack-budgets", "4", "--quick"), "--attack-budgets 4 needs attacks"),
        (("--attack-budgets", "4", "--attacks", "none"), "--attack-budgets 4 needs attacks"),
        (("--recogniser", "eyes"), "no recogniser 'eyes'"),
        (("--recogniser", ""), "no recogniser ''"),
        (("--clip-model", ""), "no CLIP model can be loaded from ''"),
        (("--concept", "Blimbo"), "--concept and --category belong together"),
        (("--concepts", "none.yaml"), "cannot read the evaluation set none.yaml"),
    ],
)
def test_wrong_options_are_one_sentence(
    delta_dir: Path, arguments: Sequence[str], options: Sequence[str], complaint: str, out: Path
) -> None:
    result = _evaluate(delta_dir, *arguments, *options)
    assert isinstance(result.exception, InputError)
    assert complaint in str(result.exception)
    assert not out.exists()


def test_a_misspelt_attack_is_refused_before_anything_is_opened() -> None:
    result = _evaluate(Path("nothing"), "--base", "nowhere", "--attacks", "beg")
    assert "there is no attack 'beg'" in str(result.exception)


@pytest.mark.parametrize(
    ("name", "category", "media", "complaint"),
    [
        ("spinning", "action", "image", "no single picture shows the action 'spinning'"),
        ("Yeti", "character", "image", "'bright' does not know the character 'Yeti'"),
    ],
)
def test_what_cannot_be_asked(
    base: Base,
    arguments: Sequence[str],
    tmp_path: Path,
    name: str,
    category: str,
    media: str,
    complaint: str,
) -> None:
    base.text_encoder().save_pretrained(tmp_path / "same")
    named = ("--concept", name, "--category", category, "--media", media)
    result = _evaluate(tmp_path / "same", *arguments, *named)
    assert complaint in str(result.exception)


def test_other_files_are_kept(delta_dir: Path, arguments: Sequence[str], out: Path) -> None:
    out.mkdir()
    (out / "thesis.txt").write_text("mine")
    result = _evaluate(delta_dir, *arguments)
    assert "holds other files (thesis.txt)" in str(result.exception)
    assert [path.name for path in out.iterdir()] == ["thesis.txt"]


def test_a_report_is_never_put_among_a_delta_s_files(
    delta_dir: Path, arguments: Sequence[str]
) -> None:
    before = sorted(delta_dir.iterdir())
    result = _evaluate(delta_dir, *arguments, "-o", str(delta_dir), "--force")
    assert f"{delta_dir} holds a delta" in str(result.exception)
    assert sorted(delta_dir.iterdir()) == before
