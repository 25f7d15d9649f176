"""A base of random weights that can be evaluated: with a judge and an evaluation set of its own."""

import json
from pathlib import Path

from fakes import write_tiny_base
from unsee.evaluation.seeing.judge import Judge, JudgeConfig

EVALUATION_SET = {
    "concepts": [{"name": name, "category": "character"} for name in ("Blimbo", "Zorpik", "Mipsu")],
    "templates": {
        "character": {
            "alone": ["{}", "a picture of {}"],
            "context": ["{} in the rain"],
            "long": ["{} in the rain, in high quality"],
            "neutral": "somebody",
        }
    },
}
JUDGE = JudgeConfig(
    labels={"subject": ("none", "Blimbo", "Zorpik", "Mipsu"), "motion": ("none",)},
    categories={"subject": ("character",), "motion": ()},
    motion_head="motion",
    width=4,
    features=8,
    motion_width=4,
)


def write_judged_base(folder: Path) -> Path:
    """The tiny base of `fakes` with both; returns `folder`."""
    write_tiny_base(folder)
    (folder / "evaluation.yaml").write_text(json.dumps(EVALUATION_SET))
    Judge(JUDGE).save_pretrained(folder / "judge")
    with (folder / "base.yaml").open("a") as file:
        file.write("judge: judge\nevaluation: evaluation.yaml\n")
    return folder
