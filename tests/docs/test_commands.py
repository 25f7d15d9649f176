"""The documents' commands do what they say: every ```sh block is run, or says why it is not.

A page's blocks run in order, in one shell, with a base of random weights where the documents have
the playground, a real Triton on free ports, and little work where a command says nothing else (see
`unsee_in_documents.py`). Such a base shows nothing, so its reports miss their thresholds, and what
the documents publish is published by force.
"""

import hashlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from judged_fakes import write_judged_base

from document_blocks import DOCS, REPOSITORY, blocks, pages, runs_in
from unsee.serving.server.ports import free_ports

ELSEWHERE = {
    "CONTRIBUTING.md": "installs the packages",
    "README.md": "takes minutes; quick_start.md runs the same commands",
    "docs/guide/client.md": "tests/client",
    "docs/guide/clients.md": "tests/clients",
    "docs/reference/command_line.md": "tests/client",
    "docs/guide/page.md": "tests/gateway",
}
"""Pages whose blocks are run by other tests."""

TIMEOUT_S = 540
LITTLE_WORK = {
    "media": "image",
    "prompts_per_wording": 1,
    "prompts_per_sibling": 1,
    "num_others": 0,
    "attacks": "none",
}
SERVE = "unsee serve --repository model_repository &\n"
UNSEE = """\
#!/bin/sh
case $1 in
  serve | gateway) exec {cold} {ours} "$@" ;;
  *) exec {warm} {ours} "$@" ;;
esac
"""
PYTHON = """\
#!/bin/sh
exec {warm} "$@"
"""
HEAD = """\
set -euo pipefail
trap 'trap - EXIT; kill $(jobs -p) 2>/dev/null || true; wait' EXIT
answers() {  # waits until the last background process listens
  until (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; do kill -0 $!; sleep 0.2; done
}
"""


@dataclass(frozen=True)
class Ports:
    """The free ports that stand for those in the documents."""

    grpc: int
    http: int
    metrics: int
    gateway_grpc: int
    gateway_http: int

    def instead(self, text: str) -> str:
        """`text` with these ports instead of the usual ones."""
        for usual, free in (
            (8001, self.grpc),
            (8000, self.http),
            (9001, self.gateway_grpc),
            (9000, self.gateway_http),
        ):
            text = text.replace(f"127.0.0.1:{usual}", f"127.0.0.1:{free}")
        return text

    def defaults(self, folder: Path) -> dict[str, dict[str, object]]:
        """What `unsee` is to assume where a document says nothing, by subcommand."""
        url = {"url": f"127.0.0.1:{self.grpc}"}
        forced = {"force": True, "reason": "a base of random weights shows nothing"}
        listen = {"grpc_port": self.grpc, "http_port": self.http, "metrics_port": self.metrics}
        return {
            "export": {"engine": "onnxruntime", "precision": "float32"},
            "serve": {**listen, "threads": 1, "log_path": str(folder / "tritonserver.log")},
            "evaluate": LITTLE_WORK,
            "publish": url | forced,
            **dict.fromkeys(("generate", "repair", "retire"), url),
        }


def script(page: Path, folder: Path, ports: Ports) -> str:
    """Everything that `page` has to be run, as one shell script."""
    parts = [HEAD]
    if "served" in runs_in(page):
        parts.append(f"{SERVE}answers {ports.grpc}\n")
    for block in blocks(page):
        if block.not_run is not None or block.language not in ("sh", "python"):
            continue
        text = ports.instead(block.text)
        if block.language == "python":
            (folder / f"line_{block.line}.py").write_text(text)
            text = f"python line_{block.line}.py\n"
        parts.append(f"echo '=== {block.place}'\n{text}")
        for command, port in (("serve", ports.grpc), ("gateway", ports.gateway_grpc)):
            if any(
                line.startswith(f"unsee {command} ") and line.endswith("&") for line in lines(text)
            ):
                parts.append(f"answers {port}\n")
    return "".join(parts)


def lines(text: str) -> list[str]:
    return [line.partition(" #")[0].rstrip() for line in text.splitlines()]


def run_page(page: Path, folder: Path, warm_python: list[str]) -> str:
    """What the commands of `page` print, run in `folder`."""
    ports = Ports(*free_ports(5))
    tools = folder / ".tools"
    tools.mkdir(exist_ok=True)
    (tools / "defaults.json").write_text(json.dumps(ports.defaults(folder)))
    ours, warm = Path(__file__).with_name("unsee_in_documents.py"), shlex.join(warm_python)
    for name, program in {
        "unsee": UNSEE.format(ours=ours, cold=sys.executable, warm=warm),
        "python": PYTHON.format(warm=warm),
    }.items():
        (tools / name).write_text(program)
        (tools / name).chmod(0o755)
    kept = {k: v for k, v in os.environ.items() if not k.startswith("UNSEE_")}
    path = os.pathsep.join((str(tools), str(Path(sys.executable).parent), os.environ["PATH"]))
    process = subprocess.Popen(
        ["bash", "-c", script(page, folder, ports)],
        cwd=folder,
        env=kept | {"PATH": path, "UNSEE_DEFAULTS": str(tools / "defaults.json")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=TIMEOUT_S)
    finally:
        end(process)
    assert process.returncode == 0, output[-6000:]
    return output


def end(process: subprocess.Popen[str]) -> None:
    """End what the page has left, if its own shell did not."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is None:
            os.killpg(process.pid, number)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                continue


@pytest.fixture(scope="session")
def after_quick_start(
    warm_python: list[str], tiny_repository_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The folder of somebody who has followed the quick start."""
    folder = tmp_path_factory.mktemp("quick_start")
    write_judged_base(folder / "bases/playground")
    shutil.copytree(tiny_repository_dir, folder / "model_repository")  # it is up to date
    (folder / "output.txt").write_text(
        run_page(DOCS / "guide" / "quick_start.md", folder, warm_python)
    )
    return folder


STARTED = [page for page in pages() if "quick_start" in runs_in(page)]


@pytest.mark.triton
@pytest.mark.slow
def test_the_quick_start_works(after_quick_start):
    assert "family-app" in (after_quick_start / "gateway.yaml").read_text()
    for name in ("before.mp4", "after.mp4", "after.png", "zorpik.mp4", "desert.mp4"):
        assert (after_quick_start / name).stat().st_size > 0
    assert (after_quick_start / "reports/family/report.html").stat().st_size > 0
    assert (after_quick_start / "before.mp4").read_bytes() != (
        after_quick_start / "after.mp4"
    ).read_bytes()


@pytest.mark.triton
@pytest.mark.slow
@pytest.mark.parametrize("page", STARTED, ids=lambda page: page.name)
def test_every_other_page_works_after_it(page, after_quick_start, warm_python, tmp_path):
    folder = tmp_path / "folder"
    shutil.copytree(after_quick_start, folder, symlinks=True)
    run_page(page, folder, warm_python)
    if page.name == "takedown.md":
        check_evidence(folder / "case")


def check_evidence(case):
    """The files of a takedown are tied together as its page says."""
    before, after, revision, report, history = (
        json.loads((case / f"{name}.json").read_text())
        for name in ("before", "after", "revision", "report", "history")
    )
    for same in ("prompt", "seed", "policy", "base_digest"):
        assert before["record"][same] == after["record"][same]
    assert after["record"]["edit_digest"] == revision["edit_digest"]
    assert before["record"]["edit_digest"] != revision["edit_digest"]
    assert after["record"]["revision"] == revision["revision"] == 2
    assert {delta["concept"] for delta in revision["deltas"]} == {"Blimbo", "Zorpik"}
    actions = [e["action"] for e in history if e["revision"] == 2]
    assert actions == ["publish", "promote"]
    digest = hashlib.sha256((case / "report.json").read_bytes()).hexdigest()
    for event in history[-2:]:
        assert event["encoder_digest"] == report["target"]["encoder_digest"]
        assert event["report_digest"] == f"sha256:{digest}"


def test_the_pages_that_are_run_are_those_that_are_meant():
    assert {page.name for page in STARTED} == {"takedown.md", "your_own_base.md", "index.md"}
    assert runs_in(DOCS / "guide" / "quick_start.md") == {"an empty folder"}


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_a_block_that_is_not_run_says_why(page):
    if runs_in(page) or str(page.relative_to(REPOSITORY)) in ELSEWHERE:
        return
    silent = [b.place for b in blocks(page) if b.language == "sh" and b.not_run is None]
    assert not silent, (
        f"{silent}: put <!-- not run: reason --> before the block, or "
        "<!-- runs in: quick_start --> into the page"
    )


def test_a_reason_is_read_only_right_before_its_block(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "<!-- not run: needs a GPU -->\n```sh\na\n```\n\n```sh\nb\n```\n"
        "<!-- not run: far away -->\n\nwords\n\n```sh\nc\n```\n"
    )
    assert [block.not_run for block in blocks(page)] == ["needs a GPU", None, None]
