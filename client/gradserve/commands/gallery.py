"""A page of explained images that needs no other file."""

from collections.abc import Sequence
from html import escape
from types import TracebackType
from typing import IO, Self

from gradserve.figure import figure
from gradserve.images import ImageLike, from_image
from gradserve.results import ClassScore, Explanation, Metadata

SIDE = 640
"""Longest side of a picture in pixels."""

HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --ink: #1c1f23; --soft: #68707a; --paper: #f6f7f8; --card: #fff; --line: #e2e5e9;
  --bar: #3b6fb6; --bad: #b3261e }}
@media (prefers-color-scheme: dark) {{ :root {{ --ink: #e8eaed; --soft: #9aa3ad; --paper: #16181b; --card: #1f2226;
  --line: #33383e; --bar: #7aa6e0; --bad: #ff8a80 }} }}
* {{ box-sizing: border-box }}
body {{ font: 15px/1.45 system-ui, sans-serif; margin: 0 auto; max-width: 90rem; padding: 1.5rem; color: var(--ink);
  background: var(--paper) }}
h1 {{ font-size: 1.4rem; margin: 0 }} h2 {{ font-size: 1.05rem; margin: 0; overflow-wrap: anywhere }}
.facts {{ color: var(--soft); margin: .2rem 0 1.5rem }}
section {{ background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 1rem;
  margin: 0 0 1rem }}
.row {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(16rem, 1fr)); gap: 1rem; margin-top: .7rem }}
figure {{ margin: 0 }} figure.large {{ grid-column: 1 / -1; justify-self: start }}
img {{ width: 100%; display: block; border-radius: 6px; cursor: zoom-in }} .large img {{ cursor: zoom-out }}
figcaption {{ font-size: .85rem; margin-top: .35rem; color: var(--soft) }}
strong {{ color: var(--ink); font-weight: 600 }}
table {{ border-collapse: collapse; width: 100%; font-size: .85rem }} td {{ padding: .1rem .6rem .1rem 0; width: 100% }}
td:last-child {{ text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; padding-right: 0 }}
.bar {{ height: .3rem; border-radius: 2px; background: var(--line) }}
.bar i {{ display: block; height: 100%; border-radius: 2px; background: var(--bar) }}
.error {{ color: var(--bad); margin: .4rem 0 0 }}
</style></head><body>
<h1>{title}</h1>
"""
FOOT = """<script>
document.addEventListener("click", event => {
  if (event.target.tagName === "IMG") event.target.parentElement.classList.toggle("large");
});
</script></body></html>
"""


class Gallery:
    """Writes the page image by image, so that none of them is kept.

    Args:
        file: Where to.
        title: What to call the page.
    """

    def __init__(self, file: IO[str], title: str) -> None:
        self._file = file
        self._title = title
        self._described = False

    def __enter__(self) -> Self:
        self._file.write(HEAD.format(title=escape(self._title)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.write(FOOT)

    def add(self, name: str, image: ImageLike, explanations: Sequence[Explanation]) -> None:
        """Adds an image and its explanations, which are of one request."""
        self._describe(explanations[0].metadata)
        pictures = [figure(one.overlay, _caption(one), size=SIDE) for one in explanations if one.overlay is not None]
        predicted = _predictions(explanations[0].predictions)
        try:
            original = figure(from_image(image), ["image"], size=SIDE)
        except OSError:
            # The server's decoder reads what this one cannot; the explanations are there all the same.
            original = "<figure><figcaption><strong>image</strong></figcaption></figure>"
        original = original.replace("<strong>image</strong>", predicted)
        self._section(name, f'<div class="row">{"".join([original, *pictures])}</div>')

    def fail(self, name: str, error: Exception) -> None:
        """Adds an image that could not be explained."""
        self._section(name, f'<p class="error">{escape(str(error))}</p>')

    def _section(self, name: str, inside: str) -> None:
        self._file.write(f"<section><h2>{escape(name)}</h2>{inside}</section>\n")

    def _describe(self, facts: Metadata) -> None:
        if not self._described:
            computed = f"{escape(facts.model)} {facts.model_version[:12]}, {facts.precision} on {facts.device}"
            self._file.write(f'<p class="facts">{computed}. A click enlarges a picture.</p>\n')
        self._described = True


def _caption(explanation: Explanation) -> list[str]:
    lines = [explanation.title]
    if explanation.layers:
        lines.append(f"layer {', '.join(explanation.layers)}")
    if explanation.approximation_error is not None:
        lines.append(f"approximation error {explanation.approximation_error:.1%}")
    if explanation.trust:
        lines.append(explanation.trust.summary)
    return lines


def _predictions(scores: Sequence[ClassScore]) -> str:
    rows = "".join(
        f"<tr><td>{escape(score.label or f'class {score.index}')}"
        f'<div class="bar"><i style="width:{100 * score.probability:.1f}%"></i></div></td>'
        f"<td>{score.probability:.1%}</td></tr>"
        for score in scores
    )
    return f"<table>{rows}</table>"
