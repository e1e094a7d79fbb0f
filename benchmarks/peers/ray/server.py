"""Ray Serve: replicas that batch, behind its HTTP proxy."""

import os
import signal
import sys

import ray
from benchmarks.peers.team import METHODS, Team
from ray import serve
from starlette.requests import Request
from starlette.responses import Response

CORES = os.cpu_count() or 1
WORKERS = int(os.environ["PEER_WORKERS"])


@serve.deployment(num_replicas=WORKERS, max_ongoing_requests=64, ray_actor_options={"num_cpus": 0.5})
class Explainer:
    """Explains batches, of each method apart."""

    def __init__(self) -> None:
        self.team = Team()
        self.batches = {method: self._batched(method) for method in METHODS}

    def _batched(self, method: str):
        @serve.batch(max_batch_size=int(os.environ["PEER_BATCH"]), batch_wait_timeout_s=float(os.environ["PEER_WAIT"]))
        async def explain(images: list[bytes]) -> list[bytes]:
            return [values.tobytes() for values in self.team.explain(method, images)]

        return explain

    async def __call__(self, request: Request) -> Response:
        found = await self.batches[request.url.path.strip("/")](await request.body())
        return Response(found, media_type="application/octet-stream")


if __name__ == "__main__":
    # Workers inherit the environment. A busy machine takes longer to start a proxy than Ray waits.
    os.environ["RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S"] = "60"
    # Ray would run them at the lowest priority, behind the callers on the same cores.
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112  # Ray spells it so
    ray.init(address="local", num_cpus=CORES, include_dashboard=False, object_store_memory=200 << 20)
    serve.start(http_options={"host": "127.0.0.1", "port": int(os.environ["PEER_PORT"])})
    serve.run(Explainer.bind())
    # So that Ray's processes end with this one.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    signal.pause()
