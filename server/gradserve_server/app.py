"""Wiring and life cycle."""

import asyncio
import logging
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import grpc
from grpc import aio
from grpc_channelz.v1 import channelz
from grpc_reflection.v1alpha import reflection
from prometheus_client import disable_created_metrics, start_http_server

from gradserve.v1 import explainer_service_pb2, explainer_service_pb2_grpc
from gradserve_server.config import Settings
from gradserve_server.errors import Misconfigured, Unavailable, nearest
from gradserve_server.models.failure import ModelLoadError
from gradserve_server.models.folder import Listing
from gradserve_server.models.model import Model
from gradserve_server.models.repository import Repository, read_listings
from gradserve_server.models.rollout import Rollout
from gradserve_server.models.specification import Allowed
from gradserve_server.models.stylizer import read_stylizer_specs
from gradserve_server.observability.health import Health
from gradserve_server.observability.metrics import Metrics
from gradserve_server.observability.tracing import Tracing
from gradserve_server.rpc.answer_cache import AnswerCache
from gradserve_server.rpc.credentials import CertificateFiles, RotatedCertificates
from gradserve_server.rpc.endpoint import Endpoint, new_server
from gradserve_server.rpc.interceptors import Interceptor
from gradserve_server.rpc.pool import Pool
from gradserve_server.rpc.servicer import ExplainerService
from gradserve_server.rpc.stream_limit import StreamLimit
from gradserve_server.rpc.tenants import Authentication
from gradserve_server.rpc.tokens import Tokens
from gradserve_server.scheduling.admission import Bounds
from gradserve_server.scheduling.job import Priority
from gradserve_server.scheduling.memory_limit import memory_limit
from gradserve_server.scheduling.worker import Worker

if TYPE_CHECKING:
    from gradserve_server.ui.page import Page

_DESCRIPTOR = explainer_service_pb2.DESCRIPTOR.services_by_name["ExplainerService"]
SERVICE = _DESCRIPTOR.full_name
LAST_BYTES_SECONDS = 2.0
MEMORY_PARTS = 3
"""Requests have one of them; models, passes and the allocator have the rest."""
# A taken port is an error, not a second server behind the same address.
_NO_REUSE = ("grpc.so_reuseport", 0)

log = logging.getLogger(__name__)


class Server:
    """A running server; `running` makes one.

    Attributes:
        port: Port of the service.
        metrics_port: Port of the metrics.
        operations_port: Port of health in plain text; 0 without one.
        page: The page to look at; None without one.
        metrics: What is counted.
        worker: Where programs run.
    """

    def __init__(self, settings: Settings) -> None:
        """Reads the files of certificates and tokens.

        Raises:
            Misconfigured: They cannot be used.
        """
        settings = replace(settings, queue_bytes=settings.queue_bytes or memory_limit() // MEMORY_PARTS)
        disable_created_metrics()  # type: ignore[no-untyped-call]  # time of creation says nothing here
        self.metrics = Metrics()
        self.worker = Worker(
            settings.device,
            self.metrics,
            bounds=_bounds(settings),
            pass_rows=settings.pass_rows or None,
            calibration_cache=settings.calibration_cache,
            wedged_seconds=settings.wedged_seconds,
        )
        self.port = 0
        self.metrics_port = 0
        self.operations_port = 0
        self.page: Page | None = None
        self._settings = settings
        # One for each core that torch has, because what runs in them is Pillow and numpy, which release the
        # interpreter's lock, and one that a tenant who has those does not get. Not for each of the machine, of which a
        # container may have a part.
        threads = 1 + self.worker.thread_count
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="imaging")
        self._rollout = Rollout(
            lambda spec: asyncio.wrap_future(self.worker.load(spec)),
            self.metrics,
            default_model=settings.default_model,
            byte_limit=settings.model_bytes,
            requested=self._ask,
        )
        self._asked = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self.failed = asyncio.Event()
        """Set once the worker is given up: the process should end, and another take its place."""
        self._ready = False
        self._servicer = ExplainerService(
            self.worker,
            Pool(self._pool, threads),
            settings,
            self._served,
            AnswerCache(settings.answer_cache_bytes, self.metrics),
        )
        self._credentials = _credentials(settings)
        self._tracing = _tracing(settings.traces)
        authentication = Authentication(
            Tokens(settings.tokens) if settings.tokens else None,
            certificates=settings.tls_client_authorities is not None,
        )
        streams = StreamLimit(settings.streams, refused=lambda reason: self.metrics.rejected.labels(reason).inc())
        self._interceptor = Interceptor(SERVICE, self.metrics, authentication, streams, self._tracing)
        for method in _DESCRIPTOR.methods:
            self._interceptor.expect(method.name, streams=method.server_streaming)
        self._health = Health(SERVICE)
        self._endpoint = Endpoint(self._service_server, self.metrics.endpoint_renewals, self.failed.set)
        self._operations = Endpoint(self._operations_server, self.metrics.endpoint_renewals, self.failed.set)

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
        names = [listing.name for listing in listings]
        if settings.default_model and settings.default_model not in names:
            near = ", ".join(nearest(settings.default_model, names))
            raise ModelLoadError(f"default_model {settings.default_model!r} is no model; nearest: {near or 'none'}")
        self.worker.start()
        self._tasks.append(asyncio.create_task(self._watch()))
        await self._health.start()
        if settings.operations:
            self.operations_port = self._operations.listen(settings.operations)
            await self._operations.start()
        self.port = self._endpoint.listen(settings.listen, self._credentials)
        if settings.ui:
            self._add_page(settings)
        await self._endpoint.start()
        if settings.tokens and not self._credentials:
            log.warning("tokens travel in plain text: set tls_certificate, unless a proxy beside this process has TLS")
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
        if settings.models is not None and (settings.poll_seconds > 0 or settings.model_bytes > 0):
            self._tasks.append(asyncio.create_task(self._follow()))
        self._ready = True
        if self.page is not None:
            await self.page.start()
            log.info("page on http://%s:%d/", settings.ui.rpartition(":")[0], self.page.port)
        await self._health.set_ready(True)
        operations = f", operations on port {self.operations_port}" if self._settings.operations else ""
        log.info("serving on port %d, metrics on port %d%s", self.port, self.metrics_port, operations)

    def _service_server(self) -> aio.Server:
        server = new_server([self._interceptor], _options(self._settings))
        explainer_service_pb2_grpc.add_ExplainerServiceServicer_to_server(self._servicer, server)
        self._health.add_to(server)
        reflection.enable_server_reflection((SERVICE, "grpc.health.v1.Health", reflection.SERVICE_NAME), server)
        return server

    def _operations_server(self) -> aio.Server:
        server = new_server(options=[_NO_REUSE])
        self._health.add_to(server)
        channelz.add_channelz_servicer(server)
        return server

    def _add_page(self, settings: Settings) -> None:
        """Gives the page a way to the service that only this process can take: a socket in a folder of its own."""
        if settings.tokens or settings.tls_client_authorities:
            raise OSError(
                "ui: the page asks nobody who they are: it cannot be served with tokens or client authorities"
            )
        try:
            from gradserve_server.ui.page import Page
        except ModuleNotFoundError as error:
            raise OSError("the page needs more packages: pip install 'gradserve[server,ui]'") from error
        self._folder = tempfile.TemporaryDirectory(prefix="gradserve-")
        service = f"unix:{self._folder.name}/page"
        self._endpoint.listen(service)
        self.page = Page(settings.ui, service, settings.image_bytes)
        self.page.listen()

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
                await asyncio.wait_for(self._asked.wait(), self._settings.poll_seconds or None)
            self._asked.clear()
            before = self._rollout.repository.models
            await self._rollout.restore()
            try:
                if self._settings.poll_seconds > 0:
                    await self._rollout.update(await loop.run_in_executor(self._pool, self._read))
                unread = ""
            except ModelLoadError as error:
                # What is served is served on: a volume may be gone for a moment.
                self.metrics.repository_failures.inc()
                if str(error) != unread:
                    log.error("the models cannot be read, the ones served stay: %s", error)
                unread = str(error)
            except Exception:
                # No mistake in what others write may end the looking.
                self.metrics.repository_failures.inc()
                log.exception("the models cannot be read, the ones served stay")
            if self._rollout.repository.models != before:
                served = self._rollout.repository
                self.worker.forget((*served.models, *served.stylizers))
                self._log_models(besides=(*before, *served.stylizers))

    async def _watch(self) -> None:
        """Gives the worker up when it hangs or has ended: says so to probes and callers."""
        while self.worker.alive and not self.worker.overdue:
            await asyncio.sleep(min(1.0, max(0.01, self._settings.wedged_seconds / 4)))
        log.critical("the worker %s", "has not finished a pass for far too long" if self.worker.alive else "has failed")
        await self._health.set_alive(False)
        await self._health.set_ready(False)
        self.worker.abandon(Unavailable("the server's worker has failed; another server answers"))
        self.failed.set()

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
        for task in self._tasks:
            task.cancel()
        await self._health.set_ready(False)
        if not await self._interceptor.drain(self._settings.drain_seconds):
            log.warning("requests were still in flight after %g s", self._settings.drain_seconds)
        if self.page is not None:
            await self.page.stop()
        # The handlers have returned, but a large answer may still be on its way: a tenth of a second cut some off on a
        # busy machine. An open Health.Watch takes all of it.
        await self._endpoint.stop(LAST_BYTES_SECONDS)
        await asyncio.to_thread(self.worker.stop)
        self._pool.shutdown()
        if self._tracing is not None:
            await asyncio.to_thread(self._tracing.stop)
        await self._operations.stop(None)
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


async def serve(settings: Settings, at_once: Callable[[], None]) -> bool:
    """Runs a server until SIGTERM or SIGINT, then drains it.

    Args:
        settings: Its settings.
        at_once: Called at a second signal: ends the process.

    Returns:
        Whether it ended because it was told to, and not because its worker was given up.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def signalled() -> None:
        if stop.is_set():
            log.warning("stopped at once")
            at_once()
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signalled)
    server = Server(settings)
    ends = [asyncio.ensure_future(event.wait()) for event in (stop, server.failed)]
    starting = asyncio.ensure_future(server.start())
    try:
        await asyncio.wait([starting, *ends], return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            await starting
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            log.info("draining")
        else:
            log.info("stopped while it was starting")
    finally:
        for task in (starting, *ends):
            task.cancel()
        await asyncio.wait([starting])
        await server.stop()
    log.info("stopped")
    return not (server.failed.is_set() or server.worker.overdue)


def _credentials(settings: Settings) -> grpc.ServerCredentials | None:
    certificate, key, authorities = settings.tls_certificate, settings.tls_key, settings.tls_client_authorities
    if certificate is None and key is None and authorities is None:
        return None
    if certificate is None or key is None:
        raise Misconfigured("TLS needs both tls_certificate and tls_key")
    return RotatedCertificates(CertificateFiles(certificate, key, authorities)).credentials()


def _tracing(endpoint: str) -> Tracing | None:
    try:
        return Tracing(endpoint) if endpoint else None
    except ImportError as error:
        raise Misconfigured("traces need the extra: pip install 'gradserve[server,tracing]'") from error


def _bounds(settings: Settings) -> Bounds:
    seconds = {
        Priority.INTERACTIVE: settings.interactive_queue_seconds,
        Priority.ITERATIVE: settings.iterative_queue_seconds,
    }
    return Bounds(settings.queue_size, settings.queue_bytes, seconds, settings.tenant_share)


def _options(settings: Settings) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", settings.message_bytes),
        ("grpc.max_send_message_length", -1),
        _NO_REUSE,
        # Callers behind a load balancer reconnect now and then, so that new replicas get their share. Calls on the old
        # connection end as they will: a bound here would cut off streams that take longer.
        ("grpc.max_connection_age_ms", 300_000),
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.http2.min_ping_interval_without_data_ms", 30_000),
    ]
