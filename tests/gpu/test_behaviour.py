"""What only a GPU does: it runs behind the thread that tells it what to do, and its memory ends."""

import gc
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from tests.conftest import FOUNDING, photograph
from tests.driving import rows_of, subject_of
from tests.paintings import swirls

from gradserve import Client
from gradserve_server.autograd.computation import Computation
from gradserve_server.autograd.objective import class_score
from gradserve_server.autograd.passes import Bundle, Chunk, run
from gradserve_server.autograd.program import Program, Progress
from gradserve_server.autograd.query import Query
from gradserve_server.imaging.geometry import as_float
from gradserve_server.models.model import Model
from gradserve_server.programs.ascent import CHECK_INTERVAL_STEPS, Normalization
from gradserve_server.programs.explain import METHODS
from gradserve_server.programs.maximize.maximize import Task, maximize
from gradserve_server.programs.maximize.presets import RECIPES, Preset
from gradserve_server.programs.stylize.defaults import STYLE_LAYERS
from gradserve_server.programs.stylize.optimize import StyleTask, stylize
from gradserve_server.programs.stylize.recipe import StyleOptimizer, StyleRecipe
from gradserve_server.rpc.streams import Latest
from gradserve_server.scheduling.isolation import run_isolated
from gradserve_server.scheduling.launched import Launched

pytestmark = pytest.mark.gpu
ON_CPU = os.environ.get("GRADSERVE_TEST_DEVICE") == "cpu"


@contextmanager
def never_waiting() -> Iterator[None]:
    """Raises where anything waits for the device."""
    if ON_CPU:
        yield
        return
    with warnings.catch_warnings():
        # The first call says that the check is a prototype, once it is on.
        warnings.simplefilter("ignore", UserWarning)
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def normalization(model: Model) -> Normalization:
    return Normalization(model.preprocessing.mean, model.preprocessing.std)


def pixels(model: Model, name: str = "chelsea") -> torch.Tensor:
    image = as_float(photograph(name)[:224, :224])
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)[None])).to(model.device, model.dtype)


def climbing(preset: Preset) -> Callable[[Model], Program[Any]]:
    def made(model: Model) -> Program[Any]:
        task = Task(class_score(285), RECIPES[preset], normalization(model), image_given=preset is Preset.DEEPDREAM)
        return maximize(pixels(model), task)

    return made


def descending(optimizer: StyleOptimizer) -> Callable[[Model], Program[Any]]:
    def made(model: Model) -> Program[Any]:
        layers = STYLE_LAYERS[model.architecture]
        recipe = StyleRecipe(layers.content, layers.style, 1.0, 100.0, 1.0, step_count=40, optimizer=optimizer)
        style = torch.from_numpy(as_float(swirls(224)).transpose(2, 0, 1)[None].copy()).to(model.device, model.dtype)
        return stylize(pixels(model), style, task=StyleTask(recipe, normalization(model)))

    return made


@pytest.mark.parametrize(
    "made",
    [*map(climbing, RECIPES), *map(descending, StyleOptimizer)],
    ids=[*(preset.value for preset in RECIPES), *(optimizer.value for optimizer in StyleOptimizer)],
)
def test_nothing_waits_for_the_device_between_two_looks(there: Model, made: Callable[[Model], Program[Any]]) -> None:
    """From the third step to the one before the first look at the values, at one scale."""
    with torch.no_grad():
        program = made(there)
        step = next(program)
        taken = 0

        def advance() -> None:
            nonlocal step, taken
            if isinstance(step, Progress):
                taken = step.step
                step = program.send(())
                return
            if isinstance(step, Computation):
                step = program.send(step())
                return
            bundles = [Bundle((Chunk(query, 0, len(query.rows)),)) for query in step]
            step = program.send(tuple(answer for (answer,) in run(there, bundles)))

        while taken < 2:
            advance()
        last = 8
        assert last < CHECK_INTERVAL_STEPS
        with never_waiting():
            while taken < last:
                advance()
        program.close()


async def test_watching_a_job_waits_for_nothing(there: Model) -> None:
    frames = Latest()
    work = torch.rand(4096, 4096, device=there.device)
    for step in range(1, 4):
        value = (work @ work).mean()
        with never_waiting():
            frames.put(Progress(step, 3, value, value.expand(2, 2, 3)))
    if not ON_CPU:
        torch.cuda.synchronize(there.device)
    frames.close()
    seen = []
    while (frame := await frames.take()) is not None:
        assert frame.preview is not None
        np.testing.assert_allclose(frame.preview, frame.value)
        seen.append(frame.step)
    assert seen == [3]


@pytest.mark.parametrize("method", FOUNDING)
def test_a_pass_waits_for_nothing(there: Model, method: str) -> None:
    """Of the methods of one pass: their queries are answered without a look at the device."""
    with torch.no_grad():
        subject = subject_of(rows_of(photograph("chelsea"), there).to(there.device), class_score(285), model=there)
        layers = {"layers": (there.default_layer,)} if "grad_cam" in method else {}
        program = METHODS[method](**layers).explain(subject)
        queries = next(program)
        bundles = [Bundle((Chunk(query, 0, len(query.rows)),)) for query in queries]
        # The second time it is captured.
        for _ in range(2):
            run(there, bundles)
        with never_waiting():
            run(there, bundles)


def test_a_pass_that_does_not_fit_is_halved_and_answered(there: Model) -> None:
    rows = torch.rand(256, 3, 224, 224, generator=torch.Generator().manual_seed(0)).to(there.device)
    query = Query(rows, class_score(285))

    def gradients(size: int) -> torch.Tensor:
        parts = [run(there, [Bundle((Chunk(query, at, at + size),))])[0][0].gradient for at in range(0, 256, size)]
        return torch.cat(parts)

    expected = gradients(8)
    too_many: list[int] = []
    # What is there already, and some passes' worth.
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(there.device).total_memory
    allowed = torch.cuda.memory_allocated(there.device) + (4 << 30)
    torch.cuda.set_per_process_memory_fraction(allowed / total, there.device)
    try:
        (answers,) = run_isolated(
            lambda bundles: run(there, bundles), [Bundle((Chunk(query, 0, 256),))], too_many.append
        )
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, there.device)
    assert too_many, "it fitted"
    assert not isinstance(answers, Exception)
    torch.testing.assert_close(answers[0].gradient, expected, rtol=1e-2, atol=2e-2 * float(expected.abs().max()))


def test_no_memory_stays_with_requests_that_ended(on_device: Client, device: torch.device) -> None:
    # Of graphs some are kept, as many as there are kinds of passes.
    def asked(count: int) -> int:
        for number in range(count):
            on_device.explain(photograph("chelsea"), method=FOUNDING[number % 5], model="launched", overlay=False)
            with on_device.maximize(class_index=number, size=96, steps=200, model="launched") as job:
                next(iter(job))
        # The server drops a job that nobody waits for at its next step.
        on_device.explain(photograph("chelsea"), method="saliency", model="launched", overlay=False)
        gc.collect()
        torch.cuda.synchronize(device)
        return torch.cuda.memory_allocated(device)

    before = asked(10)
    assert asked(30) <= before + (1 << 20)


def test_a_device_is_at_most_one_pass_behind(there: Model) -> None:
    rows = torch.rand(64, 3, 224, 224, generator=torch.Generator().manual_seed(0)).to(there.device)
    bundles = [Bundle((Chunk(Query(rows, class_score(285)), 0, 64),))]
    launched, ends = Launched(), []
    for _ in range(20):
        run(there, bundles)
        ends.append(torch.cuda.Event())
        ends[-1].record()
        launched.follow(there.device)
        assert all(end.query() for end in ends[:-1])
