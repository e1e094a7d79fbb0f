"""The series of one RPC method."""

import grpc

from gradserve_server.observability.metrics import Metrics


class MethodSeries:
    """Counts the calls of one method.

    Its series exist from the start, so that rates begin at zero, and are looked up once: a call that is refused costs
    little else.

    Args:
        metrics: Where to count.
        kind: `unary` or `server_stream`.
        service: Full name of the service.
        method: Name of the method.
    """

    def __init__(self, metrics: Metrics, kind: str, service: str, method: str) -> None:
        labels = (kind, service, method)
        self._in_flight = metrics.in_flight.labels(method)
        self._started = metrics.rpc_started.labels(*labels)
        self._received = metrics.rpc_received.labels(*labels)
        self._sent = metrics.rpc_sent.labels(*labels)
        self._seconds = metrics.rpc_seconds.labels(*labels)
        self._handled = {code: metrics.rpc_handled.labels(*labels, _camel_case(code)) for code in grpc.StatusCode}

    def started(self) -> None:
        """Counts a call that begins, and its request."""
        self._in_flight.inc()
        self._started.inc()
        self._received.inc()

    def sent(self) -> None:
        """Counts an answer, or an event of one."""
        self._sent.inc()

    def ended(self, code: grpc.StatusCode, seconds: float) -> None:
        """Counts a call that ended with `code` after so many seconds."""
        self._in_flight.dec()
        self._handled[code].inc()
        self._seconds.observe(seconds)


def _camel_case(code: grpc.StatusCode) -> str:
    return "OK" if code is grpc.StatusCode.OK else "".join(word.capitalize() for word in code.name.split("_"))
