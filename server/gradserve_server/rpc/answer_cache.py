"""Answers that were given before. Off unless an operator gives it bytes.

An explanation is a function of the model, as it was loaded, and the request, so the same request may have the same
answer. Requests that ask the same at once are computed once: the first computes, the others wait for it. A request
without a seed takes any answer, that of an earlier seed too. What others asked shows, in the metadata and in the time
an answer takes: operators who mind leave it off.
"""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from itertools import count
from weakref import WeakKeyDictionary

from gradserve.v1 import explain_pb2
from gradserve_server.models.model import Model
from gradserve_server.observability.metrics import Metrics

Answer = explain_pb2.ExplainResponse


class AnswerCache:
    """The answers that were asked for last. Belongs to one event loop.

    Args:
        byte_limit: Bytes of all answers together; 0 keeps none, and then every request is computed.
        metrics: Where to count.
    """

    def __init__(self, byte_limit: int, metrics: Metrics) -> None:
        self._byte_limit = byte_limit
        self._metrics = metrics
        self._kept: OrderedDict[bytes, Answer] = OrderedDict()
        self._bytes = 0
        self._computing: dict[bytes, asyncio.Future[Answer | None]] = {}

    @property
    def on(self) -> bool:
        """Whether any answer is kept."""
        return self._byte_limit > 0

    async def answer(self, key: bytes, compute: Callable[[], Awaitable[Answer]]) -> Answer:
        """Returns the answer under a key, computed now, by another call that is under way, or earlier.

        An error is nobody else's: of those who waited, the next computes. Raises what `compute` raises.
        """
        if (kept := self._kept.get(key)) is not None:
            self._kept.move_to_end(key)
            self._metrics.answer_cache.labels("hit").inc()
            return kept
        while (computing := self._computing.get(key)) is not None:
            # Who waits may be cancelled; what they wait for goes on.
            if (shared := await asyncio.shield(computing)) is not None:
                self._metrics.answer_cache.labels("shared").inc()
                return shared
        self._metrics.answer_cache.labels("miss").inc()
        computing = self._computing[key] = asyncio.get_running_loop().create_future()
        again: Answer | None = None
        try:
            answer = await compute()
            again = self._keep(key, answer)
        finally:
            del self._computing[key]
            computing.set_result(again)
        return answer

    def _keep(self, key: bytes, answer: Answer) -> Answer:
        again = Answer()
        again.CopyFrom(answer)
        again.metadata.cached = True
        size = again.ByteSize()
        if size <= self._byte_limit:
            self._kept[key] = again
            self._bytes += size
        while self._bytes > self._byte_limit:
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= oldest.ByteSize()
        self._metrics.answer_cache_bytes.set(self._bytes)
        return again


_NUMBERS = count()
_LOADED: WeakKeyDictionary[Model, int] = WeakKeyDictionary()
"""Numbers of models that were asked. With the same weights labels, layers and preprocessing may be others."""


def key_of(request: explain_pb2.ExplainRequest, model: Model) -> bytes:
    """Returns what an answer depends on: the model as it was loaded, and every field of the request."""
    digest = hashlib.sha256(f"{_LOADED.setdefault(model, next(_NUMBERS))}\0".encode())
    digest.update(request.SerializeToString(deterministic=True))
    return digest.digest()
