"""The documentation site: its navigation is complete, and it loads nothing from other servers."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONFIG = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
PAGES = re.findall(r"(?m)^ +- .*?([\w/.-]+\.md)$", CONFIG.partition("\nnav:")[2])


def test_navigation_lists_every_page_once():
    assert len(set(PAGES)) == len(PAGES)
    assert {path.name for path in (ROOT / "docs").glob("*.md")} <= set(PAGES)


@pytest.mark.parametrize("page", PAGES)
def test_pages_of_the_navigation_exist(page):
    path = "README.md" if page == "index.md" else page
    assert (ROOT / "docs" / path).exists() or (ROOT / path).exists()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    if find_spec("mkdocs") is None:
        pytest.skip("mkdocs is not installed")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    return folder


class Resources(HTMLParser):
    """Collects the addresses that a browser loads to show a page."""

    def __init__(self):
        super().__init__()
        self.addresses = []

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        if tag in ("script", "img", "iframe", "source"):
            self.addresses.append(values.get("src") or "")
        elif tag == "link" and values.get("rel") != "canonical":
            self.addresses.append(values.get("href") or "")


def test_site_loads_nothing_from_other_servers(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > len(PAGES)
    for page in pages:
        parser = Resources()
        parser.feed(page.read_text(encoding="utf-8"))
        assert len(parser.addresses) >= 3
        external = [address for address in parser.addresses if re.match(r"\w+:|//", address)]
        assert not [each for each in external if not each.startswith("data:")], page
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\(\s*['\"]?(https?:)?//", sheet.read_text(encoding="utf-8"))


def test_site_contains_the_web_page_of_the_default_model(site):
    """Unless ONNX Runtime Web cannot be downloaded, which the documentation mentions then."""
    if not (site / "try-it" / "index.html").exists():
        text = (site / "browser.html").read_text(encoding="utf-8")
        assert "not a part of this build" in text
        pytest.skip("no ONNX Runtime Web")
    assert (site / "try-it" / "model.json").exists()


def test_search_works_without_a_server(site):
    """The index is a script, and no polyfill is loaded from a CDN."""
    assert (site / "search" / "search_index.js").exists()
    assert (site / "assets" / "iframe-worker.js").exists()


def test_reference_has_every_public_name(site):
    page = (site / "reference.html").read_text(encoding="utf-8")
    for name in ("load", "PoseEstimator.video", "Poses.visible", "Skeleton.colors", "decode"):
        assert f'id="bodyposenet.{name}"' in page
