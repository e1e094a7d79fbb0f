"""The answer to Stylize: a stream of progress, then the result."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy.typing as npt

from gradserve.v1 import maximize_pb2, stylize_pb2
from gradserve_server.autograd.program import Program
from gradserve_server.errors import RequestError, Unsupported
from gradserve_server.programs.ascent import Normalization
from gradserve_server.programs.stylize.feed_forward import feed_forward
from gradserve_server.programs.stylize.optimize import StyleTask, Stylized, stylize
from gradserve_server.rpc.costs import stylize_rows
from gradserve_server.rpc.iterations import Context, InPool, watched
from gradserve_server.rpc.maximize_responses import picture
from gradserve_server.rpc.responses import metadata
from gradserve_server.rpc.stylize_requests import FeedForward, StylizeCall
from gradserve_server.scheduling.job import Job, Outcome, Place, Priority
from gradserve_server.scheduling.worker import Worker


async def answer(call: StylizeCall, place: Place, worker: Worker, in_pool: InPool, context: Context) -> None:
    """Runs a request and writes its events.

    Raises:
        Unsupported: The model cannot run on images of this size.
        RequestError: Whatever else ended the program.
    """
    try:
        outcome = await watched(
            partial(_job, call), place, call.margin_seconds, call.format, _progress, worker, in_pool, context
        )
    except (AssertionError, RuntimeError, ValueError) as error:
        raise _size_refusal(call) or error from error
    message = await in_pool(partial(result_message, call, outcome))
    await context.write(stylize_pb2.StylizeResponse(result=message))


def result_message(
    call: StylizeCall, outcome: Outcome[Stylized] | Outcome[npt.NDArray[Any]]
) -> stylize_pb2.StylizeResult:
    """Builds the last event of the answer. Encodes: for the pool."""
    facts = metadata(call.model, outcome.usage, call.seed)
    found = outcome.result
    if not isinstance(found, Stylized):
        reason = "STOP_REASON_COMPLETED"
        return stylize_pb2.StylizeResult(image=picture(found, call.format), stop_reason=reason, metadata=facts)
    return stylize_pb2.StylizeResult(
        image=picture(found.pixels, call.format),
        losses=found.losses.tolist(),
        loss_terms=stylize_pb2.LossTerms(
            content=found.content, style=found.style, total_variation=found.total_variation
        ),
        stop_reason=f"STOP_REASON_{found.stop_reason.name}",
        metadata=facts,
    )


def _job(call: StylizeCall, ends: Callable[[], bool]) -> Job[Any]:
    return Job(
        model=call.model,
        start=_program(call, ends),
        inputs=call.images,
        priority=Priority.ITERATIVE,
        rows=stylize_rows(call),
    )


def _program(call: StylizeCall, ends: Callable[[], bool]) -> Callable[..., Program[Any]]:
    if isinstance(call.style, FeedForward):
        return partial(feed_forward, statistics=[layer.name for layer in call.model.layers])
    preprocessing = call.model.preprocessing
    task = StyleTask(
        recipe=call.style.recipe,
        normalization=Normalization(preprocessing.mean, preprocessing.std),
        style_weights=call.style.style_weights,
        seed=call.seed,
        preview_interval_steps=call.preview_interval_steps,
        ends=ends,
    )
    return partial(stylize, task=task)


def _progress(message: maximize_pb2.Progress) -> stylize_pb2.StylizeResponse:
    return stylize_pb2.StylizeResponse(progress=message)


def _size_refusal(call: StylizeCall) -> RequestError | None:
    """Says that the model's input has one size only, if that can be why it failed: networks do not tell."""
    preprocessing = call.model.preprocessing
    expected = (preprocessing.height, preprocessing.width)
    sizes = {image.shape[2:] for image in call.images}
    if isinstance(call.style, FeedForward) or (sizes == {expected} and call.style.recipe.pyramid_levels == 1):
        return None
    return Unsupported(
        f"model {call.model.name!r} failed on images of these sizes: use a convolutional network, or images of "
        f"{expected[0]} x {expected[1]} and a single scale",
        field="optimization.model",
        reason="SIZE_UNSUPPORTED",
        metadata={"model": call.model.name, "height": str(expected[0]), "width": str(expected[1])},
    )
