"""Prometheus metrics. One registry for each server, so that several can live in a process.

Names of the `grpc_server_*` set and the spelling of their labels follow go-grpc-middleware, whose dashboards then fit.
"""

from collections.abc import Iterable
from importlib.metadata import version

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
REJECTED = ("queue_full", "tenant_quota", "too_many_streams", "deadline_too_short", "deadline_unreachable")
"""Why calls are refused on arrival."""
ABANDONED = ("cancelled", "deadline")
"""Why programs are dropped before their end."""
_RPC = ("grpc_type", "grpc_service", "grpc_method")


class Metrics:
    """What a server counts.

    Attributes:
        registry: What the metrics endpoint exposes.
    """

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self.rpc_started = Counter("grpc_server_started_total", "RPCs started.", _RPC, registry=registry)
        self.rpc_handled = Counter(
            "grpc_server_handled_total", "RPCs ended, by status code.", (*_RPC, "grpc_code"), registry=registry
        )
        self.rpc_received = Counter("grpc_server_msg_received_total", "Messages received.", _RPC, registry=registry)
        self.rpc_sent = Counter("grpc_server_msg_sent_total", "Messages sent.", _RPC, registry=registry)
        self.rpc_seconds = Histogram(
            "grpc_server_handling_seconds", "Duration of RPCs.", _RPC, registry=registry, buckets=_SECONDS
        )
        self.in_flight = Gauge("gradserve_inflight_requests", "RPCs being answered.", ("method",), registry=registry)
        self.queue_depth = Gauge(
            "gradserve_queue_depth",
            "Programs live or waiting to start, by priority: `interactive` of Explain, `iterative` of Maximize and "
            "Stylize.",
            ("priority",),
            registry=registry,
        )
        self.queued_seconds = Gauge(
            "gradserve_queued_work_seconds",
            "Seconds of work of the device that wait, by priority: what calibration says, times how much longer passes "
            "take of late.",
            ("priority",),
            registry=registry,
        )
        self.queue_seconds = Histogram(
            "gradserve_queue_wait_seconds",
            "From the arrival of a program to the start of its first pass.",
            ("priority",),
            registry=registry,
            buckets=_SECONDS,
        )
        self.rejected = Counter(
            "gradserve_rejected_total",
            f"Calls refused on arrival, by reason: {_listed(REJECTED)}.",
            ("reason",),
            registry=registry,
        )
        self.abandoned = Counter(
            "gradserve_abandoned_total",
            f"Programs dropped before their end, by reason: {_listed(ABANDONED)}.",
            ("reason",),
            registry=registry,
        )
        self.answer_cache = Counter(
            "gradserve_answer_cache_total",
            "Requests whose answer was kept (`hit`), being computed for another (`shared`), or neither (`miss`).",
            ("outcome",),
            registry=registry,
        )
        self.answer_cache_bytes = Gauge("gradserve_answer_cache_bytes", "Bytes of answers kept.", registry=registry)
        self.pass_rows = Histogram("gradserve_pass_rows", "Rows in a pass.", registry=registry, buckets=_SIZES)
        self.pass_programs = Histogram(
            "gradserve_pass_programs", "Programs that share a pass.", registry=registry, buckets=_SIZES
        )
        self.pass_seconds = Histogram(
            "gradserve_pass_compute_seconds", "Duration of a pass.", registry=registry, buckets=_SECONDS
        )
        self.device_seconds = Counter(
            "gradserve_device_seconds_total", "Time in which the device ran passes, two as one.", registry=registry
        )
        self.out_of_memory = Counter(
            "gradserve_pass_out_of_memory_total", "Passes halved for lack of memory.", registry=registry
        )
        self.model_load_seconds = Gauge(
            "gradserve_model_load_seconds", "Time to load and measure a model.", ("model",), registry=registry
        )
        self.model_info = Gauge(
            "gradserve_model_info", "Models that are served.", ("model", "version", "precision"), registry=registry
        )
        self.model_state = Gauge(
            "gradserve_model_state",
            "1 for the state that each version of a model is in: `loading`, `ready`, `failed` or `unloaded`.",
            ("model", "number", "state"),
            registry=registry,
        )
        self.model_loads = Counter(
            "gradserve_model_loads_total",
            "Versions of models that were `loaded`, `failed` to load, or were `unloaded` for lack of use.",
            ("model", "outcome"),
            registry=registry,
        )
        self.endpoint_renewals = Counter(
            "gradserve_endpoint_renewals_total",
            "Times that a request ended the gRPC server and a new one took its place.",
            registry=registry,
        )
        self.repository_failures = Counter(
            "gradserve_model_repository_failures_total", "Looks at the models that found none.", registry=registry
        )
        self.calibrated_pass_rows = Gauge(
            "gradserve_calibrated_pass_rows", "Rows per pass in force.", ("model",), registry=registry
        )
        self.calibrated_row_seconds = Gauge(
            "gradserve_calibrated_row_seconds",
            "Measured time of a row with its gradient in a full pass.",
            ("model",),
            registry=registry,
        )
        build_info = Gauge("gradserve_build_info", "This server.", ("version",), registry=registry)
        build_info.labels(version("gradserve")).set(1)
        # All label sets exist from the start, so that rates begin at zero.
        for priority in ("interactive", "iterative"):
            self.queue_depth.labels(priority)
            self.queued_seconds.labels(priority)
            self.queue_seconds.labels(priority)
        for reason in ABANDONED:
            self.abandoned.labels(reason)
        for reason in REJECTED:
            self.rejected.labels(reason)

    def show_models(self, states: Iterable[tuple[str, str, str]], infos: Iterable[tuple[str, str, str]]) -> None:
        """Shows what is served now, and nothing of what was.

        Args:
            states: Model, number of its version, and state.
            infos: Model, SHA-256 of its weights, and precision.
        """
        _show(self.model_state, states)
        _show(self.model_info, infos)


def _listed(reasons: Iterable[str]) -> str:
    return ", ".join(f"`{reason}`" for reason in reasons)


def _show(gauge: Gauge, labels: Iterable[tuple[str, ...]]) -> None:
    shown = set(labels)
    known = [tuple(sample.labels.values()) for metric in gauge.collect() for sample in metric.samples]
    for gone in set(known) - shown:
        gauge.remove(*gone)
    for values in shown:
        gauge.labels(*values).set(1)
