"""Batch-mates: whatever becomes of some, the answers to the others are theirs alone, to the 1e-9 of float64.

The cases are those in which other servers of models fail: one of a batch is cancelled, expires, cannot be decoded,
raises, or makes numbers that are not finite; and kinds of requests that share a batch.
"""

import asyncio
import time
from concurrent.futures import CancelledError, Future
from typing import Any

import numpy as np
import pytest
import torch
from tests.driving import model_of, relative
from tests.faults.resources import held, held_at_rest, let_go
from tests.property.pictures import files
from tests.repository import network
from tests.unit.programs.maximize.climbing import NORMALIZATION, PLAIN, pixels
from tests.unit.programs.maximize.climbing import task as maximize_task
from tests.unit.scheduling.packing import Harness

from gradserve import aio
from gradserve.errors import DeadlineExceeded, InvalidRequest, NotFound
from gradserve_server.app import Server
from gradserve_server.autograd.objective import class_score
from gradserve_server.autograd.program import Program, Progress, ask
from gradserve_server.autograd.query import Query
from gradserve_server.errors import Expired, NotFinite
from gradserve_server.models.model import Model
from gradserve_server.programs.explain.explanation import Explained, explain
from gradserve_server.programs.explain.grad_cam import GradCam
from gradserve_server.programs.explain.guided_backprop import GuidedBackprop
from gradserve_server.programs.explain.integrated_gradients import IntegratedGradients
from gradserve_server.programs.explain.method import Method
from gradserve_server.programs.explain.saliency import Saliency
from gradserve_server.programs.explain.score_cam import ScoreCam
from gradserve_server.programs.maximize.maximize import maximize
from gradserve_server.programs.stylize.optimize import StyleTask, stylize
from gradserve_server.programs.stylize.recipe import StyleRecipe
from gradserve_server.scheduling.job import Priority

SIZE = 32
MAPS = (
    Saliency(),
    GuidedBackprop(),
    GradCam(layers=("layer3",)),
    IntegratedGradients(step_count=8),
    ScoreCam(layers=("layer3",), channel_count=4),
)
ALIKE = 1e-9
BUDGET = 16
"""Rows of a pass."""


@pytest.fixture(scope="module")
def model() -> Model:
    return model_of(network(0), size=SIZE, precision="float64", name="net")


def explaining(model: Model, rows: torch.Tensor, method: Method, index: int) -> Program[Any]:
    black, white = (torch.full((1, 3, 1, 1), value).double() for value in (-2.0, 2.0))
    return explain(
        rows,
        black,
        white,
        methods=[method],
        targets=[class_score(index % 4)],
        seed=index,
        as_grid=lambda layer, output: model.layer(layer).as_grid(output),
        as_map=model.attention.as_map,
    )


def good(model: Model) -> list[Program[Any]]:
    """Programs of all kinds whose queries share passes: maps, a maximisation, a stylisation."""
    programs = [explaining(model, pixels(index, size=SIZE), made, index) for index, made in enumerate(MAPS)]
    recipe = StyleRecipe((("layer2", 1.0),), (("layer1", 1.0), ("layer2", 1.0)), 1.0, 50.0, 0.0, step_count=5)
    programs.append(maximize(pixels(7, size=SIZE), task=maximize_task(class_score(1), PLAIN)))
    programs.append(stylize(pixels(8, size=SIZE), pixels(9, size=SIZE), task=StyleTask(recipe, NORMALIZATION)))
    return programs


def numbers(result: Any) -> torch.Tensor:
    """Returns what a program computed as one row of numbers."""
    if isinstance(result, Explained):
        return torch.from_numpy(np.concatenate([result.maps[0].values.ravel(), result.logits.ravel()]))
    return torch.from_numpy(result.pixels).flatten()


def join(company: Harness, model: Model, program: Program[Any], **settings: Any) -> "Future[Any]":
    """Adds a program to a company, with the priority of its kind."""
    priority = Priority.ITERATIVE if program.__name__ in ("maximize", "stylize") else Priority.INTERACTIVE
    return company.add(model, program, priority, **settings)


def alone(model: Model) -> list[torch.Tensor]:
    found = []
    for program in good(model):
        company = Harness(BUDGET)
        future = join(company, model, program)
        company.run()
        found.append(numbers(future.result(timeout=0).result))
    return found


def endless(watched: list[int]) -> Program[Any]:
    image = pixels(20, size=SIZE)
    while True:
        answer = yield from ask(Query(image, class_score(2)))
        image = image + answer.gradient
        watched.append(len(watched))
        yield Progress(len(watched), 1000, answer.value)


def raising() -> Program[Any]:
    yield from ask(Query(pixels(21, size=SIZE), class_score(0)))
    raise ZeroDivisionError("a bug of one method")


def breaking() -> Program[Any]:
    # The pass itself raises: there is no such class.
    yield from ask(Query(pixels(22, size=SIZE), class_score(400)))


def test_bad_company_changes_nobodys_answer(model: Model) -> None:
    expected = alone(model)
    company, watched = Harness(BUDGET), []
    rows = [torch.full((1, 3, SIZE, SIZE), value).double() for value in (torch.nan, torch.inf)]
    poisoned = [explaining(model, one, Saliency(), 0) for one in rows]
    cancelled = join(company, model, endless(watched))
    expired = join(company, model, endless(watched), deadline=5.0)
    broken = [join(company, model, program) for program in (raising(), breaking(), *poisoned)]
    kept = [join(company, model, program) for program in good(model)]
    for _ in range(3):
        assert company.step()
    cancelled.cancel()
    company.clock.now = 6.0
    company.run()
    assert max(programs for _, programs in company.passes) >= len(MAPS), "they hardly met"
    assert watched
    with pytest.raises(CancelledError):
        cancelled.result(timeout=0)
    assert isinstance(expired.exception(timeout=0), Expired)
    errors = [future.exception(timeout=0) for future in broken]
    assert [type(error) for error in errors] == [ZeroDivisionError, IndexError, NotFinite, NotFinite]
    for future, one in zip(kept, expected, strict=True):
        assert relative(numbers(future.result(timeout=0).result), one) <= ALIKE


async def test_over_the_wire_each_gets_its_own(small: Server) -> None:
    """RPCs of all kinds at once, and among them one undecodable, one expired, one cancelled, one of no model."""
    picture = files()["png"]
    maps = [{"image": picture, "method": method, "seed": 1} for method in ("saliency", "integrated_gradients", "lrp")]

    async def answers(client: aio.Client) -> list[Any]:
        asked = [client.explain(**{**one, "frame": "model_input", "overlay": False}) for one in maps]
        climbing = client.maximize(class_index=1, steps=4, seed=2, model="rectified")
        styling = client.stylize(picture, stylizer="stained_glass", size=40, seed=3)
        every = await asyncio.gather(*asked, climbing.result(), styling.result(), client.list_models())
        return [one.heatmap for one in every[:3]] + [np.asarray(one.image) for one in every[3:5]]

    async with aio.Client(f"127.0.0.1:{small.port}") as client:
        expected = await answers(client)
    before = held_at_rest(small)
    async with aio.Client(f"127.0.0.1:{small.port}") as client:
        bad = [
            asyncio.ensure_future(client.explain(b"no image", method="saliency")),
            asyncio.ensure_future(client.explain(picture, method="rise", mask_count=4000, timeout=0.2)),
            asyncio.ensure_future(client.explain(picture, method="saliency", model="none")),
        ]
        cancelled = asyncio.ensure_future(client.explain(picture, method="rise", mask_count=4000, timeout=600.0))
        finding = asyncio.ensure_future(answers(client))
        started = time.monotonic()
        while not held(small).programs and time.monotonic() < started + 30:
            await asyncio.sleep(0.01)
        cancelled.cancel()
        errors = await asyncio.gather(*bad, return_exceptions=True)
        assert [type(error) for error in errors] == [InvalidRequest, DeadlineExceeded, NotFound]
        found = await finding
    for one, other in zip(found, expected, strict=True):
        if one.dtype == np.float32:
            # As design: float32 rounds differently in passes of other sizes.
            assert np.abs(one - other).max() <= 1e-2 * np.ptp(other)
        else:
            assert np.abs(one.astype(int) - other).max() <= 2
    await asyncio.to_thread(let_go, small, before)
