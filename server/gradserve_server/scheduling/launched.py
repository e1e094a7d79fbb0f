"""How far a device may fall behind the thread that tells it what to do."""

import torch


class Launched:
    """The pass that was launched last, which a GPU may still be at.

    One pass ahead keeps a GPU busy. More would only make an urgent pass wait behind them, and let a pass seem to take
    as long as its launching.
    """

    def __init__(self) -> None:
        self._last: torch.cuda.Event | None = None

    def follow(self, device: torch.device) -> None:
        """Takes in that a pass was launched, and waits until the one before has ended. A CPU has always done all."""
        if device.type != "cuda":
            return
        launched = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]  # torch has none
        launched.record(torch.cuda.current_stream(device))
        if self._last is not None:
            self._last.synchronize()
        self._last = launched
