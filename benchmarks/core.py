"""What the core costs, as ratios within one run: absolute times differ between machines, ratios hardly do.

Each pair is measured in turn, A B A B ..., so that a machine that slows down slows both; the median ratio counts.
"""

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from gradserve_server.scheduling.allocator import keep_freed_memory

ALLOCATOR = keep_freed_memory()

import torch  # noqa: E402

from gradserve_server.autograd.objective import class_score  # noqa: E402
from gradserve_server.autograd.passes import Bundle, Chunk, run  # noqa: E402
from gradserve_server.autograd.query import ActivationRule, Query  # noqa: E402
from gradserve_server.models.loading import embedded_spec, load  # noqa: E402

OUT = Path(__file__).parent / "out"
# Fewer pairs let the median of a noisy machine stray by a tenth.
REPEATS = 41


def main() -> None:
    """Prints a table of ratios and writes it to benchmarks/out/core.json."""
    device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"{name}; memory: {ALLOCATOR}; torch {torch.__version__}\n")
    with torch.no_grad():
        rows = _rows(load(embedded_spec(), device))
    print(f"{'what':64} {'ratio':>6}  bar")
    for what, ratio, bar in rows:
        print(f"{what:64} {ratio:6.2f}  {bar}")
    OUT.mkdir(exist_ok=True)
    results = [{"what": what, "ratio": round(ratio, 3), "bar": bar} for what, ratio, bar in rows]
    (OUT / "core.json").write_text(json.dumps({"device": name, "rows": results}, indent=2))


def _rows(model) -> list[tuple[str, float, str]]:
    def passes(*queries: Query) -> Callable[[], object]:
        """One pass; queries over the same rows are one bundle."""
        by_rows: dict[int, list[Query]] = {}
        for query in queries:
            by_rows.setdefault(id(query.rows), []).append(query)
        bundles = [Bundle(tuple(Chunk(query, 0, len(query.rows)) for query in same)) for same in by_rows.values()]
        return lambda: run(model, bundles)

    def images(count: int) -> torch.Tensor:
        values = torch.rand(count, 3, 224, 224, generator=torch.Generator().manual_seed(count))
        return values.to(model.device).contiguous(memory_format=torch.channels_last)

    def forward(count: int) -> Callable[[], object]:
        values = images(count)
        return lambda: model.module(values)

    found = []
    for count in (1, 8):
        rows, layer = images(count), model.default_layer
        cam = Query(rows, class_score(0), root=layer, capture=(layer,))
        ratio = _ratio(passes(cam), forward(count), model.device)
        found.append((f"Grad-CAM of {count} image(s) / one bare forward of them", ratio, "<= 1.15"))
    one = images(1)
    saliency = Query(one, class_score(0))
    guided = Query(one, class_score(0), rule=ActivationRule.GUIDED)
    found.append(("saliency / forward", _ratio(passes(saliency), forward(1), model.device), ""))
    found.append(("guided backprop / saliency", _ratio(passes(guided), passes(saliency), model.device), ""))
    alone = [passes(query) for query in (saliency, guided, Query(one, class_score(1)))]

    def one_by_one() -> None:
        for single in alone:
            single()

    shared = _ratio(passes(saliency, guided, Query(one, class_score(1))), one_by_one, model.device)
    found.append(("3 methods and targets of an image: shared forward / apart", shared, ""))
    eight = [Query(images(1).clone(), class_score(index)) for index in range(8)]
    singles = [passes(query) for query in eight]

    def eight_apart() -> None:
        for single in singles:
            single()

    batched = _ratio(passes(*eight), eight_apart, model.device)
    found.append(("8 callers' saliencies: one pass / 8 passes", batched, ""))
    return found


def _ratio(first: Callable[[], object], second: Callable[[], object], device: torch.device) -> float:
    first(), second()
    return statistics.median(_seconds(first, device) / _seconds(second, device) for _ in range(REPEATS))


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
