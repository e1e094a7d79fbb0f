"""Serves one call of each kind and prints, for each thread but the worker's, what torch operations it ran.

Every thread runs under a mode that sees its operations, the event loop's too. A process of its own, because threads
that run before this begins are not seen.
"""

import asyncio
import sys
import threading
from collections import Counter
from typing import Any

from gradserve_server.scheduling.allocator import keep_freed_memory

keep_freed_memory()

from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

OPERATIONS: Counter[tuple[str, str]] = Counter()


class Listening(TorchDispatchMode):
    """Counts the operations of the thread that enters it."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        OPERATIONS[threading.current_thread().name, str(func)] += 1
        return func(*args, **(kwargs or {}))


def listen() -> None:
    """Lets every thread that starts from now on be listened to."""
    run = threading.Thread.run

    def heard(thread: threading.Thread) -> None:
        with Listening():
            run(thread)

    threading.Thread.run = heard  # type: ignore[method-assign]


async def main() -> None:
    """Asks a server of this process for everything, several at a time."""
    import skimage.data

    from gradserve import aio
    from gradserve_server.app import running
    from gradserve_server.config import Settings

    cat = skimage.data.chelsea()
    with Listening():
        async with (
            running(Settings(listen="127.0.0.1:0", metrics="127.0.0.1:0", pass_rows=2)) as server,
            aio.Client(f"127.0.0.1:{server.port}") as client,
        ):
            await client.list_models()
            await asyncio.gather(
                client.explain(cat, method="grad_cam", trust=True),
                client.explain(cat, method="xrai", step_count=1),
                client.explain(cat, method="kernel_shap", sample_count=8, segment_count=4),
                client.maximize(class_index=281, steps=2, size=64).result(),
                client.stylize(cat, cat, steps=2, size=64, preserve_colors=True).result(),
                client.stylize(cat, stylizer="stained_glass", size=64).result(),
            )


if __name__ == "__main__":
    listen()
    asyncio.run(main())
    for (thread, operation), count in sorted(OPERATIONS.items()):
        print(f"{thread}: {operation} ({count})")
    sys.stdout.flush()
