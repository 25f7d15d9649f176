"""The whole product through its command line, against a real tritonserver and a tiny base.

Steps share one server (module scope) and run in order: each leaves what the next one needs.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from judged_fakes import write_judged_base

from unsee.client.client import Client
from unsee.media.clip import Clip
from unsee.serving.server.ports import free_ports

pytestmark = [pytest.mark.triton, pytest.mark.slow]

PROMPT = "Blimbo in the rain"
REASON = "a base of random weights shows nothing"


@dataclass(frozen=True)
class Service:
    """A served repository and the folder that everything lies in."""

    folder: Path
    python: list[str]
    process: subprocess.Popen[str]
    grpc_port: int

    @property
    def url(self) -> str:
        return f"127.0.0.1:{self.grpc_port}"

    @property
    def repository(self) -> Path:
        return self.folder / "repository"

    def unsee(self, *args: str) -> subprocess.CompletedProcess[str]:
        return run_unsee(self.python, self.folder, *args)

    def publish(self, policy: str, *options: str) -> subprocess.CompletedProcess[str]:
        """Publish and promote `policy`, whatever its report says unless `options` are given."""
        return self.unsee(
            "publish",
            f"{policy}.yaml",
            "--base",
            "base",
            "--repository",
            "repository",
            "--url",
            self.url,
            "--promote",
            "--json",
            *(options or ("--force", "--reason", REASON)),
        )


def run_unsee(python: list[str], folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*python, "-m", "unsee.cli.main", *args],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def ok(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


def start_server(folder: Path) -> tuple[subprocess.Popen[str], int]:
    """`unsee serve`, ready, and its port for gRPC."""
    grpc, http, metrics = free_ports(3)
    ports = [f"--grpc-port={grpc}", f"--http-port={http}", f"--metrics-port={metrics}"]
    process = subprocess.Popen(
        [sys.executable, "-m", "unsee.cli.main", "serve", "--repository", "repository", *ports],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("ready: "), line + process.communicate()[0]
    return process, grpc


def write_policy(folder: Path, name: str, delta: str) -> None:
    content = {"name": name, "unsee": [{"concept": "Blimbo", "category": "character"}]}
    content["unsee"][0]["delta"] = delta  # type: ignore[index]
    (folder / f"{name}.yaml").write_text(json.dumps(content), encoding="utf-8")


@pytest.fixture(scope="module")
def service(
    warm_python: list[str], tiny_repository_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("end_to_end")
    shutil.copytree(tiny_repository_dir, folder / "repository")  # its graphs are up to date
    write_judged_base(folder / "base")
    ok(run_unsee(warm_python, folder, "export", "--base", "base", "--repository", "repository"))
    unlearn = ("unlearn", "Blimbo", "--category", "character", "--base", "base")
    ok(run_unsee(warm_python, folder, *unlearn, "-o", "deltas/strong"))
    ok(
        run_unsee(
            warm_python,
            folder,
            *unlearn,
            "--mode",
            "paper",
            "--learning-rate",
            "0.001",
            "-o",
            "deltas/weak",
        )
    )
    write_policy(folder, "family", "deltas/strong")
    process, grpc_port = start_server(folder)
    yield Service(folder, warm_python, process, grpc_port)
    process.send_signal(signal.SIGINT)
    process.wait(timeout=60)


@pytest.fixture
def client(service: Service) -> Iterator[Client]:
    with Client(service.url, timeout_s=120) as client:
        yield client


def test_a_policy_without_a_report_is_not_published(service: Service) -> None:
    done = service.publish("family", "--report", "reports/family")
    assert done.returncode == 2
    assert "there is no report" in done.stderr
    assert not (service.repository / "policy_family").exists()


def test_a_report_that_misses_the_thresholds_does_not_pass_the_gate(service: Service) -> None:
    evaluate = ("evaluate", "family.yaml", "--base", "base", "--concepts", "base/evaluation.yaml")
    little = ("--prompts-per-wording", "1", "--prompts-per-sibling", "1", "--others", "0")
    options = ("--recogniser", "judge:base/judge", "--media", "image", "--attacks", "none")
    ok(service.unsee(*evaluate, *options, *little))
    assert (service.folder / "reports" / "family" / "report.html").stat().st_size > 0
    done = service.publish("family", "--report", "reports/family")
    assert done.returncode == 2
    assert "not measured" in done.stderr
    assert "--force" in done.stderr
    assert not (service.repository / "policy_family").exists()


def test_a_forced_publication_is_active_and_on_record(service: Service) -> None:
    result = json.loads(ok(service.publish("family")))
    assert (result["policy"], result["revision"], result["active"]) == ("family", 1, True)
    log = (service.repository / "audit.jsonl").read_text().splitlines()
    published, promoted = (json.loads(line) for line in log)
    assert (published["action"], promoted["action"]) == ("publish", "promote")
    assert published["forced"] is True
    assert published["reason"] == REASON
    assert published["unmet"]
    assert (service.repository / "policy_family" / "1" / "report.json").is_file()
    table = ok(service.unsee("policies", "--repository", "repository"))
    assert "family" in table
    assert "Blimbo" in table


def test_a_revision_is_an_edit_of_the_states_and_small(service: Service) -> None:
    folder = service.repository / "policy_family" / "1"
    assert json.loads((folder / "revision.json").read_text())["kind"] == "edit"
    graph_bytes = sum(file.stat().st_size for file in folder.glob("model.onnx*"))
    assert graph_bytes < 2**20


def test_publishing_the_same_policy_again_makes_no_new_revision(service: Service) -> None:
    result = json.loads(ok(service.publish("family")))
    assert result["revision"] == 1
    assert not (service.repository / "policy_family" / "2").exists()


def test_the_two_policies_differ_only_by_their_edit(client: Client) -> None:
    clips = {
        policy: client.generate(PROMPT, policy=policy, seed=5, num_inference_steps=4)
        for policy in ("base", "family")
    }
    assert not np.array_equal(clips["base"].frames, clips["family"].frames)
    base, family = (clips[p].record.model_dump() for p in ("base", "family"))
    assert base["edit_digest"] is None
    assert family["edit_digest"].startswith("sha256:")
    for same in ("seed", "prompt", "base_digest", "scheduler", "num_inference_steps"):
        assert base[same] == family[same]


def test_a_seed_gives_the_same_bytes_alone_and_in_company(client: Client) -> None:
    alone = client.generate(PROMPT, policy="family", seed=9, num_inference_steps=5)
    clips: dict[int, Clip] = {}

    def ask(seed: int) -> None:
        policy = "family" if seed % 2 else "base"
        clips[seed] = client.generate(PROMPT, policy=policy, seed=seed, num_inference_steps=5)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(8, 12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert np.array_equal(alone.frames, clips[9].frames)


def test_promote_swaps_under_way_without_failing_a_request(
    service: Service, client: Client
) -> None:
    write_policy(service.folder, "family", "deltas/weak")
    revisions: list[int] = []
    stop = threading.Event()

    def keep_asking() -> None:
        while not stop.is_set():
            clip = client.generate(PROMPT, policy="family", seed=1, num_inference_steps=2)
            revisions.append(clip.record.revision)

    asker = threading.Thread(target=keep_asking)
    asker.start()
    try:
        assert json.loads(ok(service.publish("family")))["revision"] == 2
        ok(service.unsee("promote", "family", "--revision", "1", "--repository", "repository"))
        back = client.generate(PROMPT, policy="family", seed=1, num_inference_steps=2)
        ok(service.unsee("promote", "family", "--revision", "2", "--repository", "repository"))
        forth = client.generate(PROMPT, policy="family", seed=1, num_inference_steps=2)
    finally:
        stop.set()
        asker.join()
    assert (back.record.revision, forth.record.revision) == (1, 2)
    assert set(revisions) <= {1, 2}
    assert not np.array_equal(back.frames, forth.frames)
    named = client.generate(PROMPT, policy="family", revision=1, seed=1, num_inference_steps=2)
    assert np.array_equal(named.frames, back.frames)
