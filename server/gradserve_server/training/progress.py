"""How far training is, in one line of text."""

import sys
import time

from gradserve_server.training.perceptual import Terms

BAR = 24
"""Letters of the bar."""

INTERVAL_SECONDS = 0.5
INTERVAL_SECONDS_OF_LOGS = 10.0
"""Time between lines: on a terminal each takes the last one's place, elsewhere they pile up."""


class Progress:
    """Shows steps on the standard error. Between two lines it waits for no device.

    Args:
        steps: Number of steps in all.
        speaks: Whether to show anything.
    """

    def __init__(self, steps: int, *, speaks: bool = True) -> None:
        self._steps = steps
        self._speaks = speaks
        self._terminal = sys.stderr.isatty()
        self._began = self._shown = time.monotonic()
        self._first: int | None = None

    def step(self, step: int, terms: Terms) -> None:
        """Takes note of a step."""
        now = time.monotonic()
        first = self._first = step - 1 if self._first is None else self._first
        interval = INTERVAL_SECONDS if self._terminal else INTERVAL_SECONDS_OF_LOGS
        if not self._speaks or (now - self._shown < interval and step < self._steps and step > first + 1):
            return
        self._shown = now
        bar = "#" * (BAR * step // self._steps)
        left = round((now - self._began) / (step - first) * (self._steps - step))
        line = (
            f"[{bar:.<{BAR}}] {step}/{self._steps}  loss {float(terms.total.detach()):.3f}: content "
            f"{float(terms.content):.3f}, style {float(terms.style):.3f}, total variation "
            f"{float(terms.total_variation):.3f}  {left // 60}:{left % 60:02d} left"
        )
        end = "\n" if not self._terminal or step == self._steps else ""
        print(f"\r{line:<120}" if self._terminal else line, end=end, file=sys.stderr, flush=True)

    def note(self, text: str) -> None:
        """Shows a line of text."""
        if self._speaks:
            print(text, file=sys.stderr, flush=True)
