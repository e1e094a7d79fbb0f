"""Running programs without a server: the scheduler and the passes, in this thread."""

from concurrent.futures import Future
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gradserve_server.autograd.objective import Objective
from gradserve_server.autograd.passes import run
from gradserve_server.autograd.program import Program
from gradserve_server.imaging.geometry import fit, model_input
from gradserve_server.models.loading import ModelSpec, prepare
from gradserve_server.models.model import Model
from gradserve_server.models.preprocessing import Preprocessing
from gradserve_server.models.repository import Entry
from gradserve_server.programs.explain.method import Subject
from gradserve_server.scheduling.isolation import run_isolated
from gradserve_server.scheduling.job import Job, Outcome
from gradserve_server.scheduling.scheduler import Scheduler


def model_of(
    module: nn.Module,
    size: int = 64,
    precision: str = "float32",
    default_layer: str = "",
    name: str = "net",
    *,
    fold: bool = True,
) -> Model:
    """Makes a model of a network that takes square images of `size` pixels."""
    spec = ModelSpec(
        name=name,
        architecture="test:net",
        precision=precision,
        default_layer=default_layer,
        fold=fold,
        preprocessing=Preprocessing(height=size, width=size, resize=size),
    )
    return prepare(module, "0" * 64, spec, torch.device("cpu"))


def entry_of(model: Model) -> Entry:
    """Returns a model as what a repository has."""
    return Entry(ModelSpec(model.name), model=model)


def rows_of(pixels: np.ndarray, model: Model) -> Tensor:
    """Returns a photograph as a row of a pass over `model`."""
    fitted, _ = fit(pixels, model.preprocessing)
    return torch.from_numpy(model_input(fitted, model.preprocessing)).to(model.dtype)


def subject_of(rows: Tensor, target: Objective, seed: int = 0, model: Model | None = None, **given: Any) -> Subject:
    """Makes the subject of an explanation; of a model, if one is given, otherwise with pixels in -1..1."""
    preprocessing = model.preprocessing if model else Preprocessing(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    black, white = (torch.from_numpy(pixel).to(rows) for pixel in (preprocessing.black, preprocessing.white))
    if model is not None:
        given.setdefault("as_grid", lambda layer, output: model.layer(layer).as_grid(output))
        given.setdefault("as_map", model.attention.as_map)
    given.setdefault("segments", cells(rows.shape[2], rows.shape[3]))
    return Subject(rows, target, black, white, seed, **given)


def cells(height: int, width: int) -> Tensor:
    """Returns superpixels that are squares: 2 x 2 of them, and 4 x 4."""
    places = torch.arange(height)[:, None] / height, torch.arange(width)[None] / width
    return torch.stack([(places[0] * count).int() * count + (places[1] * count).int() for count in (2, 4)])


def drive(model: Model, *programs: Program[Any], budget: int = 8) -> "Driven":
    """Runs programs together to their ends."""
    scheduler = Scheduler(lambda key: budget)
    driven = Driven()
    with torch.no_grad():
        for program in programs:
            future: Future[Outcome[Any]] = Future()
            driven.futures.append(future)
            scheduler.add(Job(model, start=lambda: program), future, program)  # noqa: B023  # nobody calls it
        while (packed := scheduler.next_pass()) is not None:
            driven.passes.append((packed.row_count, packed.program_count))
            answers = run_isolated(lambda bundles, packed=packed: run(packed.model, bundles), packed.bundles)
            scheduler.settle(packed, answers, 0.0)
    return driven


class Driven:
    """What came of programs: `futures` in order, and `passes` as pairs of rows and programs."""

    def __init__(self) -> None:
        self.futures: list[Future[Outcome[Any]]] = []
        self.passes: list[tuple[int, int]] = []

    @property
    def results(self) -> list[Any]:
        """The results in order; raises the first error."""
        return [future.result(timeout=0).result for future in self.futures]


def answer_to(model: Model, program: Program[Any], budget: int = 8) -> Any:
    """Runs one program alone and returns its result."""
    (result,) = drive(model, program, budget=budget).results
    return result


def with_gradient(module: nn.Module, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Returns a network's output, and the gradient of the sum of its squares."""
    rows = rows.clone().requires_grad_()
    output = module(rows)
    (gradient,) = torch.autograd.grad(output.square().sum(), rows)
    return output.detach(), gradient


def relative(found: Tensor | np.ndarray, expected: Tensor | np.ndarray) -> float:
    """Returns the largest difference as a part of the range of what is expected."""
    found, expected = (torch.as_tensor(values).detach().double() for values in (found, expected))
    assert found.shape == expected.shape
    spread = float(expected.max() - expected.min())
    assert spread > 0, "a comparison with a constant shows nothing"
    return float((found - expected).abs().max()) / spread
