"""The fenced blocks of the documents, found as a Markdown reader finds them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        document: The file, relative to the root of the tree.
        line: Line of its fence, from 1.
        language: What the fence says.
        text: What is in it.
        before: The paragraph before it; empty where something else is.
    """

    document: str
    line: int
    language: str
    text: str
    before: str

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"


def documents(root: Path = ROOT) -> list[Path]:
    """Returns the documents whose blocks are tried."""
    return [root / "README.md", root / "CONTRIBUTING.md", root / "deploy/README.md", *sorted(root.glob("docs/**/*.md"))]


def blocks(document: Path, root: Path = ROOT) -> Iterator[Block]:
    """Yields the blocks of a document in order."""
    before = ""
    for token in MarkdownIt("commonmark").parse(document.read_text(encoding="utf-8")):
        if token.type == "inline":
            before = token.content
        elif token.type == "fence" and token.map is not None:
            yield Block(str(document.relative_to(root)), token.map[0] + 1, token.info.strip(), token.content, before)
            before = ""
