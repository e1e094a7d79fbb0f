"""The documentation site builds without a warning, and a browser that shows it asks nobody else for anything."""

import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from tests.docs.blocks import ROOT

from gradserve_server.programs.explain import METHODS

# Elements that fetch, with the attribute that says what.
FETCHES = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src", "video": "src"}
WITHOUT_PICTURE = {"attention_rollout"}  # the embedded network has no attention


class _Fetched(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if value and FETCHES.get(tag) == name]


@pytest.mark.docs
@pytest.mark.timeout(900)
def test_the_site_builds_strictly_and_fetches_nothing_from_elsewhere(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--keep-going", "--quiet", str(ROOT / "docs")]
    done = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pages = sorted(tmp_path.rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        parser = _Fetched()
        parser.feed(page.read_text(encoding="utf-8"))
        assert parser.found
        outside = [address for address in parser.found if "//" in address.split("?")[0]]
        assert outside == [], page.name
    for sheet in tmp_path.rglob("*.css"):
        text = sheet.read_text(encoding="utf-8")
        assert "url(http" not in text
        assert "@import" not in text, sheet.name
    assert 'id="gradserve.client.Client.explain"' in (tmp_path / "api.html").read_text(encoding="utf-8")


def test_every_method_has_a_picture_that_is_small() -> None:
    folder = ROOT / "docs/pictures/methods"
    assert {path.stem for path in folder.iterdir()} == set(METHODS) - WITHOUT_PICTURE
    assert max(path.stat().st_size for path in (ROOT / "docs").rglob("*.webp")) < 300_000


def test_the_reference_of_the_contract_is_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts/contract_reference.py"), "--check"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
