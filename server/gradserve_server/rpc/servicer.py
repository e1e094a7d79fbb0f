"""The service: each method parses, submits, awaits and answers."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import numpy.typing as npt
from grpc import aio

from gradserve.v1 import (
    explain_pb2,
    explainer_service_pb2_grpc,
    maximize_pb2,
    model_pb2,
    stylize_pb2,
)
from gradserve_server.autograd.query import FORWARD_COST
from gradserve_server.config import Settings
from gradserve_server.errors import InvalidInput
from gradserve_server.imaging.geometry import Placement, fit_decoded, model_input
from gradserve_server.imaging.segmentation import segmented
from gradserve_server.models.model import Model
from gradserve_server.models.repository import Entry, Repository
from gradserve_server.programs.explain.explanation import explain, superpixels_of
from gradserve_server.rpc import (
    maximize_requests,
    maximize_stream,
    requests,
    responses,
    stylize_requests,
    stylize_stream,
)
from gradserve_server.rpc.ahead import Ahead
from gradserve_server.rpc.answer_cache import AnswerCache, key_of
from gradserve_server.rpc.calls import current_call
from gradserve_server.rpc.costs import check_rows, explain_rows, maximize_bytes, stylize_bytes
from gradserve_server.rpc.deadlines import remaining_seconds
from gradserve_server.rpc.pool import Pool
from gradserve_server.rpc.streams import outcome_of
from gradserve_server.scheduling.job import Job, Place, Priority
from gradserve_server.scheduling.worker import Worker

Result = TypeVar("Result")
Context = aio.ServicerContext[Any, Any]

PAGE_SIZE = 50


class ExplainerService(explainer_service_pb2_grpc.ExplainerServiceServicer):
    """Answers the RPCs of `gradserve.v1.ExplainerService`.

    Args:
        worker: Where programs run.
        pool: Where images are decoded, rendered and encoded.
        settings: The limits.
        models: Returns what is served at the moment. A request asks once, at its start.
        answers: Answers that were given before.
    """

    def __init__(
        self,
        worker: Worker,
        pool: Pool,
        settings: Settings,
        models: Callable[[], Repository],
        answers: AnswerCache,
    ) -> None:
        self._worker = worker
        self._pool = pool
        self._settings = settings
        self._models = models
        self._answers = answers
        self._ahead = Ahead()

    async def Explain(self, request: explain_pb2.ExplainRequest, context: Context) -> explain_pb2.ExplainResponse:  # noqa: N802
        """Says which parts of an image made a model see a class."""
        repository = self._models()
        if not self._answers.on:
            return await self._admitted(request, repository, context)
        # Not behind others' images: it may be answered, or refused, at once.
        key = await self._leaving(partial(key_of, request, repository.get(request.model)))
        return await self._answers.answer(key, lambda: self._admitted(request, repository, context))

    async def _admitted(
        self, request: explain_pb2.ExplainRequest, repository: Repository, context: Context
    ) -> explain_pb2.ExplainResponse:
        deadline = time.monotonic() + remaining_seconds(context)
        # A forward a method at the least: who cannot have that need not have the request looked at.
        rows = len(request.methods) * FORWARD_COST
        model = repository.get(request.model)
        place = self._place(Priority.INTERACTIVE, deadline, model, rows=rows, byte_count=request.ByteSize())
        with self._worker.admission.place(place):
            check = partial(requests.explain_call, request, repository, self._settings)
            # Who is to be refused should not wait in the pool behind the images of others.
            call = check() if requests.is_brief(request, place.bytes) else await self._pool.run(check)
            rows = explain_rows(call)
            check_rows(rows, self._settings.rows)
            self._worker.admission.weigh(place, self._worker.expected_seconds(call.model, rows))
            pass_rows = self._worker.calibrations[call.model].pass_rows
            # As the scheduler has it later: a short one goes before what is left of long ones.
            turn = time.monotonic() + place.seconds
            async with self._ahead.places(place.tenant, call.model.title, pass_rows).taken(turn):
                return await self._explained(request, call, rows, place)

    async def _explained(
        self, request: explain_pb2.ExplainRequest, call: requests.ExplainCall, rows: float, place: Place
    ) -> explain_pb2.ExplainResponse:
        def prepare() -> tuple[requests.Picture, Placement, tuple[npt.NDArray[Any], ...]]:
            image = requests.explain_image(request, call, self._settings)
            preprocessing = call.model.preprocessing
            fitted, placement = fit_decoded(image, preprocessing)
            placement = placement.within(call.max_side_px) if call.max_side_px else placement
            requests.check_heatmap_bytes(call, placement.original, self._settings)
            requests.check_overlay(call, placement.original)
            picture = requests.explained_picture(request, call, image, fitted, placement.original, self._settings)
            inputs: list[npt.NDArray[Any]] = [
                model_input(fitted, preprocessing),
                preprocessing.black,
                preprocessing.white,
            ]
            inputs += [segmented(fitted, wanted.count) for wanted in superpixels_of(call.methods)]
            return picture, placement, tuple(inputs)

        picture, placement, inputs = await self._pool.run(prepare)
        held = place.bytes + picture.byte_count + sum(array.nbytes for array in inputs)
        self._worker.admission.hold(place, held)
        job = Job(
            model=call.model,
            start=partial(
                explain,
                methods=call.methods,
                targets=[target.objective for target in call.targets],
                seed=call.seed,
                trust=call.trust,
                as_grid=lambda layer, output: call.model.layer(layer).as_grid(output),
                as_map=call.model.attention.as_map,
            ),
            inputs=inputs,
            tenant=place.tenant,
            deadline=place.deadline,
            rows=rows,
            place=place,
            passed=current_call.get().passed,
        )
        outcome = await outcome_of(self._worker.submit(job))

        def respond() -> explain_pb2.ExplainResponse:
            return responses.explain_response(call, outcome, picture(), placement)

        return await self._pool.run(respond, leaves=True)

    async def Maximize(self, request: maximize_pb2.MaximizeRequest, context: Context) -> None:  # noqa: N802
        """Streams the way to an image that maximises objectives, then the image."""
        deadline = time.monotonic() + remaining_seconds(context)
        call = maximize_requests.maximize_call(request, self._models(), self._settings)
        early, size = call.margin_seconds is not None, request.ByteSize()
        place = self._place(Priority.ITERATIVE, deadline, call.model, ends_early=early, byte_count=size)
        with self._worker.admission.place(place):
            start = await self._pool.run(partial(maximize_requests.start_images, request, call, self._settings))
            self._worker.admission.hold(place, size + maximize_bytes(call, start))
            await maximize_stream.answer(call, start, place, self._worker, self._leaving, context)

    async def Stylize(self, request: stylize_pb2.StylizeRequest, context: Context) -> None:  # noqa: N802
        """Streams the way to an image with the content of one and the style of others, then the image."""
        repository = self._models()
        place = self._place(
            Priority.ITERATIVE,
            time.monotonic() + remaining_seconds(context),
            # A trained network's one pass has no earlier result.
            ends_early=request.HasField("result_before_deadline") and request.HasField("optimization"),
            byte_count=request.ByteSize(),
        )
        with self._worker.admission.place(place):
            call = await self._pool.run(partial(stylize_requests.stylize_call, request, repository, self._settings))
            self._worker.admission.hold(place, request.ByteSize() + stylize_bytes(call))
            await stylize_stream.answer(call, place, self._worker, self._leaving, context)

    async def ListModels(  # noqa: N802
        self, request: model_pb2.ListModelsRequest, context: Context
    ) -> model_pb2.ListModelsResponse:
        """Lists the models with their layers, classes, methods and limits."""
        if not 0 <= request.page_size <= 1000:
            raise InvalidInput(f"must be 0 to 1000, not {request.page_size}", field="page_size")
        repository = self._models()
        every = request.kind == model_pb2.MODEL_KIND_UNSPECIFIED
        listed: tuple[Entry | Model, ...] = ()
        if every or request.kind == model_pb2.MODEL_KIND_CLASSIFIER:
            listed += repository.entries
        if every or request.kind == model_pb2.MODEL_KIND_STYLIZER:
            listed += repository.stylizers
        token = request.page_token
        start = int(token) if token.isascii() and token.isdigit() and len(token) < 10 else 0
        if request.page_token and not 0 < start < len(listed):
            raise InvalidInput("give the next_page_token of an answer to the same request", field="page_token")
        stop = start + (request.page_size or PAGE_SIZE)
        return responses.list_models_response(
            listed[start:stop],
            self._worker.calibrations,
            self._settings,
            next_page_token=str(stop) if stop < len(listed) else "",
        )

    def _place(
        self,
        priority: Priority,
        deadline: float,
        model: Model | None = None,
        *,
        rows: float = 0.0,
        ends_early: bool = False,
        byte_count: int = 0,
    ) -> Place:
        seconds = self._worker.expected_seconds(model, rows) if model is not None else 0.0
        pass_seconds = self._worker.calibrations[model].pass_seconds if model is not None else 0.0
        return Place(priority, current_call.get().tenant, deadline, ends_early, seconds, pass_seconds, byte_count)

    async def _leaving(self, function: Callable[[], Result]) -> Result:
        return await self._pool.run(function, leaves=True)
