"""Helm's own engine, in a process of its own, since its Go runtime interrupts threads by signals.

Run as a program it takes one question as JSON on its standard input and answers in JSON.
"""

import functools
import json
import subprocess
import sys
from pathlib import Path


class HelmRefused(Exception):
    """Helm did not take chart or values; the text is Helm's."""


def render(chart: Path, values: dict) -> str:
    """The chart's objects as one YAML text; raises HelmRefused."""
    return _ask(json.dumps({"chart": str(chart), "values": values}))["objects"]


def notes(chart: Path, values: dict) -> str:
    """What Helm says to whoever has installed the chart."""
    return _ask(json.dumps({"chart": str(chart), "values": values}))["notes"]


def lint(chart: Path) -> dict:
    """What `helm lint --strict` finds."""
    return _ask(json.dumps({"chart": str(chart), "values": None}))


@functools.cache
def _ask(question: str):
    done = subprocess.run(
        [sys.executable, __file__], input=question, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    if "refused" in answer:
        raise HelmRefused(answer["refused"])
    return answer["found"]


def _answer(chart: str, values: dict | None):
    import helm_python as helm

    if values is None:
        return {"found": helm.lint(chart, strict=True)}
    try:
        with helm.Chart.load(chart) as loaded:
            texts = loaded.render(values, name="clips", namespace="video")
    except helm.HelmError as error:
        return {"refused": str(error)}
    notes = "".join(texts.pop(name) for name in list(texts) if name.endswith("NOTES.txt"))
    objects = "\n---\n".join(text for _, text in sorted(texts.items()) if text.strip())
    return {"found": {"objects": objects, "notes": notes.strip()}}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_answer(**json.load(sys.stdin)), default=str))
