"""explain_stream against sixteen callers who wait for each answer, and the memory of a caller of ten thousand images.

The server is a process of its own. Streams and callers take turns, so that a machine that slows down slows both; the
median of the turns' ratios counts.
"""

import argparse
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from benchmarks.results import Row, save, show
from benchmarks.running import server

from gradserve import Client

CALLERS = 16
CATALOGUE = """
[[model]]
name = "small"
architecture = "torchvision:squeezenet1_1"
weights = "small.safetensors"
class_count = 10
preprocessing = { height = 64, width = 64, resize = 64 }
"""
ASKED = {"method": "grad_cam", "layer": "features.3", "overlay": False, "frame": "model_input"}


def main() -> None:
    """Prints both and writes them to benchmarks/out/explain_stream.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=10_000, help="images of the stream whose memory is read")
    parser.add_argument("--turns", type=int, default=7, help="turns of streams and callers")
    parser.add_argument("--each", type=int, default=400, help="images of each turn")
    parsed = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, _server(Path(folder)) as address, Client(address) as client:
        client.wait_ready()
        ratio, rates = _throughput(client, parsed.turns, parsed.each)
        first, last, at = _memory(client, parsed.images)
    rows = [
        Row(f"images a second of explain_stream / of {CALLERS} callers", ratio, ">= 0.95"),
        Row(f"memory of the caller after {parsed.images:,} images / after {at:,}", last / first, "<= 1.1"),
    ]
    show(rows)
    save("explain_stream", rows, images_per_second=rates, mib={str(at): first, str(parsed.images): last})


def _throughput(client: Client, turns: int, each: int) -> tuple[float, dict[str, float]]:
    images = [_image(number) for number in range(each)]

    def streamed() -> None:
        for one in client.explain_stream(images, **ASKED):
            assert one.explanation.heatmap.shape == (64, 64)

    def unary() -> None:
        with ThreadPoolExecutor(CALLERS) as pool:
            for explanation in pool.map(lambda image: client.explain(image, **ASKED), images):
                assert explanation.heatmap.shape == (64, 64)

    rates: dict[str, list[float]] = {"stream": [], "unary": []}
    for turn in range(turns + 1):
        # Who goes first changes, so that a drift of the machine favours none; the first turn warms up.
        ways = [("stream", streamed), ("unary", unary)]
        for name, way in ways if turn % 2 else ways[::-1]:
            begun = time.perf_counter()
            way()
            if turn:
                rates[name].append(each / (time.perf_counter() - begun))
    medians = {name: statistics.median(found) for name, found in rates.items()}
    print(f"images a second: stream {medians['stream']:.1f}, unary {medians['unary']:.1f}")
    pairs = zip(rates["stream"], rates["unary"], strict=True)
    return statistics.median(stream / unary for stream, unary in pairs), medians


def _memory(client: Client, count: int) -> tuple[float, float, int]:
    """Returns the resident memory in MiB after a tenth of the images and after all, and how many a tenth is."""
    tenth, first = count // 10, 0.0
    stream = client.explain_stream((_image(number) for number in range(count)), **ASKED)
    for done, one in enumerate(stream, 1):
        assert one.error is None
        if done == tenth:
            first = _resident()
    return first, _resident(), tenth


def _image(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (64, 64, 3), np.uint8)


def _resident() -> float:
    found = re.search(r"^VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1]) / 1024


@contextmanager
def _server(folder: Path) -> Iterator[str]:
    """Runs a server of a small network of random weights."""
    make = "import sys, torch, torchvision; from safetensors.torch import save_file; torch.manual_seed(0); "
    make += "save_file(torchvision.models.squeezenet1_1(num_classes=10).state_dict(), sys.argv[1])"
    subprocess.run([sys.executable, "-c", make, folder / "small.safetensors"], check=True)
    (folder / "models.toml").write_text(CATALOGUE)
    with server("--models", str(folder / "models.toml")) as address:
        yield address


if __name__ == "__main__":
    main()
