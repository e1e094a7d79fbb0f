"""What each method of Explain costs, in forwards of one image: counted from its queries, and measured.

Programs run with their defaults through the scheduler and the core, enough copies together to fill passes of the
calibrated size. A recorder between program and scheduler counts the rows that its queries send forward and the rows
of each backward sweep. In theory a program then costs F + b B, where b is what a bare backward to the pixels costs of
a bare forward, measured here at the same size of pass; sweeps that end at a deep layer count nothing. Forwards and
programs take turns.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from math import ceil
from typing import Any

from gradserve_server.scheduling.allocator import keep_freed_memory

ALLOCATOR = keep_freed_memory()

import skimage.data  # noqa: E402
import timm  # noqa: E402
import torch  # noqa: E402
from benchmarks.results import Row, save  # noqa: E402
from tests.driving import drive, subject_of  # noqa: E402

from gradserve_server.autograd.objective import class_score  # noqa: E402
from gradserve_server.autograd.program import Program  # noqa: E402
from gradserve_server.autograd.query import Query  # noqa: E402
from gradserve_server.imaging.geometry import fit, model_input  # noqa: E402
from gradserve_server.imaging.segmentation import segmented  # noqa: E402
from gradserve_server.models.loading import ModelSpec, embedded_spec, load, prepare  # noqa: E402
from gradserve_server.models.model import Model  # noqa: E402
from gradserve_server.models.preprocessing import Preprocessing  # noqa: E402
from gradserve_server.programs.explain import METHODS  # noqa: E402
from gradserve_server.programs.explain.method import Method  # noqa: E402
from gradserve_server.rpc.support import refusal, supported  # noqa: E402
from gradserve_server.scheduling.calibration import calibrate  # noqa: E402
from gradserve_server.scheduling.lanes import Lanes  # noqa: E402

EGYPTIAN_CAT = 285


@dataclass
class Count:
    """Rows that a program sent through the network.

    Attributes:
        forward: Rows of forwards.
        backward: Rows of backward sweeps to the pixels.
        layer: Rows of backward sweeps to a layer.
    """

    forward: int = 0
    backward: int = 0
    layer: int = 0

    def add(self, queries: tuple[Query, ...]) -> None:
        """Counts the queries of a step: those of the same forward share it, equal derivatives a sweep."""
        by_forward: dict[object, list[Query]] = {}
        for query in queries:
            by_forward.setdefault(query.forward, []).append(query)
        for same in by_forward.values():
            count = len(same[0].rows)
            sweeps = {query.derivative for query in same if query.derivative}
            whole = {query.derivative for query in same if query.derivative and query.root is None}
            self.forward += count
            self.backward += count * len(whole)
            self.layer += count * len(sweeps - whole)


@dataclass(frozen=True)
class Cost:
    """What a method costs an image.

    Attributes:
        method: Its name.
        network: The network that it was asked of.
        count: Rows it asks for.
        theory: Forwards that these are.
        measured: Forwards that its time is.
    """

    method: str
    network: str
    count: Count
    theory: float
    measured: float


def main() -> None:
    """Prints a table; writes benchmarks/out/costs.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", nargs="+", choices=sorted(METHODS), default=sorted(METHODS))
    parser.add_argument("--seconds", type=float, default=1.0, help="time to spend on each method, at least one run")
    parser.add_argument("--device", default="cpu", help="cpu or cuda:0")
    parsed = parser.parse_args()
    found = costs(parsed.methods, parsed.seconds, torch.device(parsed.device))
    rows = [Row(f"{cost.method}: measured / counted", cost.measured / cost.theory) for cost in found]
    save("costs", rows, costs=[asdict(cost) for cost in found])


def costs(names: list[str], seconds: float, device: torch.device) -> list[Cost]:
    """Measures methods, each of the embedded network or, where that cannot serve it, of a transformer."""
    print(f"{'method':22} {'F':>5} {'B':>5} {'layer':>5} {'counted':>9} {'measured':>9}  measured / counted")
    found = []
    with torch.no_grad():
        embedded = _Bench(load(embedded_spec(), device))
        transformer: _Bench | None = None
        for name in names:
            bench = embedded
            if refusal(METHODS[name], embedded.model):
                bench = transformer = transformer or _Bench(_transformer(device))
            cost = bench.cost(supported(METHODS[name](), bench.model), seconds)
            found.append(cost)
            count = cost.count
            print(f"{name:22} {count.forward:5} {count.backward:5} {count.layer:5}", end=" ")
            print(f"{cost.theory:9.1f} {cost.measured:9.1f}  {cost.measured / cost.theory:.2f}", flush=True)
    return found


class _Bench:
    """A network with what is needed to measure on it."""

    def __init__(self, model: Model) -> None:
        self.model = model
        with closing(Lanes(torch.get_num_threads(), "lane")) as lanes:
            self.budget = calibrate(model, lanes).pass_rows
        fitted, _ = fit(skimage.data.chelsea(), model.preprocessing)
        self._fitted = fitted
        self._rows = torch.from_numpy(model_input(fitted, model.preprocessing)).to(model.device, model.dtype)
        self._pass = self._rows.expand(self.budget, -1, -1, -1).contiguous(memory_format=model.memory_format)
        self._network = model.network(frozenset())
        self._backward = statistics.median(self._both() / self._forward() for _ in range(9)) - 1

    def cost(self, method: Method, seconds: float) -> Cost:
        """Measures a method."""
        counts: list[Count] = []

        def programs(copies: int) -> list[Program[Any]]:
            counts[:] = [Count() for _ in range(copies)]
            return [_counted(self._program(method), count) for count in counts]

        def ratio(copies: int) -> float:
            before, several = self._forward(), programs(copies)
            taken = self._timed(lambda: drive(self.model, *several, budget=self.budget))
            return taken / copies / ((before + self._forward()) / 2)

        begun = time.perf_counter()
        alone = ratio(1)
        count = counts[0]
        theory = count.forward + self._backward * count.backward
        copies = ceil(4 * self.budget / count.forward)
        # The first run of a long program counts; that of a short one warms up.
        ratios = [alone] if copies == 1 else []
        while not ratios or time.perf_counter() - begun < seconds:
            ratios.append(ratio(copies))
        return Cost(method.name(), self.model.architecture, count, theory, statistics.median(ratios))

    def _program(self, method: Method) -> Program[Any]:
        wanted = method.superpixels
        segments = torch.from_numpy(segmented(self._fitted, wanted.count)).to(self.model.device) if wanted else None
        target = class_score(EGYPTIAN_CAT)
        # A copy, because passes compute the very same rows once, whoever asks for them.
        return method.explain(subject_of(self._rows.clone(), target, model=self.model, segments=segments))

    def _forward(self) -> float:
        """Returns the seconds a bare forward takes a row, in a pass of the calibrated size."""
        return self._per_row(lambda: self._network(self._pass))

    def _both(self) -> float:
        """Returns the same of a bare forward and backward."""

        def work() -> None:
            leaf = self._pass.detach().requires_grad_()
            with torch.enable_grad():
                torch.autograd.grad(self._network(leaf)[:, EGYPTIAN_CAT].sum(), leaf)

        return self._per_row(work)

    def _per_row(self, work: Callable[[], object]) -> float:
        work()
        return statistics.median(self._timed(work) for _ in range(5)) / self.budget

    def _timed(self, work: Callable[[], object]) -> float:
        self._synchronize()
        begun = time.perf_counter()
        work()
        self._synchronize()
        return time.perf_counter() - begun

    def _synchronize(self) -> None:
        if self.model.device.type == "cuda":
            torch.cuda.synchronize(self.model.device)


def _counted(program: Program[Any], count: Count) -> Program[Any]:
    """Returns the same program, whose queries are counted."""
    step = next(program)
    while True:
        if isinstance(step, tuple):
            count.add(step)
        answers = yield step
        try:
            step = program.send(answers)
        except StopIteration as stop:
            return stop.value


def _transformer(device: torch.device) -> Model:
    # What a method costs does not depend on the weights.
    name = "vit_tiny_patch16_224"
    spec = ModelSpec(name=name, architecture=f"timm:{name}", preprocessing=Preprocessing(resize=224))
    return prepare(timm.create_model(name), "0" * 64, spec, device)


if __name__ == "__main__":
    main()
