"""The Compose files: valid by the specification, closed, of one piece with the rest of `deploy`."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from deploy_files import example_settings

DEPLOY = Path(__file__).parents[2] / "deploy"
FILES = [DEPLOY / "compose.yaml", DEPLOY / "compose.gpu.yaml"]
COMPOSE = yaml.safe_load(FILES[0].read_text())
SERVICES = COMPOSE["services"]
OWN = {"triton", "gateway", "operator"}


def schema_check(file):
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    return subprocess.run([*command, str(file)], capture_output=True, text=True, check=False)


@pytest.mark.process
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_it_is_valid_by_the_compose_specification(file):
    done = schema_check(file)
    assert done.returncode == 0, done.stdout


@pytest.mark.process
def test_a_misspelt_field_would_be_found(tmp_path):
    wrong = tmp_path / "compose.yaml"
    wrong.write_text(FILES[0].read_text().replace("network_mode:", "networkmode:", 1))
    assert schema_check(wrong).returncode != 0


def test_nothing_may_write_to_its_image_or_gain_rights():
    for name, service in SERVICES.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
    for name in OWN:
        assert SERVICES[name]["user"].endswith("10001:10001}"), name


def test_the_gateway_has_room_to_write_an_mp4():
    assert [mount.partition(":")[0] for mount in SERVICES["gateway"]["tmpfs"]] == ["/tmp"]


def test_the_operator_sees_no_secret_but_the_key_that_it_shows_triton():
    operator = SERVICES["operator"]
    assert operator["secrets"] == ["triton-admin-key"] == SERVICES["triton"]["secrets"]
    assert operator["environment"] == SERVICES["triton"]["environment"]
    assert "triton-admin-key" not in str(SERVICES["gateway"])
    mounts = [mount.rpartition(":")[2] for mount in operator["volumes"]]
    assert mounts == ["/work", "/work/model_repository"]
    hidden = [mount.partition(":")[0] for mount in operator["tmpfs"]]
    assert "/work/deploy/secrets" in hidden, "the checkout is mounted, and they lie in it"
    assert operator["restart"] == "no"


def test_who_reads_a_secret_is_said_and_nobody_else_needs_to():
    page = (DEPLOY.parent / "docs" / "operate" / "deployment.md").read_text()
    assert "chmod 644" not in page
    assert "chmod 400 deploy/secrets/*" in page
    for name in ("prometheus", "grafana"):
        user = SERVICES[name]["user"].partition(":")[0]
        (secret,) = SERVICES[name]["secrets"]
        assert f"sudo chown {user} deploy/secrets/{secret}" in page


def test_every_image_of_others_can_be_pinned_by_its_digest(tmp_path):
    gpu = yaml.safe_load(FILES[1].read_text())["services"]
    builds = [
        service["build"] for service in (*SERVICES.values(), *gpu.values()) if "build" in service
    ]
    named = [service["image"] for service in SERVICES.values() if "build" not in service]
    named += [value for build in builds for value in build["args"].values()]
    defaults = {}
    for image in named:
        variable, _, default = image.removeprefix("${").removesuffix("}").partition(":-")
        assert image == f"${{{variable}:-{default}}}", image
        defaults[variable] = default
    for build in builds:
        text = (DEPLOY.parent / build["dockerfile"]).read_text()
        for argument, value in build["args"].items():
            assert f"ARG {argument}={value.partition(':-')[2][:-1]}\n" in text
            assert f"FROM ${{{argument}}}" in text
    script = (DEPLOY / "pin-images.sh").read_text()
    pinned = dict(re.findall(r"^  pinned (\S+) (\S+)$", script, re.MULTILINE))
    assert pinned == defaults


@pytest.mark.process
def test_pinning_writes_digests_and_keeps_what_else_is_set(tmp_path):
    script = shutil.copy(DEPLOY / "pin-images.sh", tmp_path)
    docker = tmp_path / "bin" / "docker"
    docker.parent.mkdir()
    docker.write_text(f"#!/bin/sh\necho sha256:{'a' * 64}\n")
    docker.chmod(0o755)
    (tmp_path / ".env").write_text("UNSEE_ADDRESS=0.0.0.0\nUNSEE_PAUSE_IMAGE=old\n")
    environment = {"PATH": f"{docker.parent}:/usr/bin:/bin"}
    done = subprocess.run([script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / ".env").read_text().splitlines()
    digest = "sha256:" + "a" * 64
    assert f"UNSEE_PAUSE_IMAGE=registry.k8s.io/pause@{digest} # registry.k8s.io/pause:3.10" in lines
    assert "UNSEE_ADDRESS=0.0.0.0" in lines
    assert len(lines) == 6
    docker.write_text("#!/bin/sh\nexit 1\n")
    before = (tmp_path / ".env").read_text()
    done = subprocess.run([script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "the digest of registry.k8s.io/pause:3.10 could not be read" in done.stderr
    assert (tmp_path / ".env").read_text() == before
    assert {path.name for path in tmp_path.iterdir()} == {"pin-images.sh", "bin", ".env"}


def test_the_example_encrypts_unless_somebody_says_otherwise():
    settings = example_settings()
    assert settings.tls is not None
    assert not settings.tls_ends_elsewhere


def test_triton_is_reached_through_the_gateway_alone():
    assert SERVICES["triton"]["network_mode"] == SERVICES["gateway"]["network_mode"]
    assert "ports" not in SERVICES["triton"]
    published = {port.rpartition(":")[2] for port in SERVICES["pod"]["ports"]}
    settings = example_settings()
    assert published == {settings.http.rpartition(":")[2], settings.grpc.rpartition(":")[2]}
    for name in SERVICES:
        for port in SERVICES[name].get("ports", ()):
            assert port.startswith(("127.0.0.1:", "${UNSEE_ADDRESS:-127.0.0.1}:")), (name, port)


def test_the_gateway_reads_what_the_example_of_its_settings_names():
    settings = example_settings()
    mounts = [mount.split(":")[-2:] for mount in SERVICES["gateway"]["volumes"]]
    assert [str(settings.repository), "ro"] in mounts
    dockerfile = (DEPLOY / "gateway.Dockerfile").read_text()
    (mounted,) = [target for target, _ in mounts if target.endswith(".yaml")]
    assert f'"--config", "{mounted}"' in dockerfile


def test_what_is_built_and_mounted_is_there():
    gpu = yaml.safe_load(FILES[1].read_text())["services"]
    for service in (*SERVICES.values(), *gpu.values()):
        if "build" in service:
            assert (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
        for mount in service.get("volumes", ()):
            source = mount.partition(":")[0]
            if source.startswith("./"):
                assert (DEPLOY / source).exists(), source
            elif not source.startswith("$"):
                assert source in COMPOSE["volumes"]
        for secret in service.get("secrets", ()):
            assert secret in COMPOSE["secrets"]
    for secret in COMPOSE["secrets"].values():
        assert Path(secret["file"]).parent == Path("secrets"), "git ignores what lies there"


def test_there_is_time_to_drain():
    settings = example_settings()
    for name in ("triton", "gateway"):
        grace_s = int(SERVICES[name]["stop_grace_period"].removesuffix("s"))
        assert grace_s >= settings.limits.drain_timeout_s + 10
    assert "triton" in SERVICES["gateway"]["depends_on"], "the gateway is stopped first"


def test_the_gpu_variant_changes_triton_alone():
    gpu = yaml.safe_load(FILES[1].read_text())["services"]
    assert set(gpu) == {"triton"}
    (device,) = gpu["triton"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]


@pytest.mark.process
def test_nobody_s_secret_can_be_committed(tmp_path):
    command = ["git", "check-ignore", "-q"]
    for name in ("gateway.yaml", "operator-token", "grafana-password"):
        done = subprocess.run([*command, f"secrets/{name}"], cwd=DEPLOY, check=False)
        if done.returncode == 128:
            pytest.skip("not a git repository")
        assert done.returncode == 0, name
