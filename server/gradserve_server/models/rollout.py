"""From what a repository holds to what is served: a new version takes over once it is loaded, and never before.

One coroutine at a time calls `update` or `restore`; requests read `repository`, which is replaced as a whole.
"""

import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from gradserve_server.models.failure import ModelLoadError, one_line
from gradserve_server.models.folder import Candidate, Listing, Signature
from gradserve_server.models.model import Model
from gradserve_server.models.repository import Entry, Repository, State
from gradserve_server.models.specification import ModelSpec
from gradserve_server.observability.metrics import Metrics

log = logging.getLogger(__name__)

Key = tuple[str, int]


@dataclass(frozen=True)
class _Slot:
    """A version as it was last tried."""

    entry: Entry
    signature: Signature


class Rollout:
    """Keeps what is served in step with a repository.

    Args:
        load: Loads and warms a model.
        metrics: Where to count.
        default_model: Name of the model that is listed first, and of no other where it is gone; empty for the
            repository's first.
        byte_limit: Bytes of weights above which idle models are unloaded; 0 for no bound.
        requested: Called when a request waits for a model that was unloaded.
    """

    def __init__(
        self,
        load: Callable[[ModelSpec], Awaitable[Model]],
        metrics: Metrics,
        *,
        default_model: str = "",
        byte_limit: int = 0,
        requested: Callable[[], None] = lambda: None,
    ) -> None:
        self._load = load
        self._metrics = metrics
        self._default_model = default_model
        self._first = default_model
        self._byte_limit = byte_limit
        self._requested = requested
        self._slots: dict[Key, _Slot] = {}
        self._order: dict[str, int] = {}
        self._last_used: dict[Key, float] = {}
        self._wanted: set[Key] = set()
        self.stylizers: tuple[Model, ...] = ()
        """Those that are served beside the models."""
        self.repository = Repository(())
        """What is served now."""

    @property
    def failures(self) -> list[str]:
        """Why versions are not served."""
        return [entry.message for entry in self.repository.entries if entry.message]

    async def update(self, listings: Sequence[Listing]) -> None:
        """Loads what is new and drops what is gone, one model after the other.

        A version that cannot be loaded is tried again once its files change; meanwhile the old one serves.
        """
        self._order = {listing.name: rank for rank, listing in enumerate(listings)}
        # What comes later must not become the default by its name.
        self._first = self._first or listings[0].name
        for listing in listings:
            await self._settle(listing)
        self._drop(key for key in self._slots if key[0] not in self._order)
        self._publish()

    async def restore(self) -> None:
        """Loads the models that were unloaded and that requests wait for."""
        for key in list(self._wanted):
            self._wanted.discard(key)
            slot = self._slots.get(key)
            if slot is not None and slot.entry.state is State.UNLOADED:
                self._put(replace(slot.entry, state=State.LOADING), slot.signature)
                await self._try(Candidate(slot.entry.spec, slot.signature))
                self._publish()

    async def _settle(self, listing: Listing) -> None:
        if listing.error:
            # Versions that serve go on; the mistake is shown beside them.
            failed = Entry(ModelSpec(listing.name), State.FAILED, listing.error)
            self._note_failure((listing.name, 0), failed, ())
            self._publish()
            return
        kept: set[Key] = set()
        for candidate in listing.candidates:
            key = (listing.name, candidate.spec.number)
            kept.add(key)
            slot = self._slots.get(key)
            if slot is None or slot.signature != candidate.signature or slot.entry.spec != candidate.spec:
                await self._try(candidate)
            if not listing.every and self._slots[key].entry.state is not State.FAILED:
                break
        self._drop(key for key in self._slots if key[0] == listing.name and key not in kept)
        self._publish()

    async def _try(self, candidate: Candidate) -> None:
        spec = candidate.spec
        key = (spec.name, spec.number)
        before = self._slots[key].entry if key in self._slots else None
        old = before.model if before is not None else None
        if old is None:
            self._put(Entry(spec, State.LOADING), candidate.signature)
        try:
            if candidate.error:
                raise ModelLoadError(candidate.error)
            model = await self._load(spec)
        except Exception as error:
            if not isinstance(error, ModelLoadError):
                # Out of memory, or a fault of ours: the other models are served all the same.
                log.exception("model %s", spec.title)
            state = State.READY if old is not None else State.FAILED
            message = f"newer files are not served: {one_line(error)}" if old is not None else one_line(error)
            self._note_failure(key, Entry(spec, state, message, old), candidate.signature)
            return
        self._metrics.model_loads.labels(spec.name, "loaded").inc()
        self._last_used[key] = time.monotonic()
        self._slots[key] = _Slot(Entry(spec, State.READY, "", model), candidate.signature)
        self._make_room(keep=key)

    def _note_failure(self, key: Key, entry: Entry, signature: Signature) -> None:
        known = self._slots.get(key)
        if known is None or known.entry.message != entry.message or known.signature != signature:
            self._metrics.model_loads.labels(key[0], "failed").inc()
            log.error("%s", entry.message)
        self._put(entry, signature)

    def _make_room(self, keep: Key) -> None:
        """Unloads the idle models that were used longest ago until the rest fits."""
        if not self._byte_limit:
            return
        loaded = {key: slot.entry for key, slot in self._slots.items() if slot.entry.model is not None}
        total = sum(entry.model.byte_count for entry in loaded.values() if entry.model is not None)
        for key in sorted(loaded, key=lambda key: self._last_used.get(key, 0.0)):
            entry = loaded[key]
            if total <= self._byte_limit:
                return
            if entry.spec.pin or key == keep or entry.model is None:
                continue
            log.info("unloaded %s: %d bytes of weights are over the limit", entry.spec.title, total)
            total -= entry.model.byte_count
            self._metrics.model_loads.labels(key[0], "unloaded").inc()
            self._slots[key] = _Slot(replace(entry, state=State.UNLOADED, model=None), self._slots[key].signature)

    def _used(self, entry: Entry) -> None:
        # Requests call this from threads of the pool; a dict and a set take that.
        key = (entry.spec.name, entry.spec.number)
        self._last_used[key] = time.monotonic()
        if entry.state is State.UNLOADED:
            self._wanted.add(key)
            self._requested()

    def _put(self, entry: Entry, signature: Signature) -> None:
        self._slots[entry.spec.name, entry.spec.number] = _Slot(entry, signature)
        self._publish()

    def _drop(self, keys: Iterable[Key]) -> None:
        for key in list(keys):
            del self._slots[key]
            self._last_used.pop(key, None)

    def _publish(self) -> None:
        def rank(key: Key) -> tuple[bool, int, str, int]:
            name, number = key
            return name != self._first, self._order.get(name, len(self._order)), name, -number

        entries = tuple(self._slots[key].entry for key in sorted(self._slots, key=rank))
        self.repository = Repository(entries, self.stylizers, self._used, self._default_model)
        # Stylizers are there at once: while no model is, nothing is served.
        models = (*self.repository.models, *self.stylizers) if self.repository.models else ()
        self._metrics.show_models(
            states=[(entry.spec.name, str(entry.spec.number), entry.state.value) for entry in entries],
            infos=[(model.name, model.version, model.precision) for model in models],
        )
