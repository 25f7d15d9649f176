"""gateway.yaml and credentials: what is accepted, what is refused, and that no token is told."""

import contextlib
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unsee.core.errors import InputError
from unsee.gateway.callers.credentials import Credentials, Presented, new_token, token_sha256
from unsee.gateway.callers.refusal import Refusal
from unsee.gateway.callers.settings import Limits, Tenant, Token, load_settings, split_address

TOKEN = f"unsee_{'secret':-<43}"
HASH = token_sha256(TOKEN)


def settings_of(tmp_path, text):
    file = tmp_path / "gateway.yaml"
    file.write_text(text)
    return load_settings(file)


def with_tenant(line, top=""):
    return f"{top}\ntenants:\n  - {{name: kids, {line}}}\n"


def test_the_least_that_is_needed_listens_on_loopback(tmp_path):
    settings = settings_of(tmp_path, with_tenant(f"token_sha256: {HASH}, policies: [family]"))
    assert split_address(settings.grpc) == ("127.0.0.1", 9001)
    assert settings.tenants[0].policy_by_default == "family"
    assert settings.tenants[0].token_sha256 == (Token(sha256=HASH),)
    assert not settings.log_prompts


GOOD = f"token_sha256: {HASH}, policies: [family]"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (with_tenant(f"token_sha256: {HASH}, policies: [base]"), "allow_base: true"),
        (with_tenant("policies: [family]"), "unsee gateway token new"),
        (with_tenant(f"token_sha256: {TOKEN}, policies: [family]"), "never the token itself"),
        (with_tenant(f"{GOOD}, default_policy: other"), "not among its policies"),
        (with_tenant(f"token_sha256: {HASH}"), "at least one policy"),
        (with_tenant(f"{GOOD}, weight: .nan"), "weight"),
        (with_tenant(f"{GOOD}, weight: 0"), "weight"),
        (with_tenant(f"{GOOD}, max_concurrent: 0"), "max_concurrent"),
        (with_tenant(f"{GOOD}, token: abc"), "token: this field is not known"),
        (with_tenant(f"{GOOD}, certificate_name: kids"), "tls.client_ca"),
        (with_tenant(GOOD, "grpc: 0.0.0.0:9001"), "tls_ends_elsewhere"),
        (with_tenant(GOOD, "grpc: 9001"), "grpc"),
        (with_tenant(GOOD, "grpc: 127.0.0.1:9000"), "must be three addresses"),
        (with_tenant(GOOD, "triton: 127.0.0.1:9001"), "must be three addresses"),
        (with_tenant(GOOD, "repository: ~nobody-here/r"), "repository: '~nobody-here/r' cannot be"),
        (with_tenant(GOOD, "http: 127.0.0.1:99999"), "host:port"),
        (with_tenant(GOOD, "grpc: null\nhttp: null"), "both off"),
        (with_tenant(GOOD, "tls: {certificate: no.pem, key: no.pem}"), "not a file"),
        (f"tenants:\n  - {{name: a, {GOOD}}}\n  - {{name: b, {GOOD}}}\n", "same token_sha256"),
        (f"tenants:\n  - {{name: a, {GOOD}}}\n  - {{name: a, {GOOD}}}\n", "same name"),
        (with_tenant(f"{GOOD}, policies: [base]"), "given twice"),
        ("tenants: []", "tenants"),
        ("- 1", 'the field "tenants"'),
        ("tenants: [", "not valid YAML"),
        ("tenants: !!python/object/apply:os.system [ls]", "not valid YAML"),
    ],
)
def test_what_is_wrong_is_said_without_the_token(tmp_path, text, sentence):
    with pytest.raises(InputError, match=sentence) as caught:
        settings_of(tmp_path, text)
    assert TOKEN not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_hold_no_certificate_are_named(tmp_path):
    (tmp_path / "a.pem").write_text("nothing")
    with pytest.raises(InputError, match="no certificate and its key"):
        settings_of(tmp_path, with_tenant(GOOD, "tls: {certificate: a.pem, key: a.pem}"))


def test_a_missing_file_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        load_settings(tmp_path / "none.yaml")


def test_paths_are_taken_from_the_settings_folder(tmp_path):
    settings = settings_of(tmp_path, with_tenant(GOOD, "repository: models"))
    assert settings.repository == tmp_path / "models"


def test_a_tenant_is_known_by_any_of_its_tokens():
    old, new = new_token(), new_token()
    who = Tenant(name="a", token_sha256=(token_sha256(old), token_sha256(new)), policies=("p",))
    credentials = Credentials([who])
    for token in (old, new):
        assert credentials.tenant(Presented(f"Bearer {token}")) is who
        assert credentials.tenant(Presented(f"bearer  {token} ")) is who
    assert old != new
    assert token_sha256(old) != old


@given(st.text(max_size=600))
def test_nothing_else_is_a_token(text):
    credentials = Credentials([Tenant(name="a", token_sha256=HASH, policies=("p",))])
    for header in (text, f"Bearer {text}", f"Bearer {HASH}"):
        with pytest.raises(Refusal) as caught:
            credentials.tenant(Presented(header))
        assert caught.value.status == "UNAUTHENTICATED"
        assert len(text) < 4 or text not in str(caught.value)


def test_a_certificate_names_a_tenant_and_a_token_must_not_contradict_it():
    a = Tenant(name="a", token_sha256=HASH, policies=("p",))
    b = Tenant(name="b", certificate_name="b.example", policies=("p",))
    credentials = Credentials([a, b])
    assert credentials.tenant(Presented(None, "b.example")) is b
    assert credentials.tenant(Presented(f"Bearer {TOKEN}", "unknown")) is a
    for presented in (
        Presented(f"Bearer {TOKEN}", "b.example"),
        Presented("Bearer wrong", "b.example"),
        Presented(None, "unknown"),
        Presented(None, None),
    ):
        with pytest.raises(Refusal, match="token"):
            credentials.tenant(presented)


@pytest.mark.parametrize("text", ["", "\n", "unsee_", " "])
def test_the_hash_of_no_token_is_refused(tmp_path, text):
    line = f"token_sha256: {token_sha256(text)}, policies: [family]"
    with pytest.raises(InputError, match="no token"):
        settings_of(tmp_path, with_tenant(line))


def test_a_token_of_another_form_is_refused_whatever_its_hash():
    tenant = Tenant(name="a", token_sha256=token_sha256("guessable"), policies=["family"])
    with pytest.raises(Refusal):
        Credentials([tenant]).tenant(Presented("Bearer guessable"))


@pytest.mark.parametrize(("days", "known"), [(-1, False), (0, True), (1, True)])
def test_a_token_ends_after_its_last_day(tmp_path, days, known):
    last = datetime.now(UTC).date() + timedelta(days=days)
    line = f"token_sha256: {{sha256: {HASH}, expires: {last}}}, policies: [family]"
    credentials = Credentials(settings_of(tmp_path, with_tenant(line)).tenants)
    with contextlib.nullcontext() if known else pytest.raises(Refusal):
        credentials.tenant(Presented(f"Bearer {TOKEN}"))


def test_no_tenant_may_hold_more_than_half_of_the_calls():
    tenant = Tenant(name="a", token_sha256=HASH, policies=["family"], max_open_calls=1000)
    assert Limits().open_calls_of(tenant) == Limits().max_connections // 2
    assert Limits(max_connections=1).open_calls_of(tenant) == 1
