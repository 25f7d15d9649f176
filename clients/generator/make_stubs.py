"""`make stubs`: every generated file of `clients/`, and docs/reference/contract.md.

From `clients/contract/text_to_video.json` come the types of each language and the page; its own
inputs and record come from `unsee.core`. Equal sources give equal bytes.
"""

from __future__ import annotations

from pathlib import Path

import click
import jinja2
from caller_contract import Contract
from contract_of_code import with_inputs_and_record
from languages import FILTERS

from unsee.core.files import write_file

ROOT = Path(__file__).parents[2]
TEMPLATES = Path(__file__).parent / "templates"
SOURCE = "clients/contract/text_to_video.json"
MADE = {
    "text_to_video.ts": "clients/typescript/src/text_to_video.ts",
    "TextToVideo.java": "clients/java/src/main/java/unsee/TextToVideo.java",
    "contract.md": "docs/reference/contract.md",
}
"""Templates, and what they make."""


def generated(root: Path = ROOT) -> dict[str, bytes]:
    """Every generated file by its path under `root`, whose sources are read."""
    source = with_inputs_and_record((root / SOURCE).read_text(encoding="utf-8"))
    contract = Contract.model_validate_json(source)
    made = {path: _filled(template, contract) for template, path in MADE.items()}
    return {path: text.encode() for path, text in {SOURCE: source, **made}.items()}


def _filled(template: str, contract: Contract) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= FILTERS
    return environment.get_template(f"{template}.j2").render(contract=contract)


@click.command()
@click.option("--check", is_flag=True, help="Write nothing; fail if a file is stale.")
def main(check: bool) -> None:
    """Generate the clients' types and the contract's page."""
    for name, content in generated().items():
        file = ROOT / name
        if not check:
            if write_file(file, content):
                click.echo(f"wrote {name}")
        elif not file.is_file() or file.read_bytes() != content:
            raise click.ClickException(f"{name} is stale; run: make stubs")


if __name__ == "__main__":
    main()
