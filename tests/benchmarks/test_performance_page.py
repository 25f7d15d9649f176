"""The page of measurements: of whatever records there are, with plots that are well-formed."""

import importlib
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
MACHINE = {
    "cpu": "A CPU",
    "capabilities": ["BF16", "FP32"],
    "threads": 2,
    "versions": {"onnxruntime": "1.0"},
}


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


def spread(median: float) -> dict[str, float]:
    return {
        "median": median,
        "low_quartile": 0.9 * median,
        "high_quartile": 1.1 * median,
        "least": 0.8 * median,
        "most": 1.2 * median,
        "count": 5,
    }


def engine_row(name: str, label: str, times: float, rival: str | None) -> dict[str, Any]:
    return {
        "engine": name,
        "label": label,
        "precision": "float32",
        "open_s": 3.0,
        "step_s": spread(1 / times),
        "clip_s": spread(12 / times),
        "step_times_eager": spread(times),
        "clip_times_eager": spread(times),
        "rival": rival,
        "step_times_rival": spread(times / 2) if rival else None,
        "clip_times_rival": spread(times / 2) if rival else None,
        "error": {"rms": 0.01, "largest": 0.07},
        "psnr_db": {"a cat": 51.0, "a dog": 49.5},
        "share_of_peak": 0.41,
    }


def engines_record() -> dict[str, Any]:
    return {
        "size": "playground",
        "machine": MACHINE,
        "threads": 2,
        "turns": 5,
        "served": "openvino-bfloat16",
        "clip": {"num_frames": 16, "height": 64, "width": 64, "num_inference_steps": 12},
        "parameters": 11_700_000,
        "step_flops": 18_800_000_000,
        "clip_flops": 240_000_000_000,
        "peak_flops": {"float32": 1e11, "bfloat16": 1e12},
        "layers": {
            "float32": {"Convolution": 0.6, "others": 0.4},
            "bfloat16": {"Subgraph": 0.5, "others": 0.5},
        },
        "rows": [
            engine_row("eager-float32", "PyTorch eager, float32", 1.0, None),
            engine_row("openvino-bfloat16", "OpenVINO, bfloat16", 4.0, "compile-bfloat16"),
        ],
        "failures": {"compile-float32": "there is no compiler"},
        "judged": {
            "all": {
                "named": 40,
                "exact": 38,
                "other": 37,
                "only_exact": 2,
                "only_other": 1,
                "points": -2.5,
            }
        },
        "num_judged": 20,
    }


def scaling_record() -> dict[str, Any]:
    points = [
        {
            "engine": engine,
            "value": value,
            "flops": 1e9 * value,
            "seconds": spread(seconds * value),
            "share_of_peak": 0.3,
        }
        for engine, seconds in (("eager-float32", 0.4), ("openvino-bfloat16", 0.1))
        for value in (4, 8)
    ]
    return {
        "machine": MACHINE,
        "threads": 2,
        "turns": 5,
        "served": "openvino-bfloat16",
        "axes": {"frames": {"base": "playground", "points": points}},
        "policies": [
            {"policies": 1, "ready_s": 2.0, "memory_bytes": 2**30},
            {"policies": 16, "ready_s": 5.0, "memory_bytes": 2**30 + 15 * 64 * 2**20},
        ],
    }


def overhead_record() -> dict[str, Any]:
    return {
        "machine": MACHINE,
        "pairs": 15,
        "runs": [
            {
                "base": "playground",
                "engines": {"video_unet": "openvino-bfloat16"},
                "threads": 2,
                "seconds_in_process": spread(1.0),
                "seconds_through_triton": spread(1.02),
                "ratio": spread(1.02),
                "step_in_process": {"computes": 0.04, "waits": 0.0, "rest": 0.0005},
                "step_through_triton": {"computes": 0.042, "waits": 0.0003, "rest": 0.002},
            }
        ],
    }


def image_record() -> dict[str, Any]:
    served = {
        "threads": 1,
        "ready_s": 3.0,
        "first_clip_s": 2.0,
        "clip_s": spread(2.0),
        "memory_bytes": 2**30,
    }
    return {
        "machine": MACHINE,
        "engine": "openvino-bfloat16",
        "packages": {"openvino": 150_000_000, "numpy": 60_000_000, "click": 400_000},
        "not_needed": {"torch": 700_000_000, "diffusers": 0},
        "repository_bytes": 65_000_000,
        "served": [served],
    }


RECORDS = {
    "engines-playground": engines_record,
    "overhead": overhead_record,
    "scaling": scaling_record,
    "image": image_record,
}
WORDS = {
    "engines-playground": (
        "| **OpenVINO, bfloat16** | 0.250 (0.225–0.275) | 41% | 4.00 (3.60–4.40) |",
        "| 49.5 |",
        "| Subgraph |  | 50 |\n| others | 40 | 50 |",
        "compile-float32 gave no result: there is no compiler",
        "| all | 40 | 95.0% | 92.5% | -2.5 | 2 / 1 |",
    ),
    "overhead": (
        "| 1.020 (0.918–1.122) |",
        "of 15 pairs",
        "| playground | 2 | through Triton | 42.0 | 0.3 | 2.0 |",
    ),
    "scaling": ("| 8 | 0.008 |", "Each policy more: 64 MiB and 0.20 s"),
    "image": ("| **all** | **210** |", "torch 700", "| 30.0 | 1024 |"),
}


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_becomes_its_part_of_the_page(
    load: Callable[[str], ModuleType], tmp_path: Path, name: str
) -> None:
    load("performance_page").write_page(name, RECORDS[name](), tmp_path)
    page = (tmp_path / "performance.md").read_text()
    for words in WORDS[name]:
        assert words in page
    for other in RECORDS.keys() - {name}:
        assert WORDS[other][0] not in page
    for line in page.splitlines():
        if line.startswith("!["):
            file = tmp_path / line.partition("(")[2].rstrip(")")
            assert ET.parse(file).getroot().tag.endswith("svg")


def test_records_come_together_and_equal_ones_change_nothing(
    load: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    for name, record in RECORDS.items():
        load("performance_page").write_page(name, record(), tmp_path)
    page = (tmp_path / "performance.md").read_text()
    assert all(words in page for parts in WORDS.values() for words in parts)
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.*")}
    load("performance_page").write_page("image", image_record(), tmp_path)
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.*")} == before
    with pytest.raises(KeyError):
        load("performance_page").write_page("images", image_record(), tmp_path)
