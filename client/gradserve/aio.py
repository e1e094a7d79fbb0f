"""The client for asyncio: the methods of `gradserve.Client`, awaitable, with the same arguments."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import grpc
from grpc import aio

from gradserve.access import PEM, Access
from gradserve.channel import channel_options
from gradserve.errors import GradserveError, Unavailable, typed_errors
from gradserve.explain_stream import DEFAULT_METHOD, ImageT, Streamed, at_least_one, chosen, streamed_async
from gradserve.images import ImageLike
from gradserve.maximization import AsyncMaximization
from gradserve.maximize_requests import maximize_request
from gradserve.method import MethodLike
from gradserve.objectives import Objective
from gradserve.requests import TargetLike, explain_request, with_image, with_layer
from gradserve.results import Explanation, Model, explanations, models
from gradserve.streams import AsyncStream
from gradserve.stylization import AsyncStylization
from gradserve.stylize_requests import LayersLike, StylesLike, stylize_request
from gradserve.v1 import explainer_service_pb2_grpc, model_pb2


class Client:
    """Calls a gradserve server. Belongs to the event loop it is made in.

    Args:
        address: As in `gradserve.Client`, like all arguments.
        timeout: Seconds a call may take unless it says otherwise.
        tls: Whether to speak TLS.
        root_certificates: Authorities that the server's certificate must come from.
        certificate_chain: Own certificate.
        private_key: Its private key.
        token: Token that each call carries.
        credentials: Any other credentials of a channel, in place of those above.
        metadata: What each call carries.
        compression: Compression of requests.
        options: gRPC channel options that take precedence over the defaults.
        interceptors: Interceptors of `grpc.aio`.
    """

    def __init__(
        self,
        address: str = "localhost:50051",
        *,
        timeout: float = 60.0,
        tls: bool = False,
        root_certificates: PEM | None = None,
        certificate_chain: PEM | None = None,
        private_key: PEM | None = None,
        token: str | Path | None = None,
        metadata: Sequence[tuple[str, str]] = (),
        credentials: grpc.ChannelCredentials | None = None,
        compression: grpc.Compression | None = None,
        options: Sequence[tuple[str, Any]] = (),
        interceptors: Sequence[aio.ClientInterceptor] = (),
    ) -> None:
        self._timeout = timeout
        self._metadata = tuple(metadata)
        self._access = Access(tls, root_certificates, certificate_chain, private_key, token)
        if credentials is None:
            credentials = self._access.credentials()
        settings = channel_options(options)
        if credentials is None:
            self._channel = aio.insecure_channel(address, settings, compression, interceptors)
        else:
            self._channel = aio.secure_channel(address, credentials, settings, compression, interceptors)
        self._stub: Any = explainer_service_pb2_grpc.ExplainerServiceStub(self._channel)

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends the connection; calls in flight are cancelled."""
        await self._channel.close()

    def _terms(self, timeout: float | None) -> dict[str, Any]:
        seconds = self._timeout if timeout is None else timeout
        return {"timeout": seconds, "metadata": (*self._metadata, *self._access.metadata())}

    async def wait_ready(self, timeout: float = 60.0) -> None:
        """Waits until a server says it is ready to answer. Raises as `gradserve.Client.wait_ready`."""
        try:
            await asyncio.wait_for(self._channel.channel_ready(), timeout)
        except TimeoutError as error:
            raise Unavailable(grpc.StatusCode.UNAVAILABLE, f"no server was ready within {timeout:g} s") from error

    async def explain(
        self,
        image: ImageLike,
        *,
        method: MethodLike = DEFAULT_METHOD,
        target: TargetLike | None = None,
        model: str | None = None,
        layer: str | None = None,
        frame: str = "original",
        overlay: bool | Mapping[str, Any] = True,
        trust: bool | Mapping[str, Any] = False,
        seed: int | None = None,
        prediction_count: int | None = None,
        max_side: int | None = None,
        timeout: float | None = None,
        **parameters: Any,
    ) -> Explanation:
        """Says which parts of an image made a model see a class. Arguments and errors: `gradserve.Client.explain`."""
        (explanation,) = await self.explain_many(
            image,
            methods=[with_layer(method, layer, parameters)],
            targets=[] if target is None else [target],
            model=model,
            frame=frame,
            overlay=overlay,
            trust=trust,
            seed=seed,
            prediction_count=prediction_count,
            max_side=max_side,
            timeout=timeout,
        )
        return explanation

    async def explain_many(
        self,
        image: ImageLike,
        *,
        methods: Sequence[MethodLike],
        targets: Sequence[TargetLike] = (),
        top_k: int | None = None,
        model: str | None = None,
        frame: str = "original",
        overlay: bool | Mapping[str, Any] = True,
        trust: bool | Mapping[str, Any] = False,
        seed: int | None = None,
        prediction_count: int | None = None,
        max_side: int | None = None,
        timeout: float | None = None,
    ) -> list[Explanation]:
        """Explains an image by several methods and for several targets. See `gradserve.Client.explain_many`."""
        request = explain_request(
            image,
            methods,
            targets,
            model=model,
            frame=frame,
            overlay=overlay,
            top_k=top_k,
            trust=trust,
            seed=seed,
            prediction_count=prediction_count,
            max_side=max_side,
        )
        return explanations(await _answered(self._stub.Explain(request, **self._terms(timeout))))

    def explain_stream(
        self,
        images: Iterable[ImageT] | AsyncIterable[ImageT],
        *,
        method: MethodLike = DEFAULT_METHOD,
        target: TargetLike | None = None,
        methods: Sequence[MethodLike] = (),
        targets: Sequence[TargetLike] = (),
        top_k: int | None = None,
        ordered: bool = True,
        in_flight: int = 32,
        model: str | None = None,
        layer: str | None = None,
        frame: str = "original",
        overlay: bool | Mapping[str, Any] = True,
        trust: bool | Mapping[str, Any] = False,
        seed: int | None = None,
        prediction_count: int | None = None,
        max_side: int | None = None,
        timeout: float | None = None,
        **parameters: Any,
    ) -> AsyncGenerator[Streamed[ImageT], None]:
        """Explains many images, a bounded number of them at a time. See `gradserve.Client.explain_stream`.

        Images may come asynchronously; others are read in the event loop. Requests are built, and answers decoded, in
        threads. `aclose` of the iterator cancels what is on its way.
        """
        asked_methods, asked_targets = chosen(method, layer, parameters, methods, target, targets)
        request = explain_request(
            None,
            asked_methods,
            asked_targets,
            model=model,
            frame=frame,
            overlay=overlay,
            top_k=top_k,
            trust=trust,
            seed=seed,
            prediction_count=prediction_count,
            max_side=max_side,
        )

        async def ask(image: ImageT) -> list[Explanation]:
            asked = await asyncio.to_thread(with_image, request, image)
            response = await _answered(self._stub.Explain(asked, **self._terms(timeout)))
            return await asyncio.to_thread(explanations, response)

        return streamed_async(ask, images, ordered=ordered, in_flight=at_least_one(in_flight))

    def maximize(
        self,
        *,
        class_index: int | None = None,
        class_label: str | None = None,
        objectives: Objective | Sequence[Objective] | None = None,
        image: ImageLike | None = None,
        preset: str | None = None,
        steps: int | None = None,
        size: int | tuple[int, int] | None = None,
        epsilon: float | None = None,
        seed: int | None = None,
        model: str | None = None,
        result_before_deadline: float | None = None,
        every_event: bool = False,
        timeout: float | None = None,
        **parts: Any,
    ) -> AsyncMaximization:
        """Makes the image that maximises an objective. Arguments and errors: `gradserve.Client.maximize`.

        Returns:
            An asynchronous iterator of `Progress`, then a `MaximizeResult`; `await ... .result()` skips to it.
        """
        request = maximize_request(
            class_index=class_index,
            class_label=class_label,
            objectives=objectives,
            image=image,
            preset=preset,
            steps=steps,
            size=size,
            epsilon=epsilon,
            seed=seed,
            model=model,
            result_before_deadline=result_before_deadline,
            parts=parts,
        )
        call = self._stub.Maximize(request, **self._terms(timeout))
        return AsyncMaximization(AsyncStream(call, every_event=every_event))

    def stylize(
        self,
        content: ImageLike,
        style: StylesLike | None = None,
        *,
        stylizer: str | None = None,
        content_layers: LayersLike | None = None,
        style_layers: LayersLike | None = None,
        content_weight: float | None = None,
        style_weight: float | None = None,
        total_variation_weight: float | None = None,
        steps: int | None = None,
        size: int | None = None,
        start: str | None = None,
        optimizer: str | None = None,
        preserve_colors: bool | None = None,
        pyramid_levels: int | None = None,
        mask: ImageLike | None = None,
        seed: int | None = None,
        preview_interval_steps: int = 0,
        format: str | None = None,
        model: str | None = None,
        result_before_deadline: float | None = None,
        every_event: bool = False,
        timeout: float | None = None,
    ) -> AsyncStylization:
        """Makes an image with the content of one and the style of others. See `gradserve.Client.stylize`.

        Returns:
            An asynchronous iterator of `Progress`, then a `StylizeResult`; `await ... .result()` skips to it.
        """
        request = stylize_request(
            content,
            style,
            stylizer=stylizer,
            content_layers=content_layers,
            style_layers=style_layers,
            content_weight=content_weight,
            style_weight=style_weight,
            total_variation_weight=total_variation_weight,
            steps=steps,
            size=size,
            start=start,
            optimizer=optimizer,
            preserve_colors=preserve_colors,
            pyramid_levels=pyramid_levels,
            mask=mask,
            seed=seed,
            preview_interval_steps=preview_interval_steps,
            format=format,
            model=model,
            result_before_deadline=result_before_deadline,
        )
        call = self._stub.Stylize(request, **self._terms(timeout))
        return AsyncStylization(AsyncStream(call, every_event=every_event))

    async def list_models(self, *, timeout: float | None = None) -> list[Model]:
        """Lists the models, the default one first. See `gradserve.Client.list_models`."""
        return await self._list(model_pb2.MODEL_KIND_CLASSIFIER, timeout)

    async def list_stylizers(self, *, timeout: float | None = None) -> list[Model]:
        """Lists the networks trained for one style. See `gradserve.Client.list_stylizers`."""
        return await self._list(model_pb2.MODEL_KIND_STYLIZER, timeout)

    async def _list(self, kind: model_pb2.ModelKind, timeout: float | None) -> list[Model]:
        found: list[Model] = []
        token = ""
        while True:
            request = model_pb2.ListModelsRequest(page_token=token, kind=kind)
            response = await _answered(self._stub.ListModels(request, **self._terms(timeout)))
            found += models(response)
            if not (token := response.next_page_token):
                return found


async def _answered(call: Any) -> Any:
    """Returns what a call answers; raises the typed error where it fails, or the client is closed meanwhile."""
    try:
        with typed_errors():
            return await call
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        # Not this task was cancelled, but its call: the client was closed.
        raise GradserveError(grpc.StatusCode.CANCELLED, "the call was cancelled") from None
