"""The documents say what is true: links lead somewhere, options exist, examples are valid."""

import ast
import re
import shlex
from itertools import dropwhile
from urllib.parse import unquote

import click
import pytest
import yaml

from document_blocks import REPOSITORY, anchors, blocks, links, pages
from unsee.cli.main import unsee
from unsee.core.policy import Policy, Thresholds
from unsee.gateway.callers.settings import Settings
from unsee.models.spec import BaseSpec

PAGES = pages()
SHELL = ("", "sh", "bash", "console")
MODELS = {"tenants": Settings, "unsee": Policy, "t2v": BaseSpec}
"""Which model reads a YAML example, by a field that only such a file has."""


def page_id(page):
    return str(page.relative_to(REPOSITORY))


def every_block(*languages):
    found = [block for page in PAGES for block in blocks(page) if block.language in languages]
    return pytest.mark.parametrize("block", found, ids=[block.place for block in found])


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_link_leads_somewhere(page):
    for link in links(page):
        if re.match(r"(https?|mailto):", link):
            continue
        path, _, anchor = unquote(link).partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link}: there is no {target}"
        assert target.is_relative_to(REPOSITORY), f"{link} leaves the repository"
        if anchor:
            assert anchor in anchors(target), f"{link}: {target.name} has no such heading"


FILES = re.compile(r"(?<![\w/.-])(?:benchmarks|clients|deploy|playground|tests)/[\w./-]*\w\.\w+")
MADE_BY_THE_READER = "deploy/secrets/"
MODULES = re.compile(r"python3? -m (unsee[\w.]+)")


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_file_and_module_that_a_page_names_exists(page):
    text = page.read_text(encoding="utf-8")
    files = {file for file in FILES.findall(text) if not file.startswith(MADE_BY_THE_READER)}
    missing = {file for file in files if not (REPOSITORY / file).exists()}
    for module in MODULES.findall(text):
        path = module.replace(".", "/")
        if not any(REPOSITORY.glob(f"*/{path}.py")) and not any(REPOSITORY.glob(f"*/{path}/")):
            missing.add(module)
    assert not missing


def command_lines(text):
    """The words after `unsee` of every command in a shell block."""
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        line = re.sub(r"^docker compose .* operator ", "unsee ", line.strip().removeprefix("$ "))
        if re.search(r"\bunsee ", line.partition("#")[0]):
            yield from map(after_unsee, filter(is_ours, simple_commands(line)))


def simple_commands(line):
    """The words of each command of a line; operators end one, redirections are left out."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    command, redirected = [], False
    for word in [*lexer, ";"]:
        if set(word) <= set("();|&"):
            yield command
            command, redirected = [], False
        elif set(word) <= set("<>"):
            redirected = True
        elif redirected:
            redirected = False
        else:
            command.append(word)


def without_variables(words):
    return list(dropwhile(lambda word: re.match(r"\w+=", word), words))


def is_ours(words):
    return without_variables(words)[:1] == ["unsee"]


def after_unsee(words):
    return without_variables(words)[1:]


def parse(words):
    """Parse a command line with the real command, down to its last subcommand, and run nothing."""
    command, context = unsee, unsee.make_context("unsee", list(words))
    while isinstance(command, click.Group):
        rest = [*context._protected_args, *context.args]
        if not rest:
            return
        name, command, rest = command.resolve_command(context, rest)
        context = command.make_context(name, rest, parent=context)


@every_block(*SHELL)
def test_every_command_has_the_options_that_it_gets(block):
    for words in command_lines(block.text):
        try:
            parse(words)
        except click.exceptions.Exit:  # --help and --version
            pass
        except click.ClickException as error:
            pytest.fail(f"unsee {shlex.join(words)}: {error.format_message()}")


@pytest.mark.parametrize(
    "line",
    [
        "unsee publsh family.yaml",
        "unsee publish family.yaml --base b --promte",
        "UNSEE_TOKEN=x unsee generate 'a cat' --sedd 3 | cat",
        "unsee delta shw x",
        "docker compose -f x run --rm operator unsee promote",
    ],
)
def test_a_command_that_does_not_exist_would_be_found(line):
    (words,) = command_lines(line)
    with pytest.raises(click.ClickException):
        parse(words)


@every_block("python")
def test_every_python_example_compiles(block):
    ast.parse(block.text)


@every_block("yaml")
def test_every_yaml_example_is_read_by_what_reads_it(block):
    content = yaml.safe_load(block.text)
    for model in (model for field, model in MODELS.items() if field in content):
        model.model_validate(with_hashes(content) if model is Settings else content)
    if set(content) == {"thresholds"}:
        Thresholds.model_validate(content["thresholds"])


def with_hashes(settings):
    """`settings` with a distinct hash wherever a document has one cut short."""
    for number, tenant in enumerate(settings["tenants"]):
        if "token_sha256" in tenant:
            tenant["token_sha256"] = f"{number:064x}"
    return settings
