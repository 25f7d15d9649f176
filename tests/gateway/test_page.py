"""The page and the reports as routes: what is public, what is not, and under which rules."""

import json
import os
import re
from importlib.resources import files

import pytest
from gateway_calls import ask

from unsee.gateway.fronts.static_page import FILES

REPORT = "/v2/policies/family/report"


@pytest.fixture
def served(serve, repository):
    return serve(grpc=None, repository=str(repository), limits={"drain_timeout_s": 1.0})


@pytest.fixture(scope="module")
def shared(serve_all, repository_of_all):
    """For tests that change nothing in the repository."""
    return serve_all(grpc=None, repository=str(repository_of_all), limits={"drain_timeout_s": 0.5})


@pytest.mark.parametrize("path", FILES)
def test_the_pages_files_are_public_and_may_load_nothing_from_elsewhere(shared, path):
    code, headers, body = ask(shared, path, who=None)
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
    assert ask(served, "/", who=None)[0] == (200 if shown else 404)
    assert ask(served, "/page/page.js", who=None)[0] == (200 if shown else 404)


def test_a_report_is_for_who_may_use_its_policy(shared):
    code, headers, body = ask(shared, REPORT, who="kids")
    assert (code, headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert b"Passed" in body
    assert headers["content-security-policy"].startswith("sandbox;")
    assert headers["cache-control"] == "no-store"
    assert ask(shared, REPORT, who=None)[0] == 401
    assert ask(shared, REPORT, who="wrong")[0] == 401
    assert ask(shared, REPORT, who="admin")[0] == 403
    assert ask(shared, "/v2/policies/studio-x/report", who="kids")[0] == 403


@pytest.mark.parametrize(
    "policy", ["..", "%2e%2e", "family%2f..", "%2e%2e%2ffamily", "family%00", ".", "family%2f1"]
)
def test_no_path_leads_out_of_a_policy(shared, policy):
    assert ask(shared, f"/v2/policies/{policy}/report", who="studio")[0] in (403, 404)


def test_only_an_ordinary_file_is_a_report(served, repository):
    file = repository / "policy_family" / "2" / "report.html"
    secret = repository / "secret"
    secret.write_text("secret")
    file.unlink()
    assert ask(served, REPORT, who="kids")[0] == 404
    file.symlink_to(secret)
    assert ask(served, REPORT, who="kids")[0] == 404
    file.unlink()
    os.mkfifo(file)
    assert ask(served, REPORT, who="kids")[0] == 404
    body = ask(served, REPORT, who="kids")[2]
    assert b"active revision" in body
    assert str(repository).encode() not in body


def test_the_policies_tell_what_the_page_shows(shared):
    told = json.loads(ask(shared, "/v2/policies", who="studio")[2])
    base, family, studio_x = told["policies"]
    assert family["report"] == REPORT
    assert family["edit_digest"] == "sha256:aa"
    assert family["verdict"]["passed"] is True
    assert studio_x["verdict"]["unmet"] == ["too few samples"]
    assert "report" not in studio_x
    assert base["edit_digest"] is None
    assert told["base"]["defaults"]["num_frames"] == 2
    assert told["base"]["limits"]["num_inference_steps"] == [1, 50]
    assert told["base"]["latents"] == {"channels": 4, "vae_scale": 8, "frames_per_latent": 1}


def test_broken_files_of_the_repository_only_leave_something_out(served, repository):
    (repository / "policy_family" / "2" / "revision.json").write_text("[")
    (repository / "text_to_video" / "assets" / "base.json").write_text('{"name": 1}')
    code, _, body = ask(served, "/v2/policies", who="kids")
    told = json.loads(body)
    assert code == 200
    assert "base" not in told
    assert "edit_digest" not in told["policies"][0]
