"""`make stubs`: every generated file of `clients/` and the tables of docs/reference/contract.md.

From `clients/contract/text_to_video.json` come its JSON Schema, the types of each language and the
tables; its own inputs and record, and the model's copy of the request's schema, come from
`unsee.core`; from tritonclient's descriptors comes the `.proto` file. Equal sources give equal
bytes.
"""

from __future__ import annotations

import json
from importlib.metadata import distribution
from pathlib import Path

import click
import jinja2
from caller_contract import Contract
from contract_of_code import with_inputs_and_record
from contract_tables import with_tables
from kserve_proto import kserve, proto_text
from languages import FILTERS

from unsee.core import request_schema
from unsee.core.files import write_file

ROOT = Path(__file__).parents[2]
TEMPLATES = Path(__file__).parent / "templates"
SOURCE = "clients/contract/text_to_video.json"
REQUEST_SCHEMA = "model_repository/text_to_video/1/text_to_video/request_schema.py"
SCHEMA = "clients/contract/text_to_video.schema.json"
PROTO = "clients/proto/grpc_service.proto"
PAGE = "docs/reference/contract.md"
TYPES = {
    "text_to_video.ts": "clients/typescript/src/text_to_video.ts",
    "TextToVideo.java": "clients/java/src/main/java/unsee/TextToVideo.java",
}
"""Templates, and what they make."""


def generated(root: Path = ROOT) -> dict[str, bytes]:
    """Every generated file by its path under `root`, whose sources are read."""
    source = with_inputs_and_record((root / SOURCE).read_text(encoding="utf-8"))
    contract = Contract.model_validate_json(source)
    notice = distribution("tritonclient").read_text("licenses/LICENSE.txt") or ""
    files = {
        SOURCE: source,
        REQUEST_SCHEMA: Path(request_schema.__file__).read_text(encoding="utf-8"),
        SCHEMA: json.dumps(Contract.model_json_schema(), indent=2) + "\n",
        PROTO: f"{_commented(notice)}\n{proto_text(kserve())}",
        "clients/proto/LICENSE": notice,
        PAGE: with_tables((root / PAGE).read_text(encoding="utf-8"), contract),
    }
    files |= {path: _filled(template, contract) for template, path in TYPES.items()}
    return {path: text.encode() for path, text in files.items()}


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


def _commented(notice: str) -> str:
    """The licence's text, of which every line is a `#` comment, as one of `.proto`."""
    head = "// KServe v2, cut to what callers of text_to_video need; made by `make stubs`."
    lines = (line.removeprefix("#").rstrip() for line in notice.rstrip().splitlines())
    return "\n".join([head, "//", *(f"//{line}" for line in lines)]) + "\n"


@click.command()
@click.option("--check", is_flag=True, help="Write nothing; fail if a file is stale.")
def main(check: bool) -> None:
    """Generate the clients' types and protocol from the contract."""
    for name, content in generated().items():
        file = ROOT / name
        if not check:
            if write_file(file, content):
                click.echo(f"wrote {name}")
        elif not file.is_file() or file.read_bytes() != content:
            raise click.ClickException(f"{name} is stale; run: make stubs")


if __name__ == "__main__":
    main()
