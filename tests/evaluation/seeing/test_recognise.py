"""Recognisers: the judge, CLIP without a hub, and those that other packages install."""

import json
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPVisionConfig

from unsee.core.errors import InputError
from unsee.core.policy import Concept
from unsee.evaluation.seeing import recognisers
from unsee.evaluation.seeing.judge import Judge, JudgeConfig
from unsee.evaluation.seeing.judge_recogniser import JudgeRecogniser
from unsee.evaluation.seeing.openai_clip import ClipModel
from unsee.evaluation.seeing.openai_clip_recogniser import ClipRecogniser
from unsee.evaluation.seeing.recognise import Frames
from unsee.evaluation.seeing.recognisers import open_recogniser
from unsee.models.base import Base

SPINNING = Concept(name="spinning", category="action")
ZORPIK = Concept(name="Zorpik", category="character")


@pytest.fixture
def judge() -> Judge:
    config = JudgeConfig(
        labels={"subject": ("none", "Blimbo", "Zorpik"), "action": ("none", "spinning")},
        categories={"subject": ("character",), "action": ("action",)},
        motion_head="action",
        width=2,
        features=4,
        motion_width=4,
    )
    torch.manual_seed(0)
    return Judge(config).eval()


@pytest.fixture
def frames() -> Frames:
    """Two clips [2, 4, 16, 16, 3]."""
    return np.random.default_rng(0).integers(0, 256, (2, 4, 16, 16, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def clip_dir(base: Base, tmp_path_factory: pytest.TempPathFactory) -> Path:
    tokenizer = base.tokenizer()
    common = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    text = CLIPTextConfig(
        **common,
        num_attention_heads=2,
        vocab_size=len(tokenizer),
        max_position_embeddings=48,
        eos_token_id=tokenizer.eos_token_id,
    )
    vision = CLIPVisionConfig(**common, num_attention_heads=2, image_size=16, patch_size=8)
    torch.manual_seed(0)
    config = CLIPConfig(
        text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=8
    )
    folder = tmp_path_factory.mktemp("clip")
    CLIPModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _always_says(judge: Judge, head: str, label: int) -> None:
    layer = judge.motion_head if head == "action" else judge.frame_heads[head]
    assert isinstance(layer, torch.nn.Linear)
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.zero_()
        layer.bias[label] = 1


def test_the_judge_sees_the_winner_of_a_head(judge: Judge, frames: Frames, blimbo: Concept) -> None:
    recogniser = JudgeRecogniser(judge)
    _always_says(judge, "subject", 1)
    sighting = recogniser.sightings(frames, blimbo)
    assert sighting.whole.tolist() == [True, True]
    assert sighting.per_frame is not None
    assert sighting.per_frame.shape == (2, 4)
    assert not recogniser.sightings(frames, ZORPIK).any_frame.any()


def test_the_judge_sees_an_action_in_clips_alone(judge: Judge, frames: Frames) -> None:
    recogniser = JudgeRecogniser(judge)
    _always_says(judge, "action", 1)
    sighting = recogniser.sightings(frames, SPINNING)
    assert sighting.per_frame is None
    assert sighting.any_frame.tolist() == sighting.whole.tolist() == [True, True]
    with pytest.raises(InputError, match="'spinning' cannot be seen in single frames"):
        recogniser.sightings(frames[:, :1], SPINNING)


def test_the_judge_knows_its_labels(judge: Judge, frames: Frames) -> None:
    recogniser = JudgeRecogniser(judge)
    assert recogniser.knows(ZORPIK)
    for stranger in (
        Concept(name="Mipsu", category="character"),
        Concept(name="Blimbo", category="style"),
        Concept(name="none", category="character"),
    ):
        assert not recogniser.knows(stranger)
        with pytest.raises(InputError, match="no label"):
            recogniser.sightings(frames, stranger)


def test_the_base_s_judge_is_the_default(
    base: Base, judge: Judge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        InputError, match=r"'tiny' brings no judge; name its folder as judge in base\.yaml"
    ):
        open_recogniser(None, base, ())
    judge.save_pretrained(tmp_path / "judge")
    spec = base.spec.model_copy(update={"judge": "judge"})
    opened = open_recogniser(None, Base(spec, tmp_path), ())
    named = open_recogniser(f"judge:{tmp_path / 'judge'}", base, ())
    assert opened.digest() == named.digest()
    with pytest.raises(InputError, match="the folder does not exist"):
        open_recogniser("judge:nowhere", base, ())
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_recogniser("judge:~/judge", base, ()).digest() == named.digest()
    with pytest.raises(InputError, match="no judge at ~nobody-here/judge"):
        open_recogniser("judge:~nobody-here/judge", base, ())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"motion_head": "gait"}, "labels has none for the head 'gait'"),
        ({"categories": {"mood": ["style"]}}, "labels has none for the head 'mood'"),
        ({"labels": {"subject": [], "action": ["none"]}}, r"labels\.subject: this is empty"),
    ],
)
def test_a_judge_whose_heads_and_labels_do_not_fit_is_one_sentence(
    judge: Judge, tmp_path: Path, change: dict[str, object], words: str
) -> None:
    judge.save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(InputError, match=words):
        JudgeRecogniser.from_pretrained(tmp_path)


def test_clip_compares_with_siblings_and_nothing(
    clip_dir: Path, base: Base, frames: Frames, blimbo: Concept
) -> None:
    concepts = (blimbo, ZORPIK, SPINNING)
    recogniser = open_recogniser(f"clip:{clip_dir}", base, concepts)
    assert isinstance(recogniser, ClipRecogniser)
    texts = recogniser._text_embeds(blimbo)
    assert len(texts) == 2 + 4  # itself and one sibling, and four that name nothing
    expected = recogniser.clip.text_embeds(["a picture of Blimbo"])
    torch.testing.assert_close(texts[:1], expected)
    sighting = recogniser.sightings(frames, blimbo)
    assert sighting.per_frame is not None
    assert sighting.per_frame.shape == (2, 4)
    assert recogniser.sightings(frames, SPINNING).per_frame is None


def test_clip_sees_what_is_nearest(clip_dir: Path, frames: Frames, blimbo: Concept) -> None:
    recogniser = ClipRecogniser.from_pretrained(str(clip_dir), (blimbo, ZORPIK))
    images = recogniser.clip.image_embeds(frames[0])
    for concept, sign in ((blimbo, 1), (ZORPIK, -1)):
        others = -images[:1] * sign
        recogniser._texts[concept.name] = torch.cat([images[:1] * sign, others])
    assert recogniser.sightings(frames[:1, :1], blimbo).whole.tolist() == [True]
    assert recogniser.sightings(frames[:1, :1], ZORPIK).whole.tolist() == [False]


def test_clip_prepares_pixels_as_it_was_trained(clip_dir: Path) -> None:
    clip = ClipModel.from_pretrained(str(clip_dir))
    wide = np.zeros((1, 32, 64, 3), np.uint8)
    wide[:, :, 16:48] = 255  # exactly what the centre crop leaves
    pixels = clip._pixel_values(wide)
    assert pixels.shape == (1, 3, 16, 16)
    white = (1 - torch.tensor(clip.mean)) / torch.tensor(clip.std)
    torch.testing.assert_close(pixels[0, :, 8, 8], white)
    torch.testing.assert_close(clip.image_embeds(wide).norm(dim=-1), torch.ones(1))


def test_what_is_no_clip_model_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no CLIP model can be loaded from"):
        ClipModel.from_pretrained(str(tmp_path))


def test_other_packages_bring_recognisers(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("echo", "builtins:str", recognisers.ENTRY_POINT_GROUP)
    monkeypatch.setattr(recognisers, "_entry_points", lambda: (point,))
    opened: object = open_recogniser("echo:a:b", base, ())
    assert opened == "a:b"
    with pytest.raises(InputError, match=r"no recogniser 'eyes'; installed are judge:.*, echo"):
        open_recogniser("eyes:1", base, ())
    for place in ("no_such_package.eyes:Eyes", "builtins:Eyes"):
        broken = EntryPoint("echo", place, recognisers.ENTRY_POINT_GROUP)
        monkeypatch.setattr(recognisers, "_entry_points", lambda point=broken: (point,))
        with pytest.raises(InputError, match=rf"'echo' \({place}\) cannot be loaded: "):
            open_recogniser("echo:1", base, ())
