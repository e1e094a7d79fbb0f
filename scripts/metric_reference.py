"""Writes docs/metrics.md from the metrics in the code; `--check` says whether it is up to date."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from prometheus_client import Histogram
from prometheus_client.metrics import MetricWrapperBase

from gradserve_server.observability.metrics import Metrics

TARGET = Path(__file__).parents[1] / "docs/metrics.md"

HEAD = """# Metrics

What `/metrics` exposes. Written by `scripts/metric_reference.py` from `gradserve_server/observability/metrics.py`;
after a change there, `make generate`. Names and labels of `grpc_server_*` follow go-grpc-middleware.

| metric | kind | labels | what it is |
|---|---|---|---|
"""


def reference() -> str:
    """Returns the page."""
    return HEAD + "".join(
        f"| `{name}` | {kind} | {labels} | {text} |\n" for name, kind, labels, text in sorted(_rows(Metrics()))
    )


def _rows(metrics: Metrics) -> Iterator[tuple[str, str, str, str]]:
    # The registry exposes samples only; label names and buckets are the collectors' own, which have no public names.
    for collector in list(metrics.registry._collector_to_names):
        if not isinstance(collector, MetricWrapperBase):
            continue
        (family, *_) = collector.describe()
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = ", ".join(f"`{label}`" for label in collector._labelnames)
        text = family.documentation
        if isinstance(collector, Histogram):
            bounds = ", ".join(f"{bound:g}" for bound in collector._kwargs.get("buckets", collector.DEFAULT_BUCKETS))
            text += f" Buckets: {bounds}."
        yield name, family.type, labels, text


def main() -> int:
    """Writes or checks the page; returns 1 if a check fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail if the page is out of date")
    check = parser.parse_args().check
    text = reference()
    if check:
        if not TARGET.exists() or TARGET.read_text(encoding="utf-8") != text:
            print(f"{TARGET.name} is out of date: run `make generate`", file=sys.stderr)
            return 1
        return 0
    TARGET.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
