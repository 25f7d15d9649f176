"""The page and the reports as routes: what is public, what is not, and under which rules."""

import json
import os
import re
import urllib.error
import urllib.request
from importlib.resources import files

import pytest

from gateway_fakes import TOKENS
from unsee.gateway.fronts.static_page import FILES

REPORT = "/v2/policies/family/report"


@pytest.fixture
def served(serve, repository):
    return serve(grpc=None, repository=str(repository), limits={"drain_timeout_s": 1.0})


def get(served, path, who=None):
    """(status, headers, body)"""
    headers = {} if who is None else {"authorization": f"Bearer {TOKENS.get(who, who)}"}
    request = urllib.request.Request(f"http://{served.addresses.http}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as refusal:
        return refusal.code, refusal.headers, refusal.read()


@pytest.mark.parametrize("path", FILES)
def test_the_pages_files_are_public_and_may_load_nothing_from_elsewhere(served, path):
    code, headers, body = get(served, path)
    assert code == 200
    assert body == (files("unsee.gateway.fronts") / "page" / FILES[path]).read_bytes()
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert not re.search(rb"https?://(?!www\.w3\.org/2000/svg)", body)


def test_every_file_of_the_page_has_a_route():
    folder = files("unsee.gateway.fronts") / "page"
    assert sorted(FILES.values()) == sorted(file.name for file in folder.iterdir())


def test_the_page_has_no_script_and_no_style_of_its_own():
    for name in ("index.html", "report_frame.html"):
        text = (files("unsee.gateway.fronts") / "page" / name).read_text()
        assert re.findall(r"<script[^>]*>([^<]*)</script>", text) == [""]
        assert "<style" not in text
        assert not re.search(r"\s(on\w+|style)=", text)


@pytest.mark.parametrize(
    "path",
    [
        "/page",
        "/page/",
        "/page/index.html",
        "/page/../settings.py",
        "/page/%2e%2e/settings.py",
        "/page/..%2fsettings.py",
        "/page/page.js/",
        "//page/page.js",
        "/page.css",
        "/index.html",
        "/v1/videos",
    ],
)
def test_beside_them_there_is_nothing(served, path):
    code, _, body = get(served, path)
    assert code == 404
    assert json.loads(body)["error"]["status"] == "NOT_FOUND"


@pytest.mark.parametrize(
    ("settings", "shown"),
    [
        ({"page": False}, False),
        ({}, True),
        ({"http": "0.0.0.0:0", "tls_ends_elsewhere": True}, False),
    ],
)
def test_the_page_can_be_off_and_is_so_on_a_network(serve, settings, shown):
    served = serve(grpc=None, limits={"drain_timeout_s": 0.5}, **settings)
    port = served.addresses.http.rpartition(":")[2]
    served.addresses = type(served.addresses)(None, f"127.0.0.1:{port}")
    assert get(served, "/")[0] == (200 if shown else 404)
    assert get(served, "/page/page.js")[0] == (200 if shown else 404)


def test_a_report_is_for_who_may_use_its_policy(served):
    code, headers, body = get(served, REPORT, "kids")
    assert (code, headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert b"Passed" in body
    assert headers["content-security-policy"].startswith("sandbox;")
    assert headers["cache-control"] == "no-store"
    assert get(served, REPORT)[0] == 401
    assert get(served, REPORT, "wrong")[0] == 401
    assert get(served, REPORT, "admin")[0] == 403
    assert get(served, "/v2/policies/studio-x/report", "kids")[0] == 403


@pytest.mark.parametrize(
    "path",
    [
        "/v2/policies/family/report/",
        "/v2/policies/family/report.html",
        "/v2/policies/family/revision.json",
        "/v2/policies/family/2/report",
        "/v2/policies/../policies/family/report",
        "/v2/policies/family",
        "/v2/policies//report",
    ],
)
def test_beside_reports_there_is_nothing(served, path):
    assert get(served, path, "kids")[0] == 404


@pytest.mark.parametrize(
    "policy", ["..", "%2e%2e", "family%2f..", "%2e%2e%2ffamily", "family%00", ".", "family%2f1"]
)
def test_no_path_leads_out_of_a_policy(served, policy):
    assert get(served, f"/v2/policies/{policy}/report", "studio")[0] in (403, 404)


def test_only_an_ordinary_file_is_a_report(served, repository):
    file = repository / "text_encoder_family" / "2" / "report.html"
    secret = repository / "secret"
    secret.write_text("secret")
    file.unlink()
    assert get(served, REPORT, "kids")[0] == 404
    file.symlink_to(secret)
    assert get(served, REPORT, "kids")[0] == 404
    file.unlink()
    os.mkfifo(file)
    assert get(served, REPORT, "kids")[0] == 404
    body = get(served, REPORT, "kids")[2]
    assert b"active revision" in body
    assert str(repository).encode() not in body


def test_the_policies_tell_what_the_page_shows(served):
    told = json.loads(get(served, "/v2/policies", "studio")[2])
    base, family, studio_x = told["policies"]
    assert family["report"] == REPORT
    assert family["encoder_digest"] == "sha256:aa"
    assert family["verdict"]["passed"] is True
    assert studio_x["verdict"]["unmet"] == ["too few samples"]
    assert "report" not in studio_x
    assert base["encoder_digest"] == "sha256:aa"
    assert told["base"]["defaults"]["num_frames"] == 2
    assert told["base"]["limits"]["num_inference_steps"] == [1, 50]


def test_broken_files_of_the_repository_only_leave_something_out(served, repository):
    (repository / "text_encoder_family" / "2" / "revision.json").write_text("[")
    (repository / "text_to_video" / "assets" / "base.json").write_text('{"name": 1}')
    code, _, body = get(served, "/v2/policies", "kids")
    told = json.loads(body)
    assert code == 200
    assert "base" not in told
    assert "encoder_digest" not in told["policies"][0]
