"""The documentation site: Sphinx reads the Markdown that a reader of the repository reads too."""

import re
import tomllib
from pathlib import Path

from sphinx.application import Sphinx

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

project = PROJECT["name"]
version = release = PROJECT["version"]
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]

myst_heading_anchors = 3

autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False
# Attributes of a dataclass are documented where it is declared; not a second time.
napoleon_use_ivar = True

html_theme = "furo"
html_title = f"{project} {version}"
html_favicon = "../server/gradserve_server/ui/static/icon.svg"
html_show_sphinx = False
html_copy_source = False

OUTSIDE = re.compile(r"\[([^\]]*)\]\(\.\./([^)#]*)(#[^)]*)?\)")
"""A link to what is in the repository, but not on the site."""


def _from_inside(app: Sphinx, name: str, source: list[str]) -> None:
    """Makes of a link to a file of the repository its path, and of one from `deploy/` to a page of the site a link."""

    def place(link: re.Match[str]) -> str:
        text, path, anchor = link[1], link[2], link[3] or ""
        if path.startswith("docs/"):
            return f"[{text}]({path.removeprefix('docs/')}{anchor})"
        if path == "deploy/README.md":
            return f"[{text}](deploy.md{anchor})"
        return text if path in text else f"{text} (`{path}`)"

    if "/" not in name:
        source[0] = OUTSIDE.sub(place, source[0])


def _included(app: Sphinx, path: Path, name: str, source: list[str]) -> None:
    _from_inside(app, name, source)


def setup(app: Sphinx) -> None:
    """Adds the reading of links."""
    app.connect("source-read", _from_inside)
    app.connect("include-read", _included)
