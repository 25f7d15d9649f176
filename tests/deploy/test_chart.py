"""The Helm chart, rendered by Helm's own engine: valid objects that say what they must say."""

import json
import os
import subprocess
import time
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from deploy_files import example_settings
from yamllint import linter
from yamllint.config import YamlLintConfig

import helm_process
from unsee.policies.following.cli import follow
from unsee.repository.layout import HEARTBEAT_FILE

pytestmark = pytest.mark.process

DEPLOY = Path(__file__).parents[2] / "deploy"
CHART = DEPLOY / "chart"
KUBERNETES = ("1.29", "1.31", "1.33", "1.35")
CUSTOM_KINDS = {"PodMonitor"}
"""Not Kubernetes' own: there is no schema to check them with."""

EVERYTHING = {
    "pointer": {"configMap": "unsee-pointer"},
    "gateway": {"settings": {"secret": "", "configMap": "tenants"}, "tls": {"secret": "tls"}},
    "autoscaling": {"enabled": True},
    "metrics": {"podMonitor": True},
    "images": {"pullSecrets": [{"name": "registry"}]},
    "network": {
        "from": [{"namespaceSelector": {"matchLabels": {"team": "video"}}}],
        "egress": [{"ports": [{"port": 4317, "protocol": "TCP"}]}],
    },
    "nodeSelector": {"pool": "gpu"},
    "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
}
CPU = yaml.safe_load((CHART / "values-cpu.yaml").read_text())
VARIANTS = {"gpu": {}, "cpu": CPU, "everything": EVERYTHING}


def render(values):
    """The objects by kind, and the text that they were read from."""
    text = helm_process.render(CHART, values)
    return {found["kind"]: found for found in yaml.safe_load_all(text)}, text


@pytest.fixture(params=VARIANTS)
def values(request):
    return VARIANTS[request.param]


@pytest.fixture
def objects(values):
    return render(values)[0]


def pod(objects):
    return objects["Deployment"]["spec"]["template"]["spec"]


def containers(objects):
    spec = pod(objects)
    return {c["name"]: c for c in (*spec["initContainers"], *spec["containers"])}


@pytest.mark.parametrize("version", KUBERNETES)
def test_every_object_is_valid_kubernetes(objects, version):
    checked = {kind: found for kind, found in objects.items() if kind not in CUSTOM_KINDS}
    assert {"Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy"} <= checked.keys()
    for found in checked.values():
        kubernetes_validate.validate(found, version, strict=True)


def test_a_misspelt_field_would_be_found(objects):
    deployment = json.loads(json.dumps(objects["Deployment"]))
    deployment["spec"]["template"]["spec"]["initContainers"][1]["restartpolicy"] = "Always"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, "1.33", strict=True)


def test_helm_finds_nothing_to_mend():
    found = helm_process.lint(CHART)
    assert not found["errors"]
    assert {message["error"] for message in found["messages"]} <= {"icon is recommended"}


def test_no_yaml_is_untidy(values):
    config = YamlLintConfig(file=str(DEPLOY / ".yamllint.yaml"))
    texts = {str(file): file.read_text() for file in DEPLOY.rglob("*.yaml")}
    texts = {name: text for name, text in texts.items() if "templates" not in name}
    for name, text in texts.items():
        assert [str(problem) for problem in linter.run(text, config)] == [], name
    rendered = YamlLintConfig(
        "extends: relaxed\n"
        "rules: {line-length: disable, empty-lines: disable, indentation: disable}"
    )
    assert [str(problem) for problem in linter.run(render(values)[1], rendered)] == []


def test_nothing_may_write_to_its_image_or_become_root(objects):
    assert pod(objects)["securityContext"]["runAsNonRoot"] is True
    assert pod(objects)["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod(objects)["automountServiceAccountToken"] is False
    for container in containers(objects).values():
        security = container["securityContext"]
        assert security["readOnlyRootFilesystem"] is True
        assert security["allowPrivilegeEscalation"] is False
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["limits"]["memory"]


def test_the_store_is_only_read_and_every_volume_is_there(objects):
    volumes = {volume["name"]: volume for volume in pod(objects)["volumes"]}
    assert volumes["store"]["persistentVolumeClaim"]["readOnly"] is True
    for container in containers(objects).values():
        for mount in container["volumeMounts"]:
            assert mount["name"] in volumes
            written = ("repository", "shared-memory", "triton-tmp", "gateway-tmp")
            is_triton = container["name"] == "triton"  # it leaves its admin key in `run`
            assert (
                mount["name"] in written
                or (mount["name"] == "run" and is_triton)
                or mount["readOnly"] is True
            )


def test_the_gateway_has_room_to_write_an_mp4(objects):
    mounts = {m["mountPath"]: m["name"] for m in containers(objects)["gateway"]["volumeMounts"]}
    assert mounts["/tmp"] == "gateway-tmp"


def test_triton_starts_before_and_ends_after_the_gateway(objects):
    order = [container["name"] for container in pod(objects)["initContainers"]]
    assert order == ["prepare", "triton", "follower"]
    by_name = containers(objects)
    assert by_name["triton"]["restartPolicy"] == by_name["follower"]["restartPolicy"] == "Always"
    assert "restartPolicy" not in by_name["prepare"]
    assert [container["name"] for container in pod(objects)["containers"]] == ["gateway"]


def test_only_the_gateway_can_be_reached(objects):
    opened = {port["name"] for c in containers(objects).values() for port in c.get("ports", ())}
    assert opened == {"grpc", "http"}
    (rule,) = objects["NetworkPolicy"]["spec"]["ingress"]
    assert {port["port"] for port in rule["ports"]} == opened
    assert rule["from"], "an empty list would let everybody in"
    assert set(objects["NetworkPolicy"]["spec"]["policyTypes"]) == {"Ingress", "Egress"}
    assert {port["targetPort"] for port in objects["Service"]["spec"]["ports"]} == opened
    for script in DEPLOY.glob("start-triton-*.sh"):
        assert "127.0.0.1" in script.read_text()


def test_selectors_find_the_pods(objects):
    labels = objects["Deployment"]["spec"]["template"]["metadata"]["labels"].items()
    for selector in (
        objects["Deployment"]["spec"]["selector"]["matchLabels"],
        objects["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        objects["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
        objects["Service"]["spec"]["selector"],
    ):
        assert selector.items() <= labels


def test_the_commands_take_the_arguments_that_they_get(objects, values):
    for name in ("prepare", "follower"):
        command, *arguments = containers(objects)[name]["args"]
        given = follow.make_context(command, arguments).params
        assert given["prepare"] is (name == "prepare")
        assert given["pointer_dir"] == (Path("/pointer") if "pointer" in values else None)


def test_a_follower_that_is_silent_makes_its_pod_unready(objects, tmp_path):
    command = containers(objects)["follower"]["readinessProbe"]["exec"]["command"]
    heartbeat = tmp_path / HEARTBEAT_FILE
    asked = [word.replace("/repository", str(tmp_path)) for word in command]
    assert subprocess.run(asked, check=False, stderr=subprocess.DEVNULL).returncode != 0
    heartbeat.touch()
    assert subprocess.run(asked, check=False).returncode == 0
    os.utime(heartbeat, (time.time() - 60,) * 2)
    assert subprocess.run(asked, check=False).returncode != 0


def test_a_pod_that_goes_has_time_to_drain(objects):
    settings = example_settings()
    grace_s = pod(objects)["terminationGracePeriodSeconds"]
    before_s = int(containers(objects)["gateway"]["lifecycle"]["preStop"]["exec"]["command"][1])
    assert grace_s > before_s + settings.limits.drain_timeout_s + 15


def test_the_example_of_settings_fits_the_chart(objects):
    settings = example_settings()
    ports = {p["name"]: p["containerPort"] for p in containers(objects)["gateway"]["ports"]}
    assert settings.grpc == f"0.0.0.0:{ports['grpc']}"
    assert settings.http == f"0.0.0.0:{ports['http']}"
    assert settings.repository == Path("/repository")


def test_gpus_are_asked_for_where_there_are_to_be_any():
    (gpu, _), (cpu, _) = render({}), render(CPU)
    assert containers(gpu)["triton"]["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert "nvidia.com/gpu" not in containers(cpu)["triton"]["resources"]["limits"]
    assert containers(cpu)["triton"]["image"].endswith(":cpu")


def test_the_autoscaler_looks_at_the_queue_and_alone_sets_the_number():
    objects, _ = render(EVERYTHING)
    (metric,) = objects["HorizontalPodAutoscaler"]["spec"]["metrics"]
    assert metric["pods"]["metric"]["name"] == "unsee_gateway_waiting"
    assert "replicas" not in objects["Deployment"]["spec"]
    assert objects["PodMonitor"]["spec"]["podMetricsEndpoints"][0]["scheme"] == "https"
    probe = containers(objects)["gateway"]["readinessProbe"]["httpGet"]
    assert probe["scheme"] == "HTTPS"
    assert "HorizontalPodAutoscaler" not in render({})[0]


DIGEST = "sha256:" + "0" * 64


def test_images_are_named_by_digests_where_they_are_given():
    images = {"triton": {"digest": DIGEST}, "gateway": {"digest": DIGEST}, "requireDigests": True}
    by_name = containers(render({"images": images})[0])
    assert by_name["triton"]["image"] == f"unsee-triton@{DIGEST}"
    for name in ("prepare", "follower", "gateway"):
        assert by_name[name]["image"] == f"unsee-gateway@{DIGEST}"
    assert helm_process.notes(CHART, {"images": images}) == ""


def test_who_installs_images_by_tags_is_warned():
    said = helm_process.notes(CHART, {"images": {"triton": {"digest": DIGEST}}})
    assert said.startswith("WARNING: named by a tag")
    assert "unsee-gateway:0.2.0" in said
    assert "unsee-triton" not in said


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"images": {"requireDigests": True}}, "has no digest; set images"),
        ({"images": {"gateway": {"digest": "sha256:12"}}}, "digest"),
        ({"replicas": 0}, "replicas"),
        ({"replica": 3}, "replica"),
        ({"store": {"claim": ""}}, "claim"),
        ({"follower": {"maxLagS": 0}}, "maxLagS"),
        ({"gateway": {"settings": {"secret": "a", "configMap": "b"}}}, "one of the two"),
        ({"gateway": {"settings": {"secret": ""}}}, "one of the two"),
    ],
)
def test_wrong_values_are_refused(values, sentence):
    with pytest.raises(helm_process.HelmRefused, match=sentence):
        render(values)
