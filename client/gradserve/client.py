"""The client for ordinary programs; `gradserve.aio` has its twin for asyncio."""

from collections.abc import Generator, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import grpc

from gradserve.access import PEM, Access
from gradserve.channel import channel_options
from gradserve.errors import GradserveError, Unavailable, typed_errors
from gradserve.explain_stream import DEFAULT_METHOD, ImageT, Streamed, at_least_one, chosen, streamed
from gradserve.images import ImageLike
from gradserve.maximization import Maximization
from gradserve.maximize_requests import maximize_request
from gradserve.method import MethodLike
from gradserve.objectives import Objective
from gradserve.requests import TargetLike, explain_request, with_image, with_layer
from gradserve.results import Explanation, Model, explanations, models
from gradserve.streams import Stream
from gradserve.stylization import Stylization
from gradserve.stylize_requests import LayersLike, StylesLike, stylize_request
from gradserve.v1 import explain_pb2, explainer_service_pb2_grpc, model_pb2

Interceptor = grpc.UnaryUnaryClientInterceptor | grpc.UnaryStreamClientInterceptor
"""What sees calls of Explain and ListModels, or of Maximize and Stylize; one can be both."""


class Client:
    """Calls a gradserve server. Threads may share one.

    Args:
        address: `HOST:PORT`, or any gRPC target such as `dns:///gradserve:50051` or
            `ipv4:10.0.0.1:50051,10.0.0.2:50051`. Calls go round all ready servers behind it.
        timeout: Seconds a call may take unless it says otherwise.
        tls: Whether to speak TLS, with the usual public authorities; the certificates below imply it.
        root_certificates: Authorities that the server's certificate must come from, PEM or its path.
        certificate_chain: Own certificate, for servers that ask for one, likewise; goes with `private_key`.
        private_key: Its private key, likewise.
        token: Token that each call carries. A path is read anew for each call, so a rotated token is taken up.
        credentials: Any other credentials of a channel, in place of those above.
        metadata: What each call carries, for example `(("gradserve-tenant", "search"),)`.
        compression: Compression of requests; images rarely gain from it.
        options: gRPC channel options that take precedence over the defaults.
        interceptors: gRPC interceptors of calls, for example `opentelemetry`'s, the outermost first.
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
        interceptors: Sequence[Interceptor] = (),
    ) -> None:
        self._timeout = timeout
        self._metadata = tuple(metadata)
        self._access = Access(tls, root_certificates, certificate_chain, private_key, token)
        if credentials is None:
            credentials = self._access.credentials()
        settings = channel_options(options)
        if credentials is None:
            self._channel = grpc.insecure_channel(address, settings, compression)
        else:
            self._channel = grpc.secure_channel(address, credentials, settings, compression)
        intercepted = grpc.intercept_channel(self._channel, *interceptors) if interceptors else self._channel
        self._stub = explainer_service_pb2_grpc.ExplainerServiceStub(intercepted)

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection; calls in flight are cancelled."""
        self._channel.close()

    def _terms(self, timeout: float | None) -> dict[str, Any]:
        seconds = self._timeout if timeout is None else timeout
        return {"timeout": seconds, "metadata": (*self._metadata, *self._access.metadata())}

    def wait_ready(self, timeout: float = 60.0) -> None:
        """Waits until a server says it is ready to answer.

        Raises:
            Unavailable: None did in `timeout` seconds.
        """
        try:
            grpc.channel_ready_future(self._channel).result(timeout)
        except grpc.FutureTimeoutError as error:
            raise Unavailable(grpc.StatusCode.UNAVAILABLE, f"no server was ready within {timeout:g} s") from error

    def explain(
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
        """Says which parts of an image made a model see a class.

        Args:
            image: The image.
            method: The method: its name, for example `saliency`, `guided_backprop`, `grad_cam`; or one of
                `gradserve.methods` with its parameters, for example `methods.IntegratedGradients(step_count=64)`.
            target: Index or label of the class to explain; a contrast of two classes or a layer's unit, also at one
                position, as a mapping (see `TargetLike`); None for the model's own prediction.
            model: Name of the model; None for the server's default.
            layer: Layer for methods that work on one; None for the model's default.
            frame: `original` for a heatmap of the image's size, or of `max_side`; `model_input` for one of the model's
                input.
            overlay: Whether to have an overlay rendered; or how, by the names of `OverlayOptions`' fields.
            trust: Whether to have a trust report; or what to check, by the names of `TrustOptions`' fields, for example
                `{"transforms": [{"rotation": {"degrees": 20}}]}`.
            seed: Seed of random draws; None lets the server draw one.
            prediction_count: Number of classes in `predictions`; None for 5.
            max_side: Longer side of heatmap and overlay at most, in pixels, in the frame `original` and no other; None
                for as large as the image.
            timeout: Seconds the call may take; None for the client's.
            parameters: The method's parameters by their proto names, enumerations in lower case without prefix, for
                example `reduction="sum"`.

        Raises:
            InvalidRequest: A field's value can never be served.
            NotFound: There is no such model.
            Unsupported: The model cannot serve the method.
            Overloaded: The server has no capacity now.
            Unavailable: No server answers.
            DeadlineExceeded: The answer was not ready in time.
            TypeError: The method or a parameter does not exist.
        """
        (explanation,) = self.explain_many(
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

    def explain_many(
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
        """Explains an image by several methods and for several targets in one request, which share one forward.

        Args:
            image: As in `explain`, like all arguments not named here.
            methods: Names of methods, pairs of a name and parameters, or members of `gradserve.methods`.
            targets: Classes to explain; with none and no `top_k`, the model's own prediction.
            top_k: Explain the k most probable classes as well.
            model: See `explain`.
            frame: See `explain`.
            overlay: See `explain`.
            trust: See `explain`.
            seed: See `explain`.
            prediction_count: See `explain`.
            max_side: See `explain`.
            timeout: See `explain`.

        Returns:
            All targets of the first method, then of the second, and so on.

        Raises:
            GradserveError: As in `explain`.
        """
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
        with typed_errors():
            response: explain_pb2.ExplainResponse = self._stub.Explain(request, **self._terms(timeout))
        return explanations(response)

    def explain_stream(
        self,
        images: Iterable[ImageT],
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
    ) -> Generator[Streamed[ImageT], None, None]:
        """Explains many images, a bounded number of them at a time, as fast as the server can.

        >>> for one in client.explain_stream(Path("photographs").glob("*.jpg")):
        ...     if one.error:
        ...         print(one.image, one.error)
        ...     else:
        ...         one.explanation.save(f"overlays/{one.image.stem}.png")

        An image that cannot be explained does not end the stream: `error` says why, and `explanation` raises it.
        To close the iterator, or to let go of it, cancels what is on its way.

        Args:
            images: Images, read in a thread of their own, no more than `in_flight` before they are explained.
            method: See `explain`.
            target: See `explain`.
            methods: Several methods in place of `method`, as in `explain_many`.
            targets: Several targets in place of `target`, as in `explain_many`.
            top_k: Explain the k most probable classes as well.
            ordered: Whether to give in the order of the images. Otherwise each is given when it is ready.
            in_flight: Largest number of images that were read and not given yet, >= 1. Lower it for methods of many
                rows, which else wait for each other until their deadlines pass.
            model: See `explain`.
            layer: See `explain`.
            frame: See `explain`.
            overlay: See `explain`.
            trust: See `explain`.
            seed: See `explain`.
            prediction_count: See `explain`.
            max_side: See `explain`.
            timeout: Seconds that each image may take, once it is sent; None for the client's.
            **parameters: See `explain`.

        Raises:
            TypeError: A method or a parameter does not exist.
            ValueError: A value is not one of those its field can have.
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

        def ask(image: ImageT, calls: set[Any]) -> list[Explanation]:
            call = self._stub.Explain.future(with_image(request, image), **self._terms(timeout))
            calls.add(call)
            try:
                with typed_errors():
                    return explanations(call.result())
            except grpc.FutureCancelledError as error:
                raise GradserveError(grpc.StatusCode.CANCELLED, "the call was cancelled") from error
            finally:
                calls.discard(call)

        return streamed(ask, images, ordered=ordered, in_flight=at_least_one(in_flight))

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
    ) -> Maximization:
        """Makes the image that maximises an objective: feature visualisation, DeepDream, or an attack.

        Args:
            class_index: Class to maximise: its logit, or for an attack its log-probability.
            class_label: The same by label.
            objectives: Anything else to maximise, from `gradserve.objectives`; several are added. An attack without
                any makes the class that the model sees in the image improbable.
            image: Image to start from; without one the preset says what.
            preset: Combination of parts: `simonyan`, `yosinski`, `lucid`, `deepdream`, `fgsm` or `pgd`. By default
                `lucid` without an image and `deepdream` with one.
            steps: Number of steps; with octaves, of each octave.
            size: Height and width of the result in pixels, or one number for both; without one those of a given image,
                or the largest of its proportions that are served.
            epsilon: Radius of the ball around the image, pixels in 0..1.
            seed: Seed of random draws; without one the server draws it and reports it.
            model: Model; without one the server's default.
            result_before_deadline: Seconds before the call's deadline at which to get the best image so far.
            every_event: Whether to keep all events until they are read. Otherwise who reads slowly gets the newest.
            timeout: Seconds the call may take; without one the client's.
            **parts: Parts that differ from the preset's, by their proto names: `start`, `count`, `parametrization`,
                `pad_px`, `jitter_px`, `scales`, `degrees`, `l2_decay`, `total_variation_weight`, `blur_sigma_px`,
                `blur_interval_steps`, `clip_norm_percent`, `clip_contribution_percent`, `step_rule`, `learning_rate`,
                `octave_count`, `octave_scale`, `norm`, `activation_rule`, `redirected_relu_step_count`,
                `preview_interval_steps`, `format`, `include_pixels`.

        Returns:
            An iterator of `Progress`, then a `MaximizeResult`; `.result()` skips to it.

        Raises:
            TypeError: An argument does not exist.
            ValueError: A value is not one of those its field can have.
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
        return Maximization(Stream(call, every_event=every_event))

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
    ) -> Stylization:
        """Makes an image with the content of one and the style of others.

        Args:
            content: Image that gives the content.
            style: Image that gives the style; or several, pairs of an image and its weight, or a mapping from paths to
                weights.
            stylizer: Name of a network trained for one style, in place of `style`. Of the arguments below, those that
                shape an optimisation do not go with it.
            content_layers: Layers whose features must match the content: names, or a mapping from names to weights.
            style_layers: Layers whose Gram matrices must match the style, likewise.
            content_weight: Weight of the content term, >= 0.
            style_weight: Weight of the style term, > 0.
            total_variation_weight: Weight of the total-variation term, >= 0.
            steps: Number of steps of all scales together.
            size: Longer side of the result in pixels; without one the content's, or the largest that is served.
            start: `content`, `noise` or `style_statistics`.
            optimizer: `lbfgs` or `adam`.
            preserve_colors: Whether to keep the colours of the content, and stylise its luminance only.
            pyramid_levels: Number of scales, 1 to 6; without one by size.
            mask: Image of the content's proportions, white where the style may go.
            seed: Seed of random draws; without one the server draws it and reports it.
            preview_interval_steps: Steps between previews; 0 means none.
            format: File format of the pictures on their way: `png`, `jpeg` or `webp`.
            model: Model that gives the features; without one the server's default.
            result_before_deadline: Seconds before the call's deadline at which to get the best image so far.
            every_event: Whether to keep all events until they are read. Otherwise who reads slowly gets the newest.
            timeout: Seconds the call may take; without one the client's.

        Returns:
            An iterator of `Progress`, then a `StylizeResult`; `.result()` skips to it.

        Raises:
            TypeError: Style and stylizer are both given, or neither.
            ValueError: A value is not one of those its field can have.
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
        return Stylization(Stream(call, every_event=every_event))

    def list_models(self, *, timeout: float | None = None) -> list[Model]:
        """Lists the models with their layers, classes, methods and limits, the default one first.

        Raises:
            GradserveError: As in `explain`.
        """
        return self._list(model_pb2.MODEL_KIND_CLASSIFIER, timeout)

    def list_stylizers(self, *, timeout: float | None = None) -> list[Model]:
        """Lists the networks trained for one style, for the argument `stylizer` of `stylize`.

        Raises:
            GradserveError: As in `explain`.
        """
        return self._list(model_pb2.MODEL_KIND_STYLIZER, timeout)

    def _list(self, kind: model_pb2.ModelKind, timeout: float | None) -> list[Model]:
        found: list[Model] = []
        token = ""
        while True:
            request = model_pb2.ListModelsRequest(page_token=token, kind=kind)
            with typed_errors():
                response: model_pb2.ListModelsResponse = self._stub.ListModels(request, **self._terms(timeout))
            found += models(response)
            if not (token := response.next_page_token):
                return found
