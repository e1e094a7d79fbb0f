"""MLServer: a runtime for its adaptive batching, asked over the Open Inference Protocol."""

from benchmarks.peers.team import Team
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Explainer(MLModel):
    """Explains batches; the name of the input is that of the method."""

    async def load(self) -> bool:
        self.team = Team()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        (images,) = payload.inputs
        data = getattr(images.data, "root", images.data)
        encoded = [one if isinstance(one, bytes) else one.encode("latin-1") for one in data]
        maps = self.team.explain(images.name, encoded)
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("maps", maps)])
