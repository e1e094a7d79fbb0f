"""A plain grpc.aio server around the team's code; bytes in, bytes out.

As first written, the model is made where the server is, and a request runs it in a thread. At its best, one thread
makes it and runs it.
"""

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor

import grpc.aio
from benchmarks.peers.team import METHODS, Team


async def main() -> None:
    """Serves on PEER_PORT."""
    loop = asyncio.get_running_loop()
    thread = ThreadPoolExecutor(1)
    team = Team() if os.environ["PEER_CODE"] == "first" else await loop.run_in_executor(thread, Team)

    def handler(method: str) -> grpc.RpcMethodHandler:
        async def explain(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
            found = await loop.run_in_executor(thread, team.explain, method, [request])
            return found.tobytes()

        return grpc.unary_unary_rpc_method_handler(explain)

    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("peers.Explainer", {method: handler(method) for method in METHODS}),)
    )
    server.add_insecure_port(f"127.0.0.1:{os.environ['PEER_PORT']}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main())
