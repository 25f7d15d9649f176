"""The Compose files: valid by the specification, closed, of one piece with the rest of `deploy`."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from unsee.gateway.callers.settings import load_settings

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
    for name in SERVICES.keys() - {"operator"}:
        service = SERVICES[name]
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
    for name in OWN:
        assert SERVICES[name]["user"].endswith("10001:10001}"), name


def test_triton_is_reached_through_the_gateway_alone():
    assert SERVICES["triton"]["network_mode"] == SERVICES["gateway"]["network_mode"]
    assert "ports" not in SERVICES["triton"]
    published = {port.rpartition(":")[2] for port in SERVICES["pod"]["ports"]}
    settings = load_settings(DEPLOY / "gateway.example.yaml")
    assert published == {settings.http.rpartition(":")[2], settings.grpc.rpartition(":")[2]}
    for name in SERVICES:
        for port in SERVICES[name].get("ports", ()):
            assert port.startswith(("127.0.0.1:", "${UNSEE_ADDRESS:-127.0.0.1}:")), (name, port)


def test_the_gateway_reads_what_the_example_of_its_settings_names():
    settings = load_settings(DEPLOY / "gateway.example.yaml")
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
    settings = load_settings(DEPLOY / "gateway.example.yaml")
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
