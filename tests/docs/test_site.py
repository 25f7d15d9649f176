"""The documents as a site: built without a warning, and complete without a network."""

import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest

from document_blocks import REPOSITORY, pages

pytestmark = pytest.mark.process

LOADED = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src"}
"""What a browser fetches by itself, and where the element says from."""
NOT_FETCHED = {"canonical", "next", "prev", "search", "index", "genindex"}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("sphinx", reason='needs pip install -e ".[docs]"')
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "--quiet", "--fail-on-warning", "--keep-going"]
    built = subprocess.run(
        [*command, "-c", "docs", "-d", str(folder / "doctrees"), ".", str(folder / "site")],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    return folder / "site"


class Fetched(HTMLParser):
    """Collects what a page makes a browser fetch."""

    def __init__(self):
        super().__init__()
        self.addresses = []

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if tag in LOADED and given.get("rel") not in NOT_FETCHED:
            self.addresses.append(given.get(LOADED[tag]) or "")


def test_every_page_is_in_it(site):
    for page in pages():
        assert (site / page.relative_to(REPOSITORY)).with_suffix(".html").is_file()
    assert "docs/index.html" in (site / "index.html").read_text()


def test_the_api_is_described_by_its_docstrings(site):
    page = (site / "docs/reference/api/client.html").read_text()
    assert 'id="unsee.client.Client.generate"' in page
    assert "Waits for the clip of" in page
    for page in (site / "docs/reference/api").glob("*.html"):
        text = page.read_text()
        assert "FieldInfo" not in text, page.name
        assert "Annotated[" not in text, page.name


def test_no_page_fetches_anything_from_elsewhere(site):
    for page in site.rglob("*.html"):
        fetched = Fetched()
        fetched.feed(page.read_text())
        for address in fetched.addresses:
            assert not re.match(r"(?:[a-z]+:)?//", address), f"{page.name}: {address}"
            file = address.partition("?")[0].partition("#")[0]
            assert not file or (page.parent / file).exists(), f"{page.name}: {address}"
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(?:https?:)?//|@import", sheet.read_text()), sheet.name
