"""Progress where there is no terminal."""

import pytest

from unsee.training.progress import stage_progress


@pytest.mark.parametrize(
    ("total", "stride", "said"),
    [
        (3, 1, [1, 2, 3]),
        (100, 1, [*range(10, 101, 10)]),
        (96, 12, [*range(12, 97, 12)]),
        (1000, 300, [300, 600, 900]),
    ],
)
def test_a_line_for_every_tenth_however_far_the_steps_are_apart(
    capsys: pytest.CaptureFixture[str], total: int, stride: int, said: list[int]
) -> None:
    with stage_progress("learning") as report:
        for step in range(stride, total + 1, stride):
            report(step, total, "well")
            report(step, total, "well")
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"learning {step}/{total} well" for step in said]
