"""Kinds of values that several subcommands take, checked as soon as they are read.

A path may start with `~`, an address has no scheme, the name of a policy has its form. What is
wrong is reported in one sentence, before anything heavy is imported.
"""

from __future__ import annotations

import ipaddress
import math
import os
from pathlib import Path
from stat import S_ISDIR
from typing import Any, Literal

import click

from unsee.cli.completion import complete_policies, complete_revisions
from unsee.core.request_schema import WHOLE_NUMBERS
from unsee.core.sizes import LONGEST_S

GRPC_SCHEMES = ("unix", "dns", "ipv4", "ipv6", "xds")
"""What gRPC itself reads in front of an address."""
LONGEST_PORT = 5


class UserPath(click.Path):
    """A path as a person types it; it need not exist unless that is said.

    Args:
        is_there: whether it must exist.
        to_write: whether it, or the folder that it would be made in, must be writable.
    """

    def __init__(
        self,
        kind: Literal["path", "file", "folder"],
        *,
        is_there: bool = False,
        to_write: bool = False,
    ) -> None:
        super().__init__(exists=is_there, file_okay=kind != "folder", dir_okay=kind != "file")
        self.name = kind
        self._to_write = to_write

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        if not str(value):
            self.fail("it is empty; give a path", param, ctx)
        path = Path(value)
        try:
            path = path.expanduser()
            mode = path.stat().st_mode
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            mode = None
        except (OSError, RuntimeError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            self.fail(f"{str(value)[:80]!r} cannot be a path: {reason}", param, ctx)
        if mode is None and self.exists:
            self.fail(f"{path} is not there; give a {self.name} that is", param, ctx)
        if mode is not None and not self.file_okay and not S_ISDIR(mode):
            self.fail(f"{path} is a file; give a folder", param, ctx)
        if mode is not None and not self.dir_okay and S_ISDIR(mode):
            self.fail(f"{path} is a folder; give a file", param, ctx)
        if self._to_write:
            self._check_writable(path, param, ctx)
        return path

    def _check_writable(
        self, path: Path, param: click.Parameter | None, ctx: click.Context | None
    ) -> None:
        """Asks the nearest folder that exists, so that long work does not end in a refusal."""
        place = next(place for place in (path, *path.absolute().parents) if place.exists())
        if not place.is_dir():
            self.fail(f"{path} cannot be made: {place} is a file", param, ctx)
        if not os.access(place, os.W_OK | os.X_OK):
            self.fail(f"{path} cannot be written: no permission to write in {place}", param, ctx)


LARGEST_SHOWN = 2**31 - 1


class Whole(click.IntRange):
    """A whole number; what does not fit is said without signs of comparison.

    Args:
        low, high: the smallest and the largest; None: what 64 bits hold.
    """

    name = "integer"

    def __init__(self, low: int | None = None, high: int | None = None) -> None:
        super().__init__(low, high)

    def _describe_range(self) -> str:
        """For the help: what a datatype holds is no bound that a person needs to read."""
        own = [None if abs(b or 0) >= LARGEST_SHOWN else b for b in (self.min, self.max)]
        return _range_in_words(*own)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        lowest, highest = WHOLE_NUMBERS["INT64"]
        lowest = lowest if self.min is None else int(self.min)
        highest = highest if self.max is None else int(self.max)
        try:
            number = int(value)
        except ValueError:
            self.fail(f"{str(value)[:40]!r} is not a whole number", param, ctx)
        if number < lowest:
            self.fail(f"{str(value)[:40]} is too small; give {lowest} or more", param, ctx)
        if number > highest:
            self.fail(f"{str(value)[:40]} is too large; give {highest} or less", param, ctx)
        return number


class Number(click.FloatRange):
    """A finite number; what does not fit is said without signs of comparison."""

    name = "float"

    def _describe_range(self) -> str:
        return _range_in_words(self.min, self.max, above=self.min_open)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            self.fail(f"{str(value)[:40]!r} is not a finite number", param, ctx)
        if self.min is not None and (number < self.min or (self.min_open and number == self.min)):
            least = f"more than {self.min:g}" if self.min_open else f"{self.min:g} or more"
            self.fail(f"{number:g} is too small; give {least}", param, ctx)
        if self.max is not None and (number > self.max or (self.max_open and number == self.max)):
            most = f"less than {self.max:g}" if self.max_open else f"{self.max:g} or less"
            self.fail(f"{number:g} is too large; give {most}", param, ctx)
        return number


def _range_in_words(low: float | None, high: float | None, *, above: bool = False) -> str:
    """`"1 or more"`, `"0 to 50"`; empty where there is no bound."""
    if low is not None and high is not None:
        return f"{low:g} to {high:g}"
    if low is not None:
        return f"more than {low:g}" if above else f"{low:g} or more"
    return "" if high is None else f"{high:g} or less"


class Seconds(Number):
    """A time in seconds, at most `LONGEST_S`.

    Args:
        above_zero: whether 0 is refused.
    """

    def __init__(self, *, above_zero: bool = False) -> None:
        super().__init__(min=0, min_open=above_zero)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        seconds = super().convert(value, param, ctx)
        if seconds > LONGEST_S:
            self.fail(f"{seconds:g} is too large; give {LONGEST_S:.0f} or less", param, ctx)
        return seconds


class Address(click.types.StringParamType):
    """Host and gRPC port of a server, such as `127.0.0.1:8001`."""

    name = "host:port"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value).strip()
        scheme, _, place = text.partition(":")
        if scheme in GRPC_SCHEMES and place.strip("/"):
            return text
        if "://" in text:
            alone = place.strip("/").partition("/")[0]
            self.fail(
                f"{text} has a scheme, {scheme}://; "
                f"give host and gRPC port alone: {alone or '127.0.0.1:8001'}",
                param,
                ctx,
            )
        host, _, port = text.rpartition(":")
        is_number = port.isascii() and port.isdigit()
        if not host or not is_number or len(text.split()) > 1 or _is_bare_ipv6(text):
            name = f"[{text}]" if _is_bare_ipv6(text) else (host or text).strip(":/")
            example = "127.0.0.1" if name.isdigit() else name or "127.0.0.1"
            self.fail(
                f"{text!r} is not host and gRPC port; give both, such as {example}:8001", param, ctx
            )
        if len(port) > LONGEST_PORT or not 1 <= int(port) <= 65535:
            self.fail(f"{text[:80]} has the port {port[:20]}; ports go from 1 to 65535", param, ctx)
        return text


class PolicyName(click.types.StringParamType):
    """The name of a policy, completed with those of the repository."""

    name = "policy"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from pydantic import TypeAdapter, ValidationError

        from unsee.core import policy

        try:
            name: str = TypeAdapter(policy.PolicyName).validate_python(value)
        except ValidationError:
            if str(value).isdigit():
                self.fail(f"{value} is a number; the name of a policy comes first", param, ctx)
            self.fail(
                f"{value!r} cannot be the name of a policy; names are lower-case letters, digits "
                "and hyphens, such as family",
                param,
                ctx,
            )
        return name

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[click.shell_completion.CompletionItem]:
        return complete_policies(ctx, incomplete)


class Revision(Whole):
    """The number of a revision, completed with the eligible ones of the policy."""

    name = "revision"

    def __init__(self) -> None:
        super().__init__(1)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[click.shell_completion.CompletionItem]:
        return complete_revisions(ctx, incomplete)


def names_a_file(text: str) -> bool:
    """Whether what was meant to be words is the path of a file, such as `prompts.txt`."""
    # not Path.is_file, which raises on text that is longer than a path can be
    return bool(Path(text).suffix) and os.path.isfile(text)  # noqa: PTH113


PATH = UserPath("path")
FILE = UserPath("file")
FOLDER = UserPath("folder")
NEW_FOLDER = UserPath("folder", to_write=True)
OLD_FOLDER = UserPath("folder", is_there=True)
ADDRESS = Address()
POLICY = PolicyName()
REVISION = Revision()

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print the result as one JSON document on stdout."
)
url_option = click.option(
    "--url",
    type=ADDRESS,
    default="127.0.0.1:8001",
    show_default=True,
    help="Host and gRPC port of the server.",
)
base_option = click.option(
    "--base",
    "base_path",
    type=PATH,
    metavar="FOLDER",
    required=True,
    help="Folder of the base: the one with base.yaml.",
)


def _is_bare_ipv6(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).version == 6
    except ValueError:
        return False
