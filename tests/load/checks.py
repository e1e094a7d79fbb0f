"""Figures, each with the bound it must keep, and what holds of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Check:
    """One figure.

    Attributes:
        name: What was measured, with its unit.
        found: What was found.
        bound: What it is held to.
        at_least: Whether it must not be less than the bound; otherwise it must not be more.
    """

    name: str
    found: float
    bound: float
    at_least: bool = False

    @property
    def holds(self) -> bool:
        """Whether the figure keeps its bound; what is not a number does not."""
        return self.found >= self.bound if self.at_least else self.found <= self.bound

    def __str__(self) -> str:
        relation = "at least" if self.at_least else "at most"
        return f"{'pass' if self.holds else 'FAIL'}  {self.name}: {self.found:.4g}, {relation} {self.bound:.4g}"


def report(checks: Sequence[Check]) -> int:
    """Prints all checks and returns the exit status of a command: 0 if all hold."""
    print(*checks, sep="\n", flush=True)
    return 0 if all(check.holds for check in checks) else 1


def resident_mib(process: int) -> float:
    """Returns the resident memory of a process in MiB."""
    status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS:"))
