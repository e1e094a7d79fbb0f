"""Fills docs/performance.md from benchmarks/out/*.json: the tables between the markers, and the one that sums them up.

A table whose benchmark has not been run stays as it is. With --check, exits 1 where a table would change.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.results import OUT, Row

DOCUMENT = Path(__file__).parent.parent / "docs" / "performance.md"
Results = Mapping[str, Any]

_SUMMARY = re.compile(r"(<!-- summary -->\n).*?(<!-- end of summary -->)", re.DOTALL)
_SECTION = re.compile(r"^## ([^\n]+)$|<!-- (\w+) -->\n(.*?)<!-- end of \2 -->", re.DOTALL | re.MULTILINE)
_BARRED = re.compile(r"^\| (.+) \| (.+) \| ((?:<=|>=) .+) \| (met|MISSED) \|$", re.MULTILINE)


def main() -> None:
    """Writes the document, or compares it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parsed = parser.parse_args()
    before = DOCUMENT.read_text()
    after = filled(before, {path.stem: json.loads(path.read_text()) for path in sorted(OUT.glob("*.json"))})
    if parsed.check:
        sys.exit("docs/performance.md does not show benchmarks/out" if after != before else 0)
    DOCUMENT.write_text(after)


def filled(document: str, results: Mapping[str, Results]) -> str:
    """Returns the document with the tables of these results between `<!-- NAME -->` and `<!-- end of NAME -->`.

    Raises:
        ValueError: A benchmark's results have no place in the document.
    """
    for name, found in results.items():
        if name not in TABLES:
            continue
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end of {name} -->)", re.DOTALL)
        if not pattern.search(document):
            raise ValueError(f"the document has no markers for {name}")
        table = f"{TABLES[name](found)}\n\n{_machine(found)}\n"
        document = pattern.sub(lambda match, table=table: f"{match[1]}\n{table}\n{match[2]}", document)
    return _SUMMARY.sub(lambda match: f"{match[1]}\n{summary(document)}\n{match[2]}", document)


def summary(document: str) -> str:
    """Returns the table of how many bars each table of the document meets, and which it misses."""
    lines = ["| table | bars met | missed |", "|---|---|---|"]
    heading = ""
    for title, _, table in _SECTION.findall(document):
        heading = title or heading
        rows = _BARRED.findall(table)
        if rows:
            missed = "; ".join(f"{what}: {value} ({bar})" for what, value, bar, verdict in rows if verdict == "MISSED")
            met = sum(verdict == "met" for *_, verdict in rows)
            anchor = re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
            lines.append(f"| [{heading}](#{anchor}) | {met} of {len(rows)} | {missed} |")
    return "\n".join(lines) + "\n"


def _machine(found: Results) -> str:
    machine = found["machine"]
    torch = machine["torch"].partition("+")[0]
    device = f", {found['device']}" if "device" in found else ""
    allocator = f"; {machine['allocator']}" if "allocator" in machine else ""
    return f"{machine['processor']}, {machine['cores']} cores{device}; torch {torch}{allocator}; {machine['date']}."


def _rows(found: Results) -> str:
    lines = ["| what | measured | bar | |", "|---|---|---|---|"]
    for values in found["rows"]:
        row = Row(**values)
        lines.append(f"| {row.what} | {row.shown or 'unmeasured'} | {row.bar} | {row.verdict} |")
    return "\n".join(lines)


def _costs(found: Results) -> str:
    lines = [
        "| method | F | B | B to a layer | counted | measured | measured / counted |",
        "|---|---|---|---|---|---|---|",
    ]
    for cost in found["costs"]:
        count = cost["count"]
        numbers = f"{count['forward']} | {count['backward']} | {count['layer']}"
        ratio = cost["measured"] / cost["theory"]
        method = f"`{cost['method']}`" + ("" if cost["network"].startswith("embedded") else f" ({cost['network']})")
        lines.append(f"| {method} | {numbers} | {cost['theory']:.1f} | {cost['measured']:.1f} | {ratio:.2f} |")
    return "\n".join(lines)


def _peers(found: Results) -> str:
    text = _rows(found)
    text += f"\n\nSteps of integrated gradients: {found['steps']}; at equal error, {found['steps_at_equal_error']}. "
    text += "The settings that were the best for each peer:\n\n| peer | method | settings |\n|---|---|---|\n"
    text += "\n".join(
        f"| {peer} | {method} | {settings} |"
        for peer, chosen in found["settings"].items()
        for method, settings in chosen.items()
    )
    for peer, reason in found["failed"].items():
        text += f"\n\n{peer} could not be run: {' '.join(reason.split())[:200]}"
    return text


def _profile(found: Results) -> str:
    text = _rows(found) + "\n\n| of what the threads that compute run | where, outside torch's kernels |\n|---|---|\n"
    lines = [
        f"| {part:.2%} | {method}: `{what}` |" for method, rest in found["rest"].items() for what, part in rest.items()
    ]
    return text + "\n".join(lines)


TABLES: Mapping[str, Callable[[Results], str]] = {
    "core": _rows,
    "architectures": _rows,
    "company": _rows,
    "neighbor": _rows,
    "throughput": _rows,
    "server_per_core": _rows,
    "maximize_jobs": _rows,
    "large_images": _rows,
    "explain_stream": _rows,
    "overload": _rows,
    "gpu": _rows,
    "costs": _costs,
    "peers": _peers,
    "worker_profile": _profile,
}

if __name__ == "__main__":
    main()
