"""Bars that show how far a command is, on the standard error, if that is a terminal."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from gradserve import progress
from gradserve.running import Running

Result = TypeVar("Result")


@contextmanager
def bar(total: int | None) -> Iterator[Callable[[int, int | None, str], None]]:
    """Shows a bar; what is called with how many are done, of how many, and a remark."""
    console = Console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("{task.fields[remark]}"))
    # What a terminal shows of the standard output goes above the bar; a file must get it itself.
    shown = Progress(*columns, console=console, disable=not console.is_terminal, redirect_stdout=sys.stdout.isatty())
    with shown:
        task = shown.add_task("", total=total, remark="")
        yield lambda done, of, remark: shown.update(task, completed=done, total=of, remark=remark)


def follow(running: Running[Result], seen: Callable[[progress.Progress], None] = lambda step: None) -> Result:
    """Shows the steps of a call and returns its result.

    Args:
        running: The call.
        seen: Called with each step.

    Raises:
        GradserveError: The call failed.
    """
    with running, bar(None) as show:
        for event in running:
            if isinstance(event, progress.Progress):
                show(event.step, event.step_count, f"value {event.value:.4g}")
                seen(event)
        return running.result()
