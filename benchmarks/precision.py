"""What sixteen bits cost and save: maps against those of float32, and the time of a pass, in one run.

On four photographs by the embedded model; each method at the parameters of tests/asking.py.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from gradserve_server.scheduling.allocator import keep_freed_memory

ALLOCATOR = keep_freed_memory()

import torch  # noqa: E402
from scipy.stats import spearmanr  # noqa: E402

from gradserve_server.autograd.objective import class_score  # noqa: E402
from gradserve_server.autograd.passes import Bundle, Chunk, run  # noqa: E402
from gradserve_server.autograd.query import Query  # noqa: E402
from gradserve_server.models.loading import embedded_spec, load  # noqa: E402
from gradserve_server.models.model import Model  # noqa: E402
from gradserve_server.programs.explain import METHODS  # noqa: E402
from gradserve_server.rpc.support import refusal, supported  # noqa: E402

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.asking import CHEAP  # noqa: E402
from tests.conftest import PHOTOGRAPHS  # noqa: E402
from tests.driving import answer_to  # noqa: E402
from tests.insertion import subject_of_photograph  # noqa: E402

OUT = Path(__file__).parent / "out"
ROWS = 8
REPEATS = 15


def main() -> None:
    """Prints a table and writes it to benchmarks/out/precision.json."""
    device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    names = ("bfloat16", "tf32") if device.type == "cuda" else ("bfloat16",)
    found: dict[str, object] = {"device": str(device)}
    with torch.no_grad():
        full = load(embedded_spec(), device)
        for name in names:
            fewer = load(embedded_spec(precision=name), device)
            correlations = _correlations(full, fewer)
            print(f"{name}: rank correlation with float32, the least of {len(PHOTOGRAPHS)} photographs")
            for method, least in sorted(correlations.items(), key=lambda item: item[1]):
                print(f"  {method:24} {least:.4f}")
            times = {what: _ratio(fewer, full, query) for what, query in QUERIES.items()}
            for what, ratio in times.items():
                print(f"  {what}: {ratio:.2f} times the time of float32")
            found[name] = {"correlations": correlations, "times": times}
    OUT.mkdir(exist_ok=True)
    (OUT / "precision.json").write_text(json.dumps(found, indent=2))


QUERIES: dict[str, Callable[[torch.Tensor], Query]] = {
    "forward": lambda rows: Query(rows, logits=True),
    "forward and backward": lambda rows: Query(rows, class_score(0)),
}


def _correlations(full: Model, fewer: Model) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for photograph in PHOTOGRAPHS:
        subject, same = (subject_of_photograph(photograph, model) for model in (full, fewer))
        for name, method in METHODS.items():
            if not refusal(method, fewer):
                cheap = method(**CHEAP.get(name, {}))
                maps = [
                    answer_to(model, supported(cheap, model).explain(shown)).values.cpu().flatten()
                    for model, shown in ((full, subject), (fewer, same))
                ]
                found.setdefault(name, []).append(float(spearmanr(*maps).statistic))
    return {name: round(min(values), 4) for name, values in found.items()}


def _ratio(fewer: Model, full: Model, query: Callable[[torch.Tensor], Query]) -> float:
    rows = torch.rand(ROWS, 3, 224, 224, generator=torch.Generator().manual_seed(0)).to(full.device)
    rows = rows.contiguous(memory_format=full.memory_format)

    def seconds(model: Model) -> float:
        started = time.perf_counter()
        run(model, [Bundle((Chunk(query(rows), 0, ROWS),))])
        if model.device.type == "cuda":
            torch.cuda.synchronize(model.device)
        return time.perf_counter() - started

    seconds(fewer), seconds(full)
    return round(statistics.median(seconds(fewer) / seconds(full) for _ in range(REPEATS)), 3)


if __name__ == "__main__":
    main()
