"""Who is compared, at which settings, and how each is started."""

import asyncio
import os
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers import connections
from benchmarks.peers.connections import Connection
from benchmarks.peers.environments import FOLDER, python

import gradserve
import gradserve_server

HERE = Path(__file__).parent
START_SECONDS = 180.0
_SOURCES = [Path(package.__path__[0]).parent for package in (gradserve, gradserve_server)]

KEEPING = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1),
    "MALLOC_TOP_PAD_": str(64 << 20),
}
"""What `keep_freed_memory` sets in this project's server, for a process of anybody's. Another allocator ignores it."""


@dataclass(frozen=True)
class Settings:
    """What can be tuned.

    Attributes:
        workers: Processes that hold the model.
        threads: Threads of torch in each; 0 for its default.
        batch: Largest batch.
        wait: Seconds to wait for a batch to fill.
    """

    workers: int = 1
    threads: int = 0
    batch: int = 1
    wait: float = 0.0

    def __str__(self) -> str:
        wait = f", wait {self.wait * 1000:g} ms" if self.batch > 1 else ""
        return f"{self.workers} worker(s) x {self.threads or 'default'} thread(s), batch {self.batch}{wait}"


CORES = len(os.sched_getaffinity(0))
SWEEP = (
    Settings(1, CORES, 4, 0.005),
    Settings(1, CORES, 8, 0.01),
    Settings(CORES, 1, 1),
    Settings(CORES, 1, 4, 0.005),
)
"""Few large batches on all cores, or a process on each."""


@dataclass(frozen=True)
class Running:
    """A server that runs.

    Attributes:
        connection: How it is asked.
        pid: Number of its first process.
    """

    connection: Connection
    pid: int

    @contextmanager
    def held(self) -> Iterator[None]:
        """Holds its processes: some look for work all the time, and would take the cores from who is measured."""
        numbers = [self.pid, *_descendants(self.pid)]
        _signal(numbers, signal.SIGSTOP)
        try:
            yield
        finally:
            _signal(numbers, signal.SIGCONT)


@dataclass(frozen=True)
class Contestant:
    """A server to compare with.

    Attributes:
        title: What it is.
        environment: Name of its folder and environment.
        command: Arguments after the interpreter, or after the environment's folder of programs if there is a program.
        connection: How it is asked.
        code: How far the team went; see `benchmarks.peers.team`.
        bars: Bar of the ratio of throughputs, by method.
        sweep: Settings to choose among.
        keeps_memory: Whether it has the allocator that this process has, and that keeps freed memory; otherwise it has
            the C library's as it comes.
        variables: More of its environment, from its port and settings.
    """

    title: str
    environment: str
    command: tuple[str, ...]
    connection: type[Connection]
    code: str
    bars: Mapping[str, str]
    sweep: tuple[Settings, ...] = SWEEP
    keeps_memory: bool = True
    variables: Callable[[int, Settings], Mapping[str, str]] = lambda port, settings: {}

    @asynccontextmanager
    async def running(self, settings: Settings, steps: int, encoded: bytes) -> AsyncIterator[Running]:
        """Runs it and yields it once it has answered.

        Raises:
            RuntimeError: It does not answer in time, or ended; with the end of what it wrote.
        """
        port = _free_port()
        FOLDER.mkdir(exist_ok=True)
        log = FOLDER / f"{self.environment}.log"
        interpreter = python(self.environment)
        program, *arguments = self.command
        first = [str(interpreter)] if program == "python" else [str(interpreter.parent / program)]
        with log.open("w") as file:
            process = subprocess.Popen(
                [*first, *(argument.format(port=port) for argument in arguments)],
                stdout=file,
                stderr=subprocess.STDOUT,
                cwd=HERE.parent.parent,
                env=self._environment(interpreter, port, settings, steps),
                start_new_session=True,
            )
        connection = self.connection(port, steps, settings.workers)
        try:
            await _answering(connection, process, encoded, log)
            yield Running(connection, process.pid)
        finally:
            await connection.close()
            await asyncio.to_thread(_end, process)

    def _environment(self, interpreter: Path, port: int, settings: Settings, steps: int) -> dict[str, str]:
        # With what this project's server sets for its own process: see `gradserve_server/__init__`.
        found = dict(os.environ) | {
            "PATH": f"{interpreter.parent}:{os.environ['PATH']}",
            # An installation that can be edited is not seen through a .pth file, so name what is imported here.
            "PYTHONPATH": os.pathsep.join(map(str, (HERE.parent.parent, *_SOURCES))),
            "PEER_PORT": str(port),
            "PEER_CODE": self.code,
            "PEER_STEPS": str(steps),
            "PEER_WORKERS": str(settings.workers),
            "PEER_BATCH": str(settings.batch),
            "PEER_WAIT": str(settings.wait),
        }
        if settings.threads:
            found |= {"PEER_THREADS": str(settings.threads), "OMP_NUM_THREADS": str(settings.threads)}
        if self.keeps_memory:
            found |= KEEPING
        else:
            found.pop("LD_PRELOAD", None)
        return found | self.variables(port, settings)


async def _answering(connection: Connection, process: "subprocess.Popen[bytes]", encoded: bytes, log: Path) -> None:
    until = time.monotonic() + START_SECONDS
    while True:
        try:
            await asyncio.wait_for(connection.try_out(encoded), 30)
            return
        except Exception as error:
            if process.poll() is not None or time.monotonic() > until:
                end = log.read_text(errors="replace")[-3000:]
                raise RuntimeError(f"it did not answer ({error!r}); it wrote: {end}") from error
        await asyncio.sleep(0.3)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Ends a server and all that it started, which may be in sessions of their own."""
    below = _descendants(process.pid)
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    _signal(below, signal.SIGKILL)


def _signal(numbers: Sequence[int], number: signal.Signals) -> None:
    for process in numbers:
        with suppress(ProcessLookupError):
            os.kill(process, number)


def _descendants(number: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parent = int(path.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(path.parent.name))
    found = children.get(number, [])
    for child in found:
        # Grows while it is gone through.
        found += children.get(child, [])
    return found


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _mlserver(port: int, settings: Settings) -> Mapping[str, str]:
    return {
        "MLSERVER_HOST": "127.0.0.1",
        "MLSERVER_DEBUG": "false",
        "MLSERVER_METRICS_DIR": str(FOLDER / "mlserver-metrics"),
        "MLSERVER_GRPC_PORT": str(port),
        "MLSERVER_HTTP_PORT": str(_free_port()),
        "MLSERVER_METRICS_PORT": str(_free_port()),
        "MLSERVER_PARALLEL_WORKERS": str(settings.workers),
        "MLSERVER_MODEL_MAX_BATCH_SIZE": str(settings.batch if settings.batch > 1 else 0),
        "MLSERVER_MODEL_MAX_BATCH_TIME": str(settings.wait),
    }


def _torchserve(port: int, settings: Settings) -> Mapping[str, str]:
    return {"PEER_PORTS": " ".join(str(_free_port()) for _ in range(4))}


def _bars(saliency: str, grad_cam: str, integrated_gradients: str = "") -> dict[str, str]:
    return {
        "saliency": saliency,
        "grad_cam": grad_cam,
        "grad_cam_captum": grad_cam,
        "integrated_gradients": integrated_gradients,
    }


BEST = _bars(">= 2", ">= 2", ">= 1.4")
FIRST = _bars(">= 6", ">= 6", ">= 6")
TRICKS = _bars(">= 1.15", ">= 1.15")
ONE = (Settings(),)
BENTO = ("bentoml", "serve", "benchmarks.peers.bentoml.server:Front", "--host", "127.0.0.1", "--port", "{port}")


def _script(name: str) -> tuple[str, ...]:
    return "python", "-m", f"benchmarks.peers.{name}.server"


GRADSERVE = Contestant(
    "gradserve",
    "gradserve",
    _script("gradserve"),
    connections.Gradserve,
    "",
    {},
    (Settings(), Settings(CORES, 1)),
)

CONTESTANTS = {
    "plain": Contestant(
        "grpc.aio as first written", "plain", _script("plain"), connections.Plain, "first", FIRST, ONE, False
    ),
    "plain-best": Contestant(
        "grpc.aio at its best", "plain", _script("plain"), connections.Plain, "one_forward", BEST, ONE
    ),
    "litserve": Contestant("LitServe", "litserve", _script("litserve"), connections.LitServe, "documented", BEST),
    "bentoml": Contestant("BentoML", "bentoml", BENTO, connections.BentoML, "documented", BEST),
    "mlserver": Contestant(
        "MLServer",
        "mlserver",
        ("mlserver", "start", str(HERE / "mlserver")),
        connections.OpenInference,
        "documented",
        BEST,
        variables=_mlserver,
    ),
    "ray": Contestant(
        "Ray Serve",
        "ray",
        _script("ray"),
        connections.Http,
        "documented",
        BEST,
        # It takes the allocator away from its workers otherwise.
        variables=lambda port, settings: {"RAY_LD_PRELOAD_ON_WORKERS": "1"},
    ),
    "bentoml-tricks": Contestant(
        "BentoML with this project's model and mathematics", "bentoml", BENTO, connections.BentoML, "tricks", TRICKS
    ),
    "torchserve": Contestant(
        "TorchServe",
        "torchserve",
        _script("torchserve"),
        connections.TorchServe,
        "documented",
        BEST,
        variables=_torchserve,
    ),
}
