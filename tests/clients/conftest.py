"""The generated clients, built once, and the servers that they are run against.

A toolchain that is missing skips its language, with the reason; a build that fails is a failure.
"""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme
from gateway_calls import gateways

from gateway_fakes import Served
from serving_fakes import triton_of, write_fake_repository
from unsee.serving.server.triton import TritonServer

CLIENTS = Path(__file__).parents[2] / "clients"
EXAMPLES = Path(__file__).parent
NO_NETWORK = ("ENOTFOUND", "ECONNREFUSED", "ETIMEDOUT", "EAI_AGAIN", "ECONNRESET")
JARS = Path("/usr/share/java")


@dataclass(frozen=True)
class Program:
    """A language's `generate` and `every_input`, as the words that start them."""

    generate: tuple[str, ...]
    every_input: tuple[str, ...]

    def run(
        self, *arguments: str, cwd: Path, every_input: bool = False, **environment: str
    ) -> "subprocess.CompletedProcess[str]":
        words = self.every_input if every_input else self.generate
        return subprocess.run(
            [*words, *arguments],
            cwd=cwd,
            env=_environment() | environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def interrupted(self, *arguments: str, after: str, cwd: Path) -> tuple[int, str]:
        """Exit code and stderr of `generate`, sent SIGINT once it has said `after`."""
        process = subprocess.Popen(
            [*self.generate, *arguments],
            cwd=cwd,
            env=_environment(),
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stderr is not None
            told = ""
            while after not in told:
                line = process.stderr.readline()
                assert line, told
                told += line
            process.send_signal(signal.SIGINT)
            told += process.communicate(timeout=60)[1]
        finally:
            process.kill()
            process.wait()
        return process.returncode, told


@pytest.fixture(scope="session")
def typescript(made_once: Callable[..., Path]) -> Program:
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed, so the TypeScript client was not built")
    built = made_once("typescript", _build_typescript) / "typescript" / "dist"
    return Program(("node", str(built / "generate.js")), ("node", str(built / "every_input.mjs")))


def _build_typescript(folder: Path) -> None:
    """As a user builds it: `npm ci`, `npm run build`."""
    for part in ("typescript", "proto"):
        ignored = shutil.ignore_patterns("node_modules", "dist", "generated")
        shutil.copytree(CLIENTS / part, folder / part, ignore=ignored)
    package = folder / "typescript"
    installed = _run("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", cwd=package)
    if installed.returncode and any(word in installed.stderr for word in NO_NETWORK):
        pytest.skip("no npm registry answers, so the TypeScript client was not built")
    assert installed.returncode == 0, installed.stderr
    built = _run("npm", "run", "build", cwd=package)
    assert built.returncode == 0, built.stdout + built.stderr
    shutil.copy(EXAMPLES / "every_input.mjs", package / "dist")


@pytest.fixture(scope="session")
def java(made_once: Callable[..., Path]) -> Program:
    """Built by build.sh, with the libraries that Debian packages."""
    missing = [tool for tool in ("javac", "protoc", "grpc_java_plugin") if not shutil.which(tool)]
    jars = ("grpc-netty", "gson", "netty-codec-http2", "netty-tcnative", "perfmark-api", "protobuf")
    missing += [name for name in jars if not (JARS / f"{name}.jar").exists()]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed, so the Java client was not built")

    def build(folder: Path) -> None:
        built = _run(str(CLIENTS / "java" / "build.sh"), str(folder), cwd=folder)
        assert built.returncode == 0, built.stderr
        (folder / "libraries").write_text(built.stdout.strip().removeprefix(f"{folder}/classes"))

    folder = made_once("java", build)
    class_path = f"{folder}/classes{(folder / 'libraries').read_text()}"
    java = ("java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", class_path)
    return Program((*java, "unsee.Generate"), (*java, str(EXAMPLES / "EveryInput.java")))


@pytest.fixture(params=["typescript", "java"])
def program(request: pytest.FixtureRequest) -> Program:
    built: Program = request.getfixturevalue(request.param)
    return built


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    """A real tritonserver; an evaluation of its video denoiser takes about 0.3 s."""
    repository = tmp_path_factory.mktemp("served") / "repository"
    with triton_of(write_fake_repository(repository, unet_work=60)) as running:
        yield running


serve = pytest.fixture(gateways, name="serve")


@pytest.fixture
def served(serve: Callable[..., Served]) -> Served:
    return serve()


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path, Path]:
    """A certificate of 127.0.0.1, its key and its authority."""
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    pems = (issued.cert_chain_pems[0], issued.private_key_pem, authority.cert_pem)
    files = tmp_path / "server.crt", tmp_path / "server.key", tmp_path / "authority.pem"
    for pem, file in zip(pems, files, strict=True):
        pem.write_to_path(str(file))
    return files


def _run(*words: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(words, cwd=cwd, capture_output=True, text=True, timeout=300, check=False)


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("UNSEE_")}
