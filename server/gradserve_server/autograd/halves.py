"""A pass in two halves, to be run side by side.

Rows do not need each other. Cores that share each operation wait for each other after each of some hundred, and all of
them for whatever takes one of them away; with halves of their own they wait once.
"""

from collections.abc import Callable, Sequence
from functools import partial

from gradserve_server.autograd.answer import Answer, join
from gradserve_server.autograd.passes import Bundle, distinct, run
from gradserve_server.models.model import Model

Half = Callable[[], list[tuple[Answer, ...]]]
Together = Callable[[Half, Half], tuple[list[tuple[Answer, ...]], list[tuple[Answer, ...]]]]
"""Runs two halves, at once or not, and returns what each returned."""


def run_halves(model: Model, bundles: Sequence[Bundle], together: Together) -> list[tuple[Answer, ...]]:
    """Runs one pass as `passes.run` does, in halves where its rows let it be divided.

    Args:
        model: The model. It is only read.
        bundles: Bundles whose keys agree.
        together: What runs the halves.

    Returns:
        For each bundle, the answers to its chunks in order.
    """
    unlike, places = distinct(bundles)
    first, second = halves(unlike)
    if not first or not second:
        return run(model, bundles)
    before, after = together(partial(run, model, first), partial(run, model, second))
    if len(first) + len(second) > len(unlike):
        before[-1] = tuple(join(pair) for pair in zip(before[-1], after.pop(0), strict=True))
    answers = before + after
    return [answers[number][chunks] for number, chunks in places]


def halves(bundles: Sequence[Bundle]) -> tuple[list[Bundle], list[Bundle]]:
    """Returns bundles with half of the rows, and those with the others.

    One that the middle falls into is cut, so that it is in both. Where its rows are coupled it goes, whole, where more
    of it lies.
    """
    first: list[Bundle] = []
    second: list[Bundle] = []
    middle = sum(bundle.row_count for bundle in bundles) // 2
    for bundle in bundles:
        rows = bundle.row_count
        if 0 < middle < rows and not bundle.couples_rows:
            before, after = bundle.cut(middle)
            first.append(before)
            second.append(after)
        else:
            (first if 2 * middle >= rows else second).append(bundle)
        middle -= rows
    return first, second
