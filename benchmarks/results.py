"""What benchmarks write: rows with their bars, and the machine they were measured on, in benchmarks/out/NAME.json."""

import importlib.metadata
import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

OUT = Path(__file__).parent / "out"


@dataclass(frozen=True)
class Row:
    """One thing measured.

    Attributes:
        what: What it is.
        value: The number; None for what was not measured.
        bar: What it should be, `<= NUMBER` or `>= NUMBER`; empty for no bar.
        unit: Unit of the number; empty for a ratio.
    """

    what: str
    value: float | None
    bar: str = ""
    unit: str = ""

    @property
    def verdict(self) -> str:
        """Returns whether the bar is met, in a word; empty without a bar."""
        if not self.bar:
            return ""
        if self.value is None:
            return "unmeasured"
        sign, number = self.bar.split()[:2]
        bound = float(number)
        return "met" if (self.value <= bound if sign == "<=" else self.value >= bound) else "MISSED"

    @property
    def shown(self) -> str:
        """Returns the number for people."""
        return "" if self.value is None else f"{self.value:.3g} {self.unit}".strip()


def show(rows: Sequence[Row]) -> None:
    """Prints a table."""
    width = max(len(row.what) for row in rows)
    for row in rows:
        print(f"{row.what:{width}}  {row.shown:>10}  {row.bar:9} {row.verdict}", flush=True)


def save(name: str, rows: Sequence[Row], **details: Any) -> None:
    """Writes rows and details to benchmarks/out/NAME.json."""
    OUT.mkdir(exist_ok=True)
    written = {"machine": machine(), "rows": [asdict(row) for row in rows], **details}
    (OUT / f"{name}.json").write_text(json.dumps(written, indent=1))


def machine() -> dict[str, str]:
    """Returns what numbers depend on."""
    return {
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else str(os.cpu_count()),
        "python": platform.python_version(),
        "torch": importlib.metadata.version("torch"),
        "allocator": _allocator(),
        "date": datetime.now(UTC).date().isoformat(),
    }


def _allocator() -> str:
    """Returns which allocator this process has, and so those that it starts."""
    mapped = Path("/proc/self/maps")
    return "tcmalloc" if mapped.exists() and "libtcmalloc" in mapped.read_text() else "C library's allocator"


def _processor() -> str:
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text().splitlines() if facts.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
