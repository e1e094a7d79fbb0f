"""Photographs of many pixels, decoded at a part of their size against all of it (`--image-oversampling 0`).

Answers a second of two servers that are asked by turns, closed model; and the time to decode and fit by itself. No two
photographs that are asked for at once are alike.
"""

import argparse
import asyncio
import statistics
import time
from collections.abc import Callable, Sequence
from io import BytesIO
from itertools import cycle

import grpc.aio
import skimage.data
from benchmarks.photograph import NAMES, request
from benchmarks.results import Row, save, show
from benchmarks.running import closed_model, server
from PIL import Image

from gradserve.v1 import explain_pb2, explainer_service_pb2_grpc
from gradserve_server.config import Settings
from gradserve_server.imaging.decode import decode, decode_reduced
from gradserve_server.imaging.geometry import fit, fit_decoded, least_side
from gradserve_server.models.specification import embedded_spec

SIZES = ((2048, 1536), (4032, 3024), (6000, 4000))
COUNT = 8


def main() -> None:
    """Prints ratios; writes benchmarks/out/large_images.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0, help="length of a turn")
    parser.add_argument("--concurrency", type=int, default=4)
    parsed = parser.parse_args()
    rows = [_decoding(size) for size in SIZES]
    show(rows)
    with server() as reducing, server("--image-oversampling", "0") as whole:
        for size in SIZES:
            wanted = [request("grad_cam", photograph(size, index)) for index in range(COUNT)]
            ratio = asyncio.run(_answers((reducing, whole), wanted, parsed))
            rows.append(Row(f"Grad-CAMs a second of {_megapixels(size)}: a part decoded / all of it", ratio))
            show(rows[-1:])
    save("large_images", rows)


def photograph(size: tuple[int, int], number: int = 0) -> bytes:
    """Returns a JPEG file of so many pixels, with the detail of as many: photographs side by side."""
    canvas = Image.new("RGB", size)
    tiles = [Image.fromarray(getattr(skimage.data, name)()) for name in NAMES]
    following = cycle(tiles[number % len(tiles) :] + tiles[: number % len(tiles)])
    for top in range(-number, size[1], 300):
        for left in range(-number, size[0], 400):
            canvas.paste(next(following), (left, top))
    file = BytesIO()
    canvas.save(file, "JPEG", quality=90)
    return file.getvalue()


def _megapixels(size: tuple[int, int]) -> str:
    return f"{size[0] * size[1] / 1e6:.0f} megapixels"


def _decoding(size: tuple[int, int]) -> Row:
    encoded, preprocessing = photograph(size), embedded_spec().preprocessing
    least = least_side(preprocessing, Settings.image_oversampling)

    def reduced() -> None:
        fit_decoded(decode_reduced(encoded, Settings.image_pixels, least=least), preprocessing)

    def whole() -> None:
        fit(decode(encoded, Settings.image_pixels), preprocessing)

    ratios = [_seconds(reduced) / _seconds(whole) for _ in range(7)]
    return Row(f"decoding and fitting {_megapixels(size)}: a part / all of it", statistics.median(ratios))


def _seconds(function: Callable[[], None]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


async def _answers(
    addresses: tuple[str, str], wanted: Sequence[explain_pb2.ExplainRequest], parsed: argparse.Namespace
) -> float:
    following = cycle(wanted)

    async def rate(address: str) -> float:
        async with grpc.aio.insecure_channel(address) as channel:
            stub = explainer_service_pb2_grpc.ExplainerServiceStub(channel)
            return (await closed_model(lambda: stub.Explain(next(following)), parsed.concurrency, parsed.seconds)).rate

    for address in addresses:
        await rate(address)
    return statistics.median([await rate(addresses[0]) / await rate(addresses[1]) for _ in range(parsed.turns)])


if __name__ == "__main__":
    main()
