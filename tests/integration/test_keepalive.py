"""Clients that ask now and then whether the server still lives are not sent away for it."""

import asyncio

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.serving import free_port

from gradserve_server import app
from gradserve_server.config import Settings
from gradserve_server.observability.health import Health

PINGS = 8
"""More than the two that a server of gRPC forgives by itself."""


async def test_the_pings_that_the_server_allows_are_allowed() -> None:
    """With all of the server's own options, but a hundredth of the interval between pings, and of the client's."""
    options = [(name, value // 100 if "ping_interval" in name else value) for name, value in app._options(Settings())]
    assert len([name for name, _ in options if "ping_interval" in name]) == 1
    server = grpc.aio.server(options=options)
    health = Health("service")
    await health.start()
    health.add_to(server)
    port = free_port()
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    pinging = [("grpc.keepalive_time_ms", 400), ("grpc.http2.max_pings_without_data", 0)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", pinging) as channel:
        watching = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service="liveness"))
        await watching.read()
        # What ends the wait early is a connection that the server closed: the read then fails.
        reading = asyncio.ensure_future(watching.read())
        ended, _ = await asyncio.wait([reading], timeout=PINGS * 0.4)
        assert not ended, watching
        watching.cancel()
        await asyncio.wait([reading])
    await server.stop(0)
