"""What the wheel installs works without a checkout: a light client, and the whole product."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import zipfile
from pathlib import Path

import pytest

from unsee.serving.server.ports import free_ports

REPOSITORY = Path(__file__).parents[2]
PORTIONS = ("client", "training", "evaluation", "export", "serving")
LEFT_OUT = ("__pycache__", ".mypy_cache")

pytestmark = pytest.mark.process


def test_every_file_of_every_portion_is_in_it(wheel):
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
    files = [
        path.relative_to(REPOSITORY / portion)
        for portion in PORTIONS
        for path in (REPOSITORY / portion / "unsee").rglob("*")
        if path.is_file() and not set(path.parts) & set(LEFT_OUT)
    ]
    assert len(files) > 200
    assert {str(file) for file in files} <= packed
    code = REPOSITORY / "model_repository" / "text_to_video" / "1"
    served = {f"unsee/export/text_to_video/1/{file.name}" for file in code.glob("*.py")}
    assert served
    assert served <= packed


@pytest.fixture(scope="module")
def client(environment):
    return environment()


def test_the_client_alone_is_light(client, tmp_path):
    helped = client.run("unsee", "--help", cwd=tmp_path)
    assert (helped.returncode, helped.stderr) == (0, "")
    assert "unsee generate" in helped.stdout
    for missing in ("torch", "onnxruntime", "pytriton", "starlette"):
        assert client.run("python", "-c", f"import {missing}", cwd=tmp_path).returncode == 1
    where = "import unsee.client; print(unsee.client.__file__)"
    assert Path(client.run("python", "-c", where, cwd=tmp_path).stdout).is_relative_to(
        client.folder
    )


def test_a_command_whose_extra_is_missing_says_what_to_install(client, tmp_path):
    done = client.run("unsee", "delta", "show", "blimbo", cwd=tmp_path)
    assert done.returncode == 2
    assert 'pip install "unsee[' in done.stderr


@pytest.mark.slow
@pytest.mark.triton
def test_a_base_is_unlearned_exported_and_served(
    environment, tiny_base_dir, tiny_repository_dir, tmp_path
):
    installed = environment("train", "evaluate", "export", "serve")
    shutil.copytree(tiny_base_dir, tmp_path / "base", symlinks=True)
    shutil.copytree(tiny_repository_dir, tmp_path / "repository")
    shutil.rmtree(tmp_path / "repository" / "text_to_video")  # to be written from the wheel

    def unsee(*arguments: str) -> str:
        done = installed.run("unsee", *arguments, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout

    learn = ("unlearn", "Blimbo", "--category", "character", "--base", "base", "-o", "blimbo")
    unsee(*learn)
    assert (tmp_path / "blimbo" / "card.json").is_file()
    unsee("export", "--base", "base", "--repository", "repository", "--engine", "onnxruntime")
    code = tmp_path / "repository" / "text_to_video" / "1" / "model.py"
    original = REPOSITORY / "model_repository" / "text_to_video" / "1" / "model.py"
    assert code.read_bytes() == original.read_bytes()
    grpc, http, metrics = map(str, free_ports(3))
    ports = ["--grpc-port", grpc, "--http-port", http, "--metrics-port", metrics]
    serve = [installed.folder / "bin" / "unsee", "serve", "--repository", "repository", *ports]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(serve, cwd=tmp_path, env=installed.variables(), **pipes) as server:
        try:
            assert server.stdout.readline().startswith("ready: "), server.communicate()[1]
            ask = ("--policy", "base", "--seed", "1", "--url", f"127.0.0.1:{grpc}", "--json")
            told = unsee("generate", "Blimbo", "-o", "clip.png", *ask)
        finally:
            server.send_signal(signal.SIGINT)
            server.communicate(timeout=60)
    assert json.loads(told)["record"]["policy"] == "base"
    assert (tmp_path / "clip.png").stat().st_size > 0
