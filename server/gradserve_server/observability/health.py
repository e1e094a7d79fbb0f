"""Health by service name, as gRPC probes ask for it."""

from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer

LIVENESS = "liveness"


class Health:
    """What the health service says.

    Three names: the service's own and the empty one are SERVING while requests are answered; `liveness` is SERVING
    unless the worker is dead, so that a busy, loading or draining server is not restarted.

    Args:
        service: Full name of the service.
    """

    def __init__(self, service: str) -> None:
        self._servicer = HealthServicer()
        self._readiness = ("", service)

    async def start(self) -> None:
        """Says alive, not yet ready. Before a server starts, or it says ready by default."""
        await self.set_ready(False)
        await self.set_alive(True)

    def add_to(self, server: aio.Server) -> None:
        """Registers the health service; several servers may say the same."""
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)

    async def set_ready(self, ready: bool) -> None:
        """Says whether requests are answered."""
        for name in self._readiness:
            await self._servicer.set(name, _status(ready))

    async def set_alive(self, alive: bool) -> None:
        """Says whether the server should live on."""
        await self._servicer.set(LIVENESS, _status(alive))


def _status(serving: bool) -> health_pb2.HealthCheckResponse.ServingStatus:
    return health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
