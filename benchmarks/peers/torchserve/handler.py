"""TorchServe's handler: a batch of bodies in, a batch of bytes out; the method is a header of the first."""

from benchmarks.peers.team import Team


class Explainer:
    """Explains batches; those of one batch are asked for the same method."""

    def initialize(self, context):
        self.team = Team()

    def handle(self, data, context):
        method = context.get_request_header(0, "Method")
        maps = self.team.explain(method, [bytes(one.get("body") or one.get("data")) for one in data])
        return [values.tobytes() for values in maps]
