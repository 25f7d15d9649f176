"""The images' recipes, and the scripts in them, which run without an image."""

import json
import os
import re
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
import yaml

from serving_fakes import stub_of, write_fake_repository
from unsee.repository.layout import SERVED_MODELS
from unsee.serving.server.ports import free_ports

DEPLOY = Path(__file__).parents[2] / "deploy"
DOCKERFILES = sorted(DEPLOY.glob("*.Dockerfile"))


def run(*command, **options):
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


@pytest.mark.process
@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda file: file.name)
def test_hadolint_finds_nothing(dockerfile):
    done = run(Path(sys.executable).parent / "hadolint", dockerfile)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda file: file.name)
def test_what_is_copied_is_there_and_nobody_is_root(dockerfile):
    text = dockerfile.read_text()
    for source in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE):
        for name in source.split():
            assert (DEPLOY.parent / name).exists(), name
    assert re.findall(r"^USER (\S+)$", text, re.MULTILINE) == ["10001"]


def test_a_wheel_is_built_of_all_its_folders():
    project = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text())
    built_of = project["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"]
    for dockerfile in DOCKERFILES:
        text = dockerfile.read_text()
        copied = re.findall(r"^COPY (?!--from)(\S+) \S+$", text, re.MULTILINE)
        if "pip wheel" in text:
            missing = [f for f in built_of if not any(f.startswith(f"{c}") for c in copied)]
            assert missing == [], dockerfile.name


def test_one_version_is_named_everywhere():
    root = DEPLOY.parent
    version = tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"]
    chart = yaml.safe_load((DEPLOY / "chart" / "Chart.yaml").read_text())
    values = yaml.safe_load((DEPLOY / "chart" / "values.yaml").read_text())
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    package = json.loads((root / "clients" / "typescript" / "package.json").read_text())
    lock = json.loads((root / "clients" / "typescript" / "package-lock.json").read_text())
    pom = re.search(r"<version>(.+)</version>", (root / "clients" / "java" / "pom.xml").read_text())
    assert {
        "chart": chart["version"],
        "app": chart["appVersion"],
        "values": values["images"]["gateway"]["tag"],
        "gateway": compose["gateway"]["image"].rpartition(":")[2],
        "operator": compose["operator"]["image"].rpartition(":")[2],
        "package": package["version"],
        "lock": lock["version"],
        "lock's own": lock["packages"][""]["version"],
        "pom": pom and pom[1],
    } == dict.fromkeys(
        ("chart", "app", "values", "gateway", "operator", "package", "lock", "lock's own", "pom"),
        version,
    )


@pytest.mark.process
def test_the_gpu_script_loads_every_model_and_no_hidden_folder(tmp_path):
    repository = write_fake_repository(tmp_path / "repository")
    (repository / ".incoming").mkdir()
    (tmp_path / "unet").mkdir()
    (repository / "linked_unet").symlink_to(tmp_path / "unet")
    server = tmp_path / "tritonserver"
    server.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    server.chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    script = DEPLOY / "start-triton-gpu.sh"
    environment = {"PATH": path, "UNSEE_RUN_DIR": str(tmp_path / "run")}
    done = run(script, repository, "--log-verbose=1", env=environment)
    options = done.stdout.split()
    loaded = {o.removeprefix("--load-model=") for o in options if o.startswith("--load-model=")}
    assert loaded == {*SERVED_MODELS, "linked_unet"}, "policies are opened by prompt_encoder"
    assert "--log-verbose=1" in options
    key = (tmp_path / "run" / "triton-8001.key").read_text()
    assert len(key) >= 40
    assert (tmp_path / "run" / "triton-8001.key").stat().st_mode & 0o077 == 0
    closed = [option for option in options if option.endswith(f":unsee-admin-key={key}")]
    assert [option.partition("=")[0] for option in closed] == [
        "--grpc-restricted-protocol",
        "--http-restricted-api",
    ]
    again = run(script, repository, env=environment).stdout
    assert key in again, "a container that starts anew keeps the key"


@pytest.mark.triton
def test_the_cpu_script_serves_and_a_dead_model_is_noticed(tmp_path, monkeypatch):
    repository = write_fake_repository(tmp_path / "repository")
    ports = dict(zip(("grpc", "http", "metrics"), map(str, free_ports(3)), strict=True))
    options = [word for name, port in ports.items() for word in (f"--{name}-port", port)]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = [DEPLOY / "start-triton-cpu.sh", repository, "--threads", "1", *options]
    alive = (sys.executable, "-I", DEPLOY / "alive.py", ports["http"])
    monkeypatch.setenv("UNSEE_RUN_DIR", str(tmp_path / "run"))
    assert run(*alive).returncode == 1, "nobody serves yet"
    server = subprocess.Popen(command, env=os.environ | {"PATH": path})
    try:
        deadline = time.monotonic() + 120
        while run(*alive).returncode != 0:
            assert time.monotonic() < deadline
            assert server.poll() is None
            time.sleep(0.3)
        os.kill(stub_of(repository / "text_to_video"), 9)
        dead = run(*alive)
        assert dead.returncode == 1
        assert "does not answer" in dead.stderr
    finally:
        server.terminate()
        server.wait(60)
