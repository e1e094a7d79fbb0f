"""What the core costs, as ratios within one run: absolute times differ between machines, ratios hardly do.

Each pair is measured in turn, A B A B ..., so that a machine that slows down slows both; the median ratio counts.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from gradserve_server.scheduling.allocator import keep_freed_memory

ALLOCATOR = keep_freed_memory()

import torch  # noqa: E402
from benchmarks.results import Row, save, show  # noqa: E402

from gradserve_server.autograd.graphs import captured_at_once  # noqa: E402
from gradserve_server.autograd.objective import class_score  # noqa: E402
from gradserve_server.autograd.passes import Bundle, Chunk, run  # noqa: E402
from gradserve_server.autograd.query import ActivationRule, Query  # noqa: E402
from gradserve_server.models.loading import embedded_spec, load  # noqa: E402
from gradserve_server.models.model import Model  # noqa: E402

Work = Callable[[], object]
# Fewer pairs let the median of a noisy machine stray by a tenth.
REPEATS = 41


def main() -> None:
    """Prints a table of ratios and writes it to benchmarks/out/core.json."""
    device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"{name}; memory: {ALLOCATOR}; torch {torch.__version__}\n")
    found = rows(load(embedded_spec(), device))
    show(found)
    save("core", found, device=name)


def rows(model: Model, repeats: int = REPEATS) -> list[Row]:
    """Measures on a model's device; `repeats` pairs for each ratio."""
    with torch.no_grad(), captured_at_once():
        return _rows(model, lambda first, second: _ratio(first, second, model.device, repeats))


def _rows(model: Model, ratio: Callable[[Work, Work], float]) -> list[Row]:
    def passes(*queries: Query) -> Work:
        """One pass; queries over the same rows are one bundle."""
        by_rows: dict[int, list[Query]] = {}
        for query in queries:
            by_rows.setdefault(id(query.rows), []).append(query)
        bundles = [Bundle(tuple(Chunk(query, 0, len(query.rows)) for query in same)) for same in by_rows.values()]
        return lambda: run(model, bundles)

    def images(count: int) -> torch.Tensor:
        values = torch.rand(count, 3, 224, 224, generator=torch.Generator().manual_seed(count))
        return values.to(model.device).contiguous(memory_format=model.memory_format)

    def forward(count: int) -> Work:
        values, network = images(count), model.network(frozenset())
        return lambda: network(values)

    found = []
    for count in (1, 8):
        rows, layer = images(count), model.default_layer
        cam = Query(rows, class_score(0), root=layer, capture=(layer,))
        what = f"Grad-CAM of {count} image(s) / one bare forward of them"
        found.append(Row(what, ratio(passes(cam), forward(count)), "<= 1.15"))
        if (line := model.folded.line) is not None:
            along = partial(line.run, rows, {})
            found.append(Row(f"{what} without the modules", ratio(passes(cam), along), "<= 1.15"))
        if model.device.type == "cuda":
            found.append(Row(f"{what} that is replayed as a graph", ratio(passes(cam), _replayed(forward(count)))))
            for what, query in (("Grad-CAM", cam), ("saliency", Query(rows, class_score(0)))):
                launched = partial(run, replace(model, replay=False), [Bundle((Chunk(query, 0, count),))])
                found.append(Row(f"{what} of {count} image(s): replayed / launched", ratio(passes(query), launched)))
    one = images(1)
    saliency = Query(one, class_score(0))
    guided = Query(one, class_score(0), rule=ActivationRule.GUIDED)
    found.append(Row("saliency / forward", ratio(passes(saliency), forward(1))))
    found.append(Row("guided backprop / saliency", ratio(passes(guided), passes(saliency))))
    alone = [passes(query) for query in (saliency, guided, Query(one, class_score(1)))]

    def one_by_one() -> None:
        for single in alone:
            single()

    shared = ratio(passes(saliency, guided, Query(one, class_score(1))), one_by_one)
    found.append(Row("3 methods and targets of an image: shared forward / apart", shared))
    eight = [Query(images(1).clone(), class_score(index)) for index in range(8)]
    singles = [passes(query) for query in eight]

    def eight_apart() -> None:
        for single in singles:
            single()

    found.append(Row("8 callers' saliencies: one pass / 8 passes", ratio(passes(*eight), eight_apart)))
    return found


def _replayed(work: Work) -> Work:
    """Returns what replays what some work launches."""
    work()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay


def _ratio(first: Work, second: Work, device: torch.device, repeats: int) -> float:
    first(), second()
    return statistics.median(_seconds(first, device) / _seconds(second, device) for _ in range(repeats))


def _seconds(work: Work, device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
