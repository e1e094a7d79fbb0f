"""LitServe: JSON in, as its requests are; workers decode, explain and answer batches."""

import base64
import os

import litserve as ls
from benchmarks.peers.team import Team
from fastapi import Response


class Explainer(ls.LitAPI):
    """Explains batches; those of one batch are asked for the same method."""

    def setup(self, device):
        self.team = Team()

    def decode_request(self, request):
        return request["method"], base64.b64decode(request["image"])

    def batch(self, inputs):
        return inputs

    def predict(self, inputs):
        batch = inputs if isinstance(inputs, list) else [inputs]
        maps = list(self.team.explain(batch[0][0], [encoded for _, encoded in batch]))
        return maps if isinstance(inputs, list) else maps[0]

    def unbatch(self, output):
        return output

    def encode_response(self, output):
        return Response(output.tobytes(), media_type="application/octet-stream")


if __name__ == "__main__":
    api = Explainer(max_batch_size=int(os.environ["PEER_BATCH"]), batch_timeout=float(os.environ["PEER_WAIT"]))
    server = ls.LitServer(api, accelerator="cpu", workers_per_device=int(os.environ["PEER_WORKERS"]), fast_queue=True)
    server.run(host="127.0.0.1", port=int(os.environ["PEER_PORT"]), generate_client_file=False, log_level="warning")
