"""Mixed load in rounds, with all that callers do wrong, and what the server holds in the pauses between them."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass

import numpy as np
from tests.load.checks import Check

from gradserve import GradserveError, aio
from gradserve.v1 import explainer_service_pb2_grpc, maximize_pb2

HEALTH_SECONDS = 0.1
NOISE = 3.0
"""Growth of memory within so many standard deviations of the samples around their line is noise."""
SMALLEST_GROWTH = 0.02
"""Part of the memory that counts as growth at all: an allocator's heap is not full to the byte."""
EXPECTED = ("OK", "INVALID_ARGUMENT", "NOT_FOUND", "CANCELLED", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED")
METHODS = (
    ("saliency", {}),
    ("grad_cam", {}),
    ("guided_backprop", {}),
    ("integrated_gradients", {"step_count": 8}),
    ("smooth_grad", {"noisy_sample_count": 4}),
    ("rise", {"mask_count": 16}),
    ("lrp", {}),
    ("kernel_shap", {"sample_count": 16, "segment_count": 4}),
)


@dataclass(frozen=True)
class Sample:
    """What a server holds while nobody asks it anything.

    Attributes:
        resident_mib: Resident memory.
        tasks: Tasks of its event loop.
        threads: Threads of the process, as the operating system counts them.
        files: Open file descriptors.
    """

    resident_mib: float
    tasks: int
    threads: int
    files: int


async def round_of_load(address: str, picture: bytes, seconds: float, seed: int) -> Counter[str]:
    """Asks a server all kinds of things for a while, and returns how many calls ended with each code."""
    codes: Counter[str] = Counter()
    ends = asyncio.get_running_loop().time() + seconds
    draw = random.Random(seed)

    async def explain(client: aio.Client) -> None:
        method, parameters = draw.choice(METHODS)
        await client.explain(picture, method=method, seed=draw.randrange(1000), timeout=60.0, **parameters)

    async def maximize(client: aio.Client) -> None:
        await client.maximize(class_index=1, steps=8, preview_interval_steps=2, timeout=60.0).result()

    async def stylize(client: aio.Client) -> None:
        await client.stylize(picture, stylizer="stained_glass", size=64, timeout=60.0).result()

    async def go_away(client: aio.Client) -> None:
        asked = asyncio.ensure_future(draw.choice((explain, maximize, stylize))(client))
        await asyncio.wait([asked], timeout=draw.uniform(0, 0.5))
        asked.cancel()
        with suppress(asyncio.CancelledError):
            await asked
            return
        codes["CANCELLED"] += 1

    async def read_slowly(client: aio.Client) -> None:
        request = maximize_pb2.MaximizeRequest(step_count=8, preview_interval_steps=1)
        request.objectives.add().class_score.class_index = 2
        stub = explainer_service_pb2_grpc.ExplainerServiceStub(client._channel)
        async for _ in stub.Maximize(request, timeout=60.0):
            await asyncio.sleep(draw.uniform(0, 0.5))

    async def err(client: aio.Client) -> None:
        wrong = draw.choice(
            (
                lambda: client.explain(b"no image"),
                lambda: client.explain(picture, model="none"),
                lambda: client.explain(picture, target=-1),
                lambda: client.explain(picture, method="rise", mask_count=500, timeout=0.05),
                lambda: client.maximize(class_index=-1).result(),
                lambda: client.stylize(picture, stylizer="none").result(),
            )
        )
        await wrong()

    async def caller(ask: Callable[[aio.Client], Awaitable[None]]) -> None:
        # A connection of its own now and then, as callers come and go.
        while asyncio.get_running_loop().time() < ends:
            async with aio.Client(address) as client:
                for _ in range(10):
                    if asyncio.get_running_loop().time() >= ends:
                        break
                    try:
                        await ask(client)
                        codes["OK"] += 1
                    except GradserveError as error:
                        codes[error.code.name] += 1

    kinds = (explain, explain, explain, maximize, stylize, go_away, go_away, read_slowly, err)
    await asyncio.gather(*(caller(kind) for kind in kinds))
    return codes


def checks(
    samples: Sequence[Sample], codes: Counter[str], statuses: Sequence[str], seconds: Sequence[float]
) -> list[Check]:
    """Returns what must hold of the pauses, the first quarter of which is the time to warm up, and of health."""
    kept = samples[len(samples) // 4 :]
    resident = np.array([sample.resident_mib for sample in kept])
    growth, noise = _growth(resident)
    odd = sum(count for code, count in codes.items() if code not in EXPECTED)
    found = [
        Check("calls that were answered", codes["OK"], 1, at_least=True),
        Check("calls that ended as none should", odd, 0),
        Check("growth of resident memory, MiB", growth, max(NOISE * noise, SMALLEST_GROWTH * resident.mean())),
        Check("health checks that did not say SERVING", sum(status != "SERVING" for status in statuses), 0),
        Check("health, slowest, s", max(seconds, default=np.nan), HEALTH_SECONDS),
    ]
    early, late = kept[: max(1, len(kept) // 3)], kept[-max(1, len(kept) // 3) :]
    for name in asdict(kept[0]):
        if name != "resident_mib":
            most = max(getattr(sample, name) for sample in early)
            # The least of the last pauses: what goes away a little later was not lost.
            found.append(Check(f"{name} at the end", min(getattr(sample, name) for sample in late), most))
    return found


def _growth(values: np.ndarray) -> tuple[float, float]:
    """Returns by how much a line through values rises from first to last, and their standard deviation around it."""
    places = np.arange(len(values))
    slope, start = np.polyfit(places, values, 1) if len(values) > 1 else (0.0, values[0])
    around = values - (start + slope * places)
    return float(slope * (len(values) - 1)), float(around.std())
