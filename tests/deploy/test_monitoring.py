"""Alerts and dashboard ask for what the gateway really has, and fire when they should.

The gateway's own /metrics is read after a clip, a refusal and a failure, so that a metric that was
renamed leaves no panel empty and no alert asleep.
"""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import get_args

import promql_parser
import pytest
import yaml
from gateway_calls import ask
from prometheus_client.parser import text_string_to_metric_families
from wire_fakes import error

from document_blocks import DOCS, anchors
from gateway_fakes import Served
from record_fakes import audit_event
from report_fakes import fake_report
from unsee.gateway.callers.refusal import Reason
from unsee.gateway.observe.account import Front
from unsee.gateway.observe.evidence import FIGURES
from unsee.repository import ledger
from unsee.repository.layout import POINTER_FILE
from unsee.repository.records import Policies, PolicyState

DEPLOY = Path(__file__).parents[2] / "deploy"
PROMETHEUS = DEPLOY / "prometheus"
ALERTS = PROMETHEUS / "alerts.yaml"
RULES = [r for g in yaml.safe_load(ALERTS.read_text())["groups"] for r in g["rules"]]
DASHBOARD = json.loads((DEPLOY / "grafana/dashboards/unsee.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
SCRAPED = {"up": {"job", "instance"}}
"""Prometheus' own metric and the labels that it adds to all."""
VALUES = {
    "outcome": {"ok", "refused", "cancelled", "failed"},
    "reason": set(get_args(Reason)),
    "front": set(get_args(Front)),
    "job": {"unsee-gateway"},
    "figure": set(FIGURES.values()),
}


def panel_expressions():
    return [(panel["title"], t["expr"]) for panel in PANELS for t in panel["targets"]]


def expressions():
    """Every PromQL expression with where it stands; Grafana's variables are filled in."""
    variables = {"$__rate_interval": "1m", "$tenant": ".*", "$policy": ".*"}
    found = [(rule["alert"], rule["expr"]) for rule in RULES] + panel_expressions()
    found += [(note["name"], note["expr"]) for note in DASHBOARD["annotations"]["list"]]
    for place, text in found:
        for name, value in variables.items():
            text = text.replace(name, value)
        yield pytest.param(text, id=place)


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """What a gateway reads of a repository: a pointer, a report, a publication."""
    folder = tmp_path_factory.mktemp("repository")
    state = PolicyState(active=2, eligible=(2,))
    content = Policies(policies={"family": state}).model_dump_json()
    (folder / POINTER_FILE).write_text(content)
    revision = folder / "policy_family" / "2"
    revision.mkdir(parents=True)
    (revision / "report.json").write_text(fake_report().model_dump_json())
    ledger.note(folder, audit_event())
    return folder


@pytest.fixture(scope="module")
def metrics(repository):
    """The labels of every sample that a gateway shows, by its name."""
    served = Served(repository=repository)

    async def fail(inputs, context):
        await context.write(error("INTERNAL: the server failed; its log says why"))

    try:
        ask(served, body={"prompt": "a cat"})
        ask(served, body={"prompt": "a cat", "policy": "base"})
        served.triton.answer = fail
        ask(served, body={"prompt": "a cat"})
        text = ask(served, "/metrics", who="admin")[2].decode()
    finally:
        served.stop()
    found = {name: set(labels) for name, labels in SCRAPED.items()}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update({*sample.labels, "job", "instance"})
    # nothing was promoted meanwhile, so the counter of swaps has no child yet
    found.setdefault("unsee_gateway_swaps_total", {"policy", "job", "instance"})
    return found


@pytest.mark.parametrize("expression", list(expressions()))
def test_every_expression_is_valid_and_asks_for_what_there_is(expression, metrics):
    promql_parser.parse(expression)
    named = set(re.findall(r"\b(?:unsee_\w+|up)\b", expression))
    assert named, "it asks for nothing"
    assert named <= metrics.keys(), named - metrics.keys()
    there = set.union(*(metrics[name] for name in named))
    for label, _, values in re.findall(r'(\w+)\s*(=~?|!=|!~)\s*"([^"]*)"', expression):
        assert label in there, label
        if label in VALUES:
            assert set(values.split("|")) <= VALUES[label], values
    for grouping in re.findall(r"\b(?:by|on)\s*\(([^)]*)\)", expression):
        assert {label.strip() for label in grouping.split(",")} <= there, grouping


def test_every_metric_of_the_gateway_is_shown(metrics):
    shown = " ".join(expression for _, expression in panel_expressions())
    families = {re.sub(r"_(bucket|sum|count|total|created)$", "", name) for name in metrics}
    missing = {name for name in families - {"up"} if name not in shown}
    assert not missing


def test_every_alert_says_what_to_do():
    names = [rule["alert"] for rule in RULES]
    assert len(set(names)) == len(names)
    headings = anchors(DOCS / "operate" / "runbook.md")
    for rule in RULES:
        page, _, anchor = rule["annotations"]["runbook"].partition("#")
        assert page == "docs/operate/runbook.md"
        assert anchor == rule["alert"].lower()
        assert anchor in headings
        assert rule["labels"]["severity"] in ("page", "ticket")
    described = {heading for heading in headings if heading.startswith("unsee")}
    assert described == {name.lower() for name in names}, "the runbook knows other alerts"


def test_no_refused_request_wakes_anybody():
    for rule in RULES:
        if rule["labels"]["severity"] == "page":
            assert "refus" not in rule["expr"], rule["alert"]


def test_the_dashboard_is_one_that_grafana_can_provision():
    assert DASHBOARD["uid"]
    source = yaml.safe_load(
        (DEPLOY / "grafana/provisioning/datasources/prometheus.yaml").read_text()
    )
    uids = {entry["uid"] for entry in source["datasources"]}
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    for panel in PANELS:
        assert panel["title"]
        assert panel["description"]
        assert panel["datasource"]["uid"] in uids
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
    variables = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    used = set(re.findall(r"\$(\w+)", " ".join(e for _, e in panel_expressions())))
    assert used - {"__rate_interval"} == variables


def test_no_panel_lies_on_another():
    taken = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        columns = range(place["x"], place["x"] + place["w"])
        cells = {(x, y) for x in columns for y in range(place["y"], place["y"] + place["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells


def test_grafana_and_prometheus_find_their_files():
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    provider = yaml.safe_load((DEPLOY / "grafana/provisioning/dashboards/unsee.yaml").read_text())
    (entry,) = provider["providers"]
    assert f"./grafana/dashboards:{entry['options']['path']}:ro" in services["grafana"]["volumes"]
    config = yaml.safe_load((PROMETHEUS / "prometheus.yaml").read_text())
    assert [(PROMETHEUS / name).is_file() for name in config["rule_files"]] == [True]
    (job,) = config["scrape_configs"]
    assert job["static_configs"] == [{"targets": ["pod:9000"]}]
    secret = job["authorization"]["credentials_file"]
    assert Path(secret).name in services["prometheus"]["secrets"]


def promtool(*arguments):
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    done = subprocess.run(
        [found, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_takes_settings_and_rules():
    promtool("check", "rules", ALERTS)
    promtool("check", "config", "--syntax-only", PROMETHEUS / "prometheus.yaml")


def series(name, values, **labels):
    text = ", ".join(f'{key}="{value}"' for key, value in labels.items())
    return {"series": f"{name}{{{text}}}", "values": values}


def requests(outcome, values, policy="family", tenant="kids"):
    labels = {"outcome": outcome, "policy": policy, "tenant": tenant}
    return series("unsee_gateway_requests_total", values, **labels)


def refusals(reason, values):
    return series("unsee_gateway_refusals_total", values, reason=reason, tenant="kids")


HOUR = "0+{}x120"
GOOD = requests("ok", HOUR.format(60))
STRANGERS = requests("refused", HOUR.format(1000), policy="", tenant="")
FIRING = {
    None: [
        STRANGERS,
        requests("refused", HOUR.format(5)),
        refusals("credentials", HOUR.format(5)),
        refusals("request", HOUR.format(5)),
        refusals("deadline", HOUR.format(5)),
    ],
    "UnseeGatewayDown": [series("up", "0x120", job="unsee-gateway", instance="pod:9000")],
    "UnseeNoClips": [requests("failed", HOUR.format(2), policy="studio")],
    "UnseeClipsFail": [GOOD, requests("failed", HOUR.format(2))],
    "UnseePolicyFails": [GOOD, requests("failed", HOUR.format(1), policy="studio")],
    "UnseeFull": [
        GOOD,
        STRANGERS,
        requests("refused", HOUR.format(6)),
        refusals("gateway_full", HOUR.format(3)),
        refusals("wait", HOUR.format(3)),
    ],
    "UnseeTenantFull": [GOOD, refusals("tenant_full", HOUR.format(3))],
    "UnseeWaitIsLong": [
        GOOD,
        series("unsee_gateway_wait_seconds_bucket", HOUR.format(10), le="30"),
        series("unsee_gateway_wait_seconds_bucket", HOUR.format(20), le="60"),
        series("unsee_gateway_wait_seconds_bucket", HOUR.format(20), le="+Inf"),
    ],
    "UnseeWrongCredentials": [GOOD, refusals("credentials", HOUR.format(10))],
    "UnseeNotPermitted": [GOOD, refusals("permission", HOUR.format(2))],
    "UnseeReplicasDisagree": [
        GOOD,
        *(
            one
            for number in (1, 2)
            for one in (
                series(
                    "unsee_gateway_active_revision",
                    f"{number}x120",
                    policy="family",
                    instance=number,
                ),
                series(
                    "unsee_gateway_clips_total", HOUR.format(1), policy="family", instance=number
                ),
            )
        ),
    ],
    "UnseeRevisionFlaps": [
        GOOD,
        series("unsee_gateway_swaps_total", HOUR.format(1), policy="family"),
    ],
    "UnseeForcedRevision": [
        GOOD,
        series("unsee_gateway_gate_passed", "0x120", policy="family", revision="3"),
    ],
    "UnseeClipsSlow": [
        series("unsee_gateway_clip_seconds_bucket", "0+10x1440 14400x120", le="1"),
        series("unsee_gateway_clip_seconds_bucket", "0+10x1440 14410+10x120", le="10"),
        series("unsee_gateway_clip_seconds_bucket", "0+10x1440 14410+10x120", le="+Inf"),
    ],
}


def test_each_alert_fires_on_its_own_cause_alone(tmp_path):
    assert FIRING.keys() == {None, *(rule["alert"] for rule in RULES)}
    tests = []
    for cause, input_series in FIRING.items():
        at = "25h" if cause == "UnseeClipsSlow" else "1h30m"
        fire = {cause}
        if cause == "UnseeNoClips":  # failures, of which the others tell as well
            fire |= {"UnseeClipsFail", "UnseePolicyFails"}
        fired = [
            {"alertname": rule["alert"], "eval_time": at}
            | ({"exp_alerts": expected(rule, cause)} if rule["alert"] in fire else {})
            for rule in RULES
        ]
        tests.append({"interval": "1m", "input_series": input_series, "alert_rule_test": fired})
    file = tmp_path / "alerts_test.yaml"
    rules = {"rule_files": [str(ALERTS)], "evaluation_interval": "1m", "tests": tests}
    file.write_text(yaml.safe_dump(rules, sort_keys=False))
    promtool("test", "rules", file)


def expected(rule, cause):
    labels = {
        "UnseeGatewayDown": {"job": "unsee-gateway", "instance": "pod:9000"},
        "UnseePolicyFails": {"policy": "studio"},
        "UnseeTenantFull": {"tenant": "kids"},
        "UnseeNotPermitted": {"tenant": "kids"},
        "UnseeReplicasDisagree": {"policy": "family"},
        "UnseeRevisionFlaps": {"policy": "family"},
        "UnseeForcedRevision": {"policy": "family", "revision": "3"},
    }.get(rule["alert"], {})
    summary = rule["annotations"]["summary"]
    for name, value in labels.items():
        summary = summary.replace(f"{{{{ $labels.{name} }}}}", value)
    return [
        {
            "exp_labels": labels | rule["labels"],
            "exp_annotations": rule["annotations"] | {"summary": summary},
        }
    ]
