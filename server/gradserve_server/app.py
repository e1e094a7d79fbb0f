"""Wiring and life cycle."""

import asyncio
import logging
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from grpc import aio
from grpc_reflection.v1alpha import reflection
from prometheus_client import disable_created_metrics, start_http_server

from gradserve.v1 import explainer_service_pb2, explainer_service_pb2_grpc
from gradserve_server.config import Settings
from gradserve_server.errors import Unavailable
from gradserve_server.models.failure import ModelLoadError
from gradserve_server.models.folder import Listing
from gradserve_server.models.model import Model
from gradserve_server.models.repository import Repository, read_listings
from gradserve_server.models.rollout import Rollout
from gradserve_server.models.specification import Allowed
from gradserve_server.models.stylizer import read_stylizer_specs
from gradserve_server.observability.health import Health
from gradserve_server.observability.metrics import Metrics
from gradserve_server.rpc.interceptors import Interceptor
from gradserve_server.rpc.servicer import ExplainerService
from gradserve_server.scheduling.worker import Worker

if TYPE_CHECKING:
    from gradserve_server.ui.page import Page

_DESCRIPTOR = explainer_service_pb2.DESCRIPTOR.services_by_name["ExplainerService"]
SERVICE = _DESCRIPTOR.full_name
MESSAGE_MARGIN = 16 << 20
LAST_BYTES_SECONDS = 2.0

log = logging.getLogger(__name__)


class Server:
    """A running server; `running` makes one.

    Attributes:
        port: Port of the service.
        metrics_port: Port of the metrics.
        page: The page to look at; None without one.
        metrics: What is counted.
        worker: Where programs run.
    """

    def __init__(self, settings: Settings) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # time of creation says nothing here
        self.metrics = Metrics()
        self.worker = Worker(
            settings.device, self.metrics, queue_size=settings.queue_size, pass_rows=settings.pass_rows or None
        )
        self.port = 0
        self.metrics_port = 0
        self.page: Page | None = None
        self._settings = settings
        # One thread for each core: what runs in it is Pillow and numpy, which release the interpreter's lock.
        self._pool = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="imaging")
        self._rollout = Rollout(
            lambda spec: asyncio.wrap_future(self.worker.load(spec)),
            self.metrics,
            default_model=settings.default_model,
            byte_limit=settings.model_bytes,
            requested=self._ask,
        )
        self._asked = asyncio.Event()
        self._following: asyncio.Task[None] | None = None
        self._ready = False
        self._servicer = ExplainerService(self.worker, self._pool, settings, self._served)
        self._interceptor = Interceptor(SERVICE, self.metrics)
        for method in _DESCRIPTOR.methods:
            self._interceptor.expect(method.name, streams=method.server_streaming)
        self._health = Health(SERVICE)
        self._server = aio.server(interceptors=[self._interceptor], options=_options(settings))

    async def start(self) -> None:
        """Listens, loads the models, and is ready.

        Raises:
            ModelLoadError: A model cannot be loaded.
            OSError: An address is taken.
        """
        settings = self._settings
        self._loop = asyncio.get_running_loop()
        listings = self._read()
        stylizers = read_stylizer_specs(settings.models)
        if twice := {listing.name for listing in listings} & {spec.name for spec in stylizers}:
            raise ModelLoadError(f"{min(twice)!r} is the name of a model and of a stylizer: rename one")
        self.worker.start()
        explainer_service_pb2_grpc.add_ExplainerServiceServicer_to_server(self._servicer, self._server)
        await self._health.add_to(self._server)
        reflection.enable_server_reflection((SERVICE, "grpc.health.v1.Health", reflection.SERVICE_NAME), self._server)
        try:
            self.port = self._server.add_insecure_port(settings.listen)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {settings.listen}: is another server running there?") from error
        if settings.ui:
            self._add_page(settings)
        await self._server.start()
        host, _, port = settings.metrics.rpartition(":")
        self._metrics_server, self._metrics_thread = start_http_server(int(port), host, self.metrics.registry)
        self.metrics_port = self._metrics_server.server_port
        self._rollout.stylizers = tuple([await asyncio.wrap_future(self.worker.load(spec)) for spec in stylizers])
        await self._rollout.update(listings)
        single = settings.models is None or settings.models.is_file()
        # Of a folder what can be served is served: one team's mistake is not another's.
        if (failures := self._rollout.failures) and (single or not self._rollout.repository.models):
            raise ModelLoadError(failures[0])
        self._log_models()
        if settings.models is not None and settings.poll_seconds > 0:
            self._following = asyncio.create_task(self._follow())
        self._ready = True
        if self.page is not None:
            await self.page.start()
            log.info("page on http://%s:%d/", settings.ui.rpartition(":")[0], self.page.port)
        await self._health.set_ready(True)
        log.info("serving on port %d, metrics on port %d", self.port, self.metrics_port)

    def _add_page(self, settings: Settings) -> None:
        """Gives the page a way to the service that only this process can take: a socket in a folder of its own."""
        try:
            from gradserve_server.ui.page import Page
        except ModuleNotFoundError as error:
            raise OSError("the page needs more packages: pip install 'gradserve[server,ui]'") from error
        self._folder = tempfile.TemporaryDirectory(prefix="gradserve-")
        service = f"unix:{self._folder.name}/page"
        self._server.add_insecure_port(service)
        self.page = Page(settings.ui, service, settings.image_bytes)

    def _served(self) -> Repository:
        if not self._ready:
            raise Unavailable("the server is loading its models")
        return self._rollout.repository

    def _ask(self) -> None:
        # From a thread of the pool.
        self._loop.call_soon_threadsafe(self._asked.set)

    def _read(self) -> tuple[Listing, ...]:
        settings = self._settings
        return read_listings(settings.models, Allowed(settings.allow_python_models, settings.allow_downloads))

    async def _follow(self) -> None:
        """Looks at the models now and then, and when a request waits for one, and serves what is there."""
        loop, unread = asyncio.get_running_loop(), ""
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._asked.wait(), self._settings.poll_seconds)
            self._asked.clear()
            await self._rollout.restore()
            before = self._rollout.repository.models
            try:
                await self._rollout.update(await loop.run_in_executor(self._pool, self._read))
                unread = ""
            except ModelLoadError as error:
                # What is served is served on: a volume may be gone for a moment.
                self.metrics.repository_failures.inc()
                if str(error) != unread:
                    log.error("the models cannot be read, the ones served stay: %s", error)
                unread = str(error)
            if self._rollout.repository.models != before:
                served = self._rollout.repository
                self.worker.forget((*served.models, *served.stylizers))
                self._log_models(besides=(*before, *served.stylizers))

    def _log_models(self, besides: Collection[Model] = ()) -> None:
        repository = self._rollout.repository
        for model in (*repository.models, *repository.stylizers):
            if model not in besides:
                calibration = self.worker.calibrations[model]
                log.info(
                    "model %s (%s, %s, %s) on %s: %d rows per pass, %.1f ms a row",
                    model.title,
                    model.architecture,
                    model.version[:12],
                    model.precision,
                    model.device,
                    calibration.pass_rows,
                    calibration.row_seconds * 1000,
                )

    async def stop(self) -> None:
        """Says NOT_SERVING, refuses new requests, waits for those in flight, and stops."""
        if self._following is not None:
            self._following.cancel()
        await self._health.set_ready(False)
        if not await self._interceptor.drain(self._settings.drain_seconds):
            log.warning("requests were still in flight after %g s", self._settings.drain_seconds)
        if self.page is not None:
            await self.page.stop()
        # The handlers have returned, but a large answer may still be on its way: a tenth of a second cut some off on a
        # busy machine. An open Health.Watch takes all of it.
        await self._server.stop(LAST_BYTES_SECONDS)
        await asyncio.to_thread(self.worker.stop)
        self._pool.shutdown()
        if self.page is not None:
            self._folder.cleanup()
        if self.metrics_port:
            self._metrics_server.shutdown()
            self._metrics_server.server_close()
            self._metrics_thread.join()


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Server]:
    """Runs a server: ready inside the context, drained and stopped after it."""
    server = Server(settings)
    try:
        await server.start()
        yield server
    finally:
        await server.stop()


async def serve(settings: Settings) -> None:
    """Runs a server until SIGTERM or SIGINT, then drains it."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with running(settings):
        await stop.wait()
        log.info("draining")
    log.info("stopped")


def _options(settings: Settings) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", settings.image_bytes + MESSAGE_MARGIN),
        ("grpc.max_send_message_length", -1),
        # A taken port is an error, not a second server behind the same address.
        ("grpc.so_reuseport", 0),
        # Callers behind a load balancer reconnect now and then, so that new replicas get their share.
        ("grpc.max_connection_age_ms", 300_000),
        ("grpc.max_connection_age_grace_ms", 600_000),
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 30_000),
    ]
