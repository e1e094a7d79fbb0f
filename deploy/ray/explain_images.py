"""Explains a folder of images on a Ray cluster. Needs `pip install 'gradserve[server,ray]'` on all machines.

    python deploy/ray/explain_images.py photographs/ explained/ --method grad_cam --workers 4

Each worker is a whole server on a loopback port of its own and the server's only caller: programs, core and answers are
the service's. A batch of images becomes one Parquet file, which is there as a whole or not at all; overlays are files
beside it. So the job may be killed, and run again: what is there already is not explained again. Input and output are
folders that all machines see.
"""

import argparse
import asyncio
import hashlib
import json
import logging
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from math import inf
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import ray
import ray.data

from gradserve import Client, Explanation, InvalidRequest

ENDINGS = (".jpg", ".jpeg", ".png", ".webp")

SCHEMA = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),
        pa.field("error", pa.string()),
        pa.field("method", pa.string()),
        pa.field("target_index", pa.int32()),
        pa.field("target_label", pa.string()),
        pa.field("probability", pa.float32()),
        pa.field("height", pa.int32()),
        pa.field("width", pa.int32()),
        # float32, little-endian, row by row: numpy.frombuffer(heatmap, "<f4").reshape(height, width).
        pa.field("heatmap", pa.binary()),
        pa.field("overlay", pa.string()),
        pa.field("model", pa.string()),
        pa.field("model_version", pa.string()),
        pa.field("seed", pa.int64()),
    ]
)


@dataclass(frozen=True)
class Task:
    """What to do with each image. An output folder belongs to one task.

    Attributes:
        method: Name of the method.
        model: Name of the model; empty for the default one.
        frame: Frame of the heatmaps.
        seed: Seed of random draws, the same for each image.
        overlays: Whether to save overlays.
    """

    method: str
    model: str
    frame: str
    seed: int
    overlays: bool


class Worker:
    """A server and its caller, in a process of their own.

    Args:
        source: Folder of the images.
        output: Folder of the results.
        task: What to do.
        settings: Settings of the server.
    """

    def __init__(self, source: Path, output: Path, task: Task, settings: dict[str, Any]) -> None:
        self._source, self._output, self._task = source, output, task
        self._client = Client(f"127.0.0.1:{_serve(settings)}", timeout=3600)
        print(f"explaining in process {os.getpid()}", file=sys.stderr, flush=True)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Explains a batch and returns how many images it had, and how many of them are none."""
        paths = [str(path) for path in batch["paths"]]
        # All at once: the core packs them into passes.
        with ThreadPoolExecutor(len(paths)) as threads:
            rows = list(threads.map(self._row, paths))
        name = hashlib.sha256("\n".join(paths).encode()).hexdigest()[:32]
        _write(pa.Table.from_pylist(rows, SCHEMA), self._output / f"part-{name}.parquet")
        return {"images": len(rows), "failed": sum(row.get("error") is not None for row in rows)}

    def _row(self, path: str) -> dict[str, Any]:
        task = self._task
        try:
            explanation = self._client.explain(
                self._source / path,
                method=task.method,
                model=task.model or None,
                frame=task.frame,
                seed=task.seed,
                overlay=task.overlays,
            )
        except InvalidRequest as error:
            # The image is at fault, and always will be. Any other error ends the job.
            return {"path": path, "error": str(error)}
        return {"path": path, "overlay": self._save(explanation, path), **_columns(explanation)}

    def _save(self, explanation: Explanation, path: str) -> str | None:
        if explanation.overlay is None:
            return None
        # The whole name and an ending: `a.jpg` and `a.png` are two images.
        name = f"overlays/{path}.png"
        target = self._output / name
        target.parent.mkdir(parents=True, exist_ok=True)
        explanation.overlay.save(target)
        return name


def _columns(explanation: Explanation) -> dict[str, Any]:
    target, metadata = explanation.target, explanation.metadata
    height, width = explanation.heatmap.shape
    return {
        "method": explanation.method,
        "target_index": target.index if target else None,
        "target_label": target.label if target else None,
        "probability": target.probability if target else None,
        "height": height,
        "width": width,
        "heatmap": explanation.heatmap.astype("<f4").tobytes(),
        "model": metadata.model,
        "model_version": metadata.model_version,
        "seed": metadata.seed,
    }


def _serve(settings: dict[str, Any]) -> int:
    """Starts a server in a thread of this process and returns its port once it is ready."""
    # First of all, before torch starts a thread.
    from gradserve_server.scheduling.allocator import keep_freed_memory

    keep_freed_memory()
    from gradserve_server.app import running
    from gradserve_server.config import Settings

    started = threading.Event()
    found: dict[str, Any] = {}

    async def main() -> None:
        try:
            async with running(Settings(listen="127.0.0.1:0", metrics="127.0.0.1:0", **settings)) as server:
                found["port"] = server.port
                started.set()
                await asyncio.Event().wait()
        except BaseException as error:
            # For the thread that waits below.
            found["error"] = error
            started.set()

    threading.Thread(target=lambda: asyncio.run(main()), name="server", daemon=True).start()
    started.wait()
    if "error" in found:
        raise found["error"]
    return int(found["port"])


def _write(table: pa.Table, path: Path) -> None:
    """Writes a file that is there as a whole or not at all."""
    unfinished = path.with_suffix(f".{os.getpid()}.unfinished")
    pq.write_table(table, unfinished, compression="zstd")
    unfinished.replace(path)


def images(source: Path) -> list[str]:
    """Returns the paths of all images under a folder, relative to it, in order."""
    return sorted(
        str(path.relative_to(source)) for path in source.rglob("*") if path.suffix.lower() in ENDINGS and path.is_file()
    )


def explained(output: Path) -> Iterator[str]:
    """Yields the paths that results are there for."""
    for part in output.glob("part-*.parquet"):
        yield from pq.read_table(part, columns=["path"])["path"].to_pylist()


def claim(output: Path, task: Task) -> None:
    """Makes the output folder this task's, or finds that it is.

    Raises:
        ValueError: It holds the results of another.
    """
    output.mkdir(parents=True, exist_ok=True)
    description = output / "task.json"
    if description.exists():
        if json.loads(description.read_text()) != asdict(task):
            raise ValueError(
                f"{output} holds the results of another task, {description.read_text()}: name a new folder"
            )
        return
    description.write_text(json.dumps(asdict(task)))


def run(source: Path, output: Path, task: Task, *, workers: int, batch: int, gpus: float, cpus: float, **settings: Any):
    """Explains what is not yet explained and returns how many images that were, and how many of them are none."""
    claim(output, task)
    done = set(explained(output))
    missing = [path for path in images(source) if path not in done]
    print(f"{len(done)} images are explained, {len(missing)} to go", flush=True)
    if not missing:
        return 0, 0
    for unfinished in output.glob("*.unfinished"):
        unfinished.unlink()
    batches = [{"paths": missing[start : start + batch]} for start in range(0, len(missing), batch)]
    # A row is a batch and a block, so that what has to be done again when a worker dies is one batch.
    results = ray.data.from_items(batches, override_num_blocks=len(batches)).map(
        Worker,
        fn_constructor_args=(source.resolve(), output.resolve(), task, settings),
        concurrency=workers,
        num_cpus=cpus,
        num_gpus=gpus,
        # A machine that goes away is no reason to end: its batches are done elsewhere.
        max_restarts=-1,
        max_task_retries=-1,
    )
    counted = [(row["images"], row["failed"]) for row in results.iter_rows()]
    return sum(count for count, _ in counted), sum(failed for _, failed in counted)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the job; returns 1 if it could not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="folder of JPEG, PNG and WebP files")
    parser.add_argument("output", type=Path, help="folder for the results")
    parser.add_argument("--method", default="grad_cam", help="method (default %(default)s)")
    parser.add_argument("--model", default="", help="model (default: the first)")
    parser.add_argument("--models", type=Path, help="file of models (default: the embedded one)")
    parser.add_argument("--frame", choices=("original", "model_input"), default="model_input")
    parser.add_argument("--overlays", action="store_true", help="save overlays too")
    parser.add_argument("--seed", type=int, default=0, help="seed of random draws (default %(default)d)")
    parser.add_argument("--workers", type=int, default=1, help="number of workers, one for each device")
    parser.add_argument("--batch", type=int, default=32, help="images in one Parquet file (default %(default)d)")
    parser.add_argument("--gpus", type=float, default=0, help="GPUs of a worker (default %(default)g)")
    parser.add_argument("--cpus", type=float, default=1, help="CPUs of a worker (default %(default)g)")
    parser.add_argument("--pass-rows", type=int, default=0, help="rows per pass; 0 for what calibration finds")
    parser.add_argument("--address", help="address of a Ray cluster (default: one of its own, on this machine)")
    parsed = parser.parse_args(arguments)
    alone: dict[str, Any] = {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    ray.init(address=parsed.address, logging_level=logging.WARNING, **({} if parsed.address else alone))
    task = Task(parsed.method, parsed.model, parsed.frame, parsed.seed, parsed.overlays)
    try:
        count, failed = run(
            parsed.source,
            parsed.output,
            task,
            workers=parsed.workers,
            batch=parsed.batch,
            gpus=parsed.gpus,
            cpus=parsed.cpus,
            device="cuda:0" if parsed.gpus else "cpu",
            models=parsed.models.resolve() if parsed.models else None,
            pass_rows=parsed.pass_rows,
            # The one caller, and so the one tenant, sends a whole batch, and waits for as long as it takes.
            queue_size=max(1024, parsed.batch),
            queue_bytes=sys.maxsize,
            tenant_share=1.0,
            interactive_queue_seconds=inf,
        )
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"explained {count - failed} images, {failed} could not be read")
    return 0


if __name__ == "__main__":
    sys.exit(main())
