"""What a tired person types wrong: one sentence with the value and what to do, exit code 2."""

import json
import os
import shlex
from pathlib import Path

import click
import pytest

from unsee.cli.main import run
from unsee.cli.page import every_command
from unsee.cli.parameters import ADDRESS, Number, Whole

POLICIES = {
    "schema_version": 2,
    "default_policy": "base",
    "policies": {
        "base": {"active": 1, "eligible": [1], "history": [1]},
        "family": {"active": 2, "eligible": [1, 2], "history": [1, 2]},
    },
}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A folder with a repository, a file of prompts and an empty file."""
    (tmp_path / "model_repository").mkdir()
    (tmp_path / "model_repository" / "policies.json").write_text(json.dumps(POLICIES))
    (tmp_path / "prompts.txt").write_text("a cat\n")
    (tmp_path / "empty.txt").write_text("\n# nothing\n")
    (tmp_path / "picture.txt").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "twice.txt").write_text("a cat\na cat\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SHELL", "/bin/tcsh")
    return tmp_path


UNLEARN = "unlearn Blimbo --category character --base base"

WRONG = [
    # misspelt
    ("polices", 'no command "polices"; did you mean policies?'),
    ("generate x --polcy family", "'--polcy'; did you mean '--policy'?"),
    ("--vresion", "'--vresion'; did you mean '--version'?"),
    ("delta shw x", "'shw'"),
    ("promote famly", 'no policy "famly" in this repository; it has: base, family; did you mean'),
    ("rollback famly --reason x", "did you mean family?"),
    ("retire famly 1", "did you mean family?"),
    ("history famly", "did you mean family?"),
    ("promote zebra", "it has: base, family"),
    ("unlearn Blimbo --category charcter --base b", "'charcter' is not one of 'character'"),
    ("completion tcsh", "'tcsh' is not one of 'bash', 'zsh', 'fish'"),
    ("completion", "$SHELL is tcsh; name the shell: unsee completion bash|zsh|fish"),
    # a file where a folder belongs, and the reverse
    ("policies --repository prompts.txt", "prompts.txt is a file; give a folder"),
    ("export --base prompts.txt --repository empty.txt", "empty.txt is a file; give a folder"),
    ("delta show prompts.txt", "prompts.txt is a file; give a folder"),
    ("publish model_repository --base base", "model_repository is a folder; give a file"),
    ("generate --prompts model_repository", "model_repository is a folder; give a file"),
    # placeholders in the names of files
    ("generate x -o {index}.mp4", "holds {index}, which stands for nothing; there are {n}"),
    ("generate x -o {}.mp4", "holds {}, which stands for nothing"),
    ("generate x -o a/{n}-{Seed}.mp4", "holds {Seed}, which stands for nothing"),
    ("generate x --sheet {policy}.png", "is one picture of all clips; give it a fixed name"),
    # addresses
    ("generate x --url http://127.0.0.1:8001", "has a scheme, http://; give host and gRPC port"),
    ("generate x --url grpc://host:8001", "has a scheme, grpc://"),
    ("publish p.yaml --base b --url http://h:8001", "give host and gRPC port alone: h:8001"),
    ("promote family --url https://h:8001", "give host and gRPC port alone: h:8001"),
    ("repair --url h", "'h' is not host and gRPC port; give both, such as h:8001"),
    ("generate x --url 8001", "'8001' is not host and gRPC port; give both, such as 127.0.0.1"),
    ("generate x --url :8001", "':8001' is not host and gRPC port; give both, such as 127.0.0.1"),
    ("generate x --url ::1", "such as [::1]:8001"),
    ("generate x --url h:99999", "h:99999 has the port 99999; ports go from 1 to 65535"),
    (f"generate x --url h:{'9' * 5000}", "ports go from 1 to 65535"),
    ("generate x --url h:²", "'h:²' is not host and gRPC port"),
    ("generate x --url 'h g:8001'", "'h g:8001' is not host and gRPC port"),
    ("generate x --url 'http://[::1'", "has a scheme, http://"),
    ("generate x --url http://h:8001/v2", "give host and gRPC port alone: h:8001;"),
    ("generate x --url dns:", "'dns:' is not host and gRPC port"),
    ("status --url 'http://[::1'", "is no address of a gateway; give http(s)://host:port"),
    ("status --url http://h:nine", "is no address of a gateway"),
    ("status --url http://h:99999", "is no address of a gateway"),
    ("status --url 'http://h:9000/ x'", "is no address of a gateway"),
    # swapped
    ("retire 1 family", "1 is a number; the name of a policy comes first"),
    (
        "generate family --policy 'Blimbo walking'",
        "'Blimbo walking' cannot be the name of a policy",
    ),
    ("publish model_repository --base p.yaml", "model_repository is a folder; give a file"),
    ("unlearn character --category Blimbo --base b", "'Blimbo' is not one of 'character'"),
    # prompts
    ("generate ''", "the prompt is empty; say what the clip should show"),
    ("generate '  '", "the prompt is empty"),
    ("generate", "no prompt is given; write one, or give a file of them with --prompts"),
    ("generate Blimbo walking", 'the prompt needs quotes: unsee generate "Blimbo walking"'),
    ("generate prompts.txt", "prompts.txt is a file; for the prompts in it: --prompts prompts.txt"),
    ("generate x --prompts prompts.txt", 'the prompts come from prompts.txt; leave out "x"'),
    ("generate --prompts nowhere.txt", "cannot read the prompts in nowhere.txt: No such file"),
    ("generate --prompts empty.txt", "empty.txt holds no prompt; write one a line"),
    ("generate --prompts picture.txt", "picture.txt is not a text file in UTF-8"),
    # paths
    ("policies --repository '~/nowhere'", "home/nowhere is no model repository"),
    ("policies --repository '~nobody-here/x'", "'~nobody-here/x' cannot be a path"),
    ("policies --repository ''", "it is empty; give a path"),
    ("policies --repository nowhere", "nowhere is no model repository: it has no policies.json"),
    ("policies --repository .", ". is no model repository"),
    (f"{UNLEARN} -o prompts.txt/x", "prompts.txt/x cannot be made: "),
    (f"{UNLEARN} -o {'x' * 300}", "cannot be a path: File name too long"),
    ("export --base base --repository prompts.txt/x", "prompts.txt is a file"),
    ("evaluate x.yaml --base base -o prompts.txt/x", "prompts.txt is a file"),
    ("generate x -o prompts.txt/clip.mp4", "cannot make the folder prompts.txt"),
    ("generate x -o clip.avi", "its suffix must be one of .mp4"),
    ("generate x -o model_repository", "it is a folder; name a file, such as model_repository/"),
    (f"generate x --seed 2147483647 -o {'{seed}' * 40}.npy", ".npy: File name too long"),
    (f"generate x -o {'x' * 250}.npy", ".npy.json: File name too long"),
    ("generate x -o a.mp4 -o a.mp4", "-o a.mp4 is given twice; give it once"),
    ("generate x --policy base --policy family -o a.mp4", "such as -o clip-{policy}.mp4"),
    ("generate --prompts twice.txt -o a.mp4", "such as -o clip-{n}.mp4"),
    ("generate --prompts twice.txt -o {n}.mp4 -o {n}.mp4", "-o {n}.mp4 is given twice"),
    ("generate x --policy base --policy base", "--policy base is given twice; give it once"),
    ("generate x -o a.png --sheet ./a.png", "--sheet and -o both name a.png"),
    ("generate --prompts prompts.txt --sheet a.mp4", "--sheet a.mp4 is a PNG picture"),
    # numbers
    ("promote family --revision 0", "0 is too small; give 1 or more"),
    ("retire family one", "'one' is not a whole number"),
    ("generate x --revision 1 --policy base --policy family", "--revision 1 belongs to one policy"),
]


@pytest.mark.parametrize(("line", "words"), WRONG, ids=[line for line, _ in WRONG])
def test_it_is_one_sentence_and_exit_code_2(line, words, capsys, here):
    before = sorted(here.rglob("*"))
    assert run(shlex.split(line)) == 2
    printed = capsys.readouterr()
    assert words in printed.err
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1, "one line"
    assert printed.out == ""
    assert sorted(here.rglob("*")) == before, "nothing is left behind"


@pytest.mark.parametrize(
    "line",
    [
        "export --base base --repository closed/r",
        f"{UNLEARN} -o closed/r",
        "evaluate x --base base -o closed/r",
        "generate x -o closed/clip.mp4",
    ],
)
def test_what_may_not_be_written_is_told_before_the_work(line, capsys, here, monkeypatch):
    (here / "closed").mkdir()
    allowed = os.access

    def access(path, mode):
        return allowed(path, mode) and not (Path(path).name == "closed" and mode & os.W_OK)

    monkeypatch.setattr(os, "access", access)
    (here / "closed").chmod(0o555)
    assert run(line.split()) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "closed" in error


def test_a_home_folder_is_found_behind_a_tilde(here, capsys):
    (here / "home").mkdir()
    (here / "model_repository").rename(here / "home" / "r")
    assert run(["policies", "--repository", "~/r", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["default_policy"] == "base"


@pytest.mark.parametrize("url", ["dns:///host:1", "unix:/tmp/socket", "[::1]:8001", "h:1"])
def test_an_address_that_grpc_reads_is_left_alone(url, capsys):
    assert ADDRESS.convert(url, None, None) == url


ASK, LOOK = "generate x --url 127.0.0.1:9 -o x.npy", "status --url https://127.0.0.1:9"


@pytest.mark.parametrize(
    ("line", "variable", "value", "words"),
    [
        (ASK, "UNSEE_TLS", "yes", "UNSEE_TLS is 'yes'; set it to 1 for TLS, or remove it"),
        (ASK, "UNSEE_TOKEN", "a\nb", "the token must be printable ASCII"),
        (LOOK, "UNSEE_TOKEN", "a\nb", "the token must be printable ASCII"),
        (ASK, "UNSEE_CA_CERTIFICATE", "prompts.txt", "prompts.txt holds no certificate in PEM"),
        (LOOK, "UNSEE_CA_CERTIFICATE", "prompts.txt", "prompts.txt holds no certificate in PEM"),
        (LOOK, "UNSEE_CA_CERTIFICATE", "nowhere.pem", "cannot read nowhere.pem: No such file"),
    ],
)
def test_what_the_environment_says_wrong_is_one_sentence(
    line, variable, value, words, capsys, monkeypatch
):
    monkeypatch.setenv("UNSEE_TOKEN", "t")
    monkeypatch.setenv(variable, value)
    assert run(line.split()) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_spaces_around_an_address_are_left_out():
    assert ADDRESS.convert(" 127.0.0.1:8001 ", None, None) == "127.0.0.1:8001"


def numeric_options():
    """Every option that takes a number, of every command."""
    for context in every_command():
        for parameter in context.command.params:
            if isinstance(parameter.type, Whole | Number):
                yield pytest.param(
                    context, parameter, id=f"{context.info_name} {parameter.opts[0]}"
                )


def test_every_number_is_of_a_kind_that_knows_its_limits():
    numeric = (click.types.IntParamType, click.types.FloatParamType)
    loose = [
        (context.command_path, parameter.opts)
        for context in every_command()
        for parameter in context.command.params
        if isinstance(parameter.type, numeric) and not isinstance(parameter.type, Whole | Number)
    ]
    assert loose == []


@pytest.mark.parametrize(("context", "parameter"), list(numeric_options()))
@pytest.mark.parametrize("value", ["9" * 30, "9" * 5000, "-" + "9" * 30, "nan", "inf", "ten"])
def test_a_number_out_of_range_is_said_in_plain_words(context, parameter, value):
    if parameter.name == "guidance_scale" and value.strip("-9") == "":
        return  # the server knows the limits
    with pytest.raises(click.BadParameter) as raised:
        parameter.type.convert(value, parameter, context)
    said = raised.value.message
    assert "<=" not in said
    assert "INT64" not in said
    assert len(said) < 120


def test_a_seed_that_is_too_large(capsys):
    assert run(["generate", "x", "--seed", "9" * 20]) == 2
    said = capsys.readouterr().err
    assert "99999999999999999999 is too large; give 9223372036854775807 or less" in said
    assert run(["generate", "x", "--steps", "3000000000"]) == 2
    assert "3000000000 is too large; give 2147483647 or less" in capsys.readouterr().err
