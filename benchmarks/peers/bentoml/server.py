"""BentoML: a service that batches, behind one that takes bytes, as BentoML composes services."""

import os

import bentoml
import numpy as np
from benchmarks.peers.team import Team
from fastapi import FastAPI, Request, Response

app = FastAPI()
QUIET = {"access": {"enabled": False}}
BATCH = int(os.environ["PEER_BATCH"])
# A batch of one is none: BentoML refuses it.
api = bentoml.api(batchable=True, max_batch_size=BATCH, max_latency_ms=60_000) if BATCH > 1 else bentoml.api


@bentoml.service(workers=int(os.environ["PEER_WORKERS"]), traffic={"timeout": 120}, logging=QUIET)
class Explainer:
    """Explains batches."""

    def __init__(self) -> None:
        self.team = Team()

    @api
    def saliency(self, images: list[bytes]) -> np.ndarray:
        return self.team.explain("saliency", images)

    @api
    def grad_cam(self, images: list[bytes]) -> np.ndarray:
        return self.team.explain("grad_cam", images)

    @api
    def grad_cam_captum(self, images: list[bytes]) -> np.ndarray:
        return self.team.explain("grad_cam_captum", images)

    @api
    def integrated_gradients(self, images: list[bytes]) -> np.ndarray:
        return self.team.explain("integrated_gradients", images)


@bentoml.service(workers=1, traffic={"timeout": 120}, logging=QUIET)
@bentoml.asgi_app(app, path="/explain")
class Front:
    """Takes bytes and returns bytes."""

    explainer = bentoml.depends(Explainer)

    @app.post("/{method}")
    async def explain(self, method: str, request: Request) -> Response:
        found = await getattr(self.explainer.to_async, method)([await request.body()])
        return Response(np.asarray(found, np.float32).tobytes(), media_type="application/octet-stream")
