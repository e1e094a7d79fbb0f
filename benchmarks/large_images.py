"""Photographs of many pixels, decoded at a part of their size against all of it (`--image-oversampling 0`); and with
overlays as large as they are against smaller ones (`max_side_px`).

Answers a second of what is asked by turns, closed model; and the time to decode and fit by itself. No two photographs
that are asked for at once are alike.
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

from gradserve.v1 import explain_pb2, explainer_service_pb2_grpc, image_pb2
from gradserve_server.config import Settings
from gradserve_server.imaging.decode import decode, decode_reduced
from gradserve_server.imaging.geometry import fit, fit_decoded, least_side
from gradserve_server.models.specification import embedded_spec

SIZES = ((2048, 1536), (4032, 3024), (6000, 4000))
COUNT = 8
SIDE = 1024


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
            ratio = asyncio.run(_answers((reducing, wanted), (whole, wanted), parsed))
            rows.append(Row(f"Grad-CAMs a second of {_megapixels(size)}: a part decoded / all of it", ratio))
            show(rows[-1:])
        for size in SIZES[:2]:
            as_large, smaller = ([_with_overlay(size, index, side) for index in range(COUNT)] for side in (None, SIDE))
            ratio = asyncio.run(_answers((reducing, smaller), (reducing, as_large), parsed))
            rows.append(Row(f"overlays a second of {_megapixels(size)}: within {SIDE} pixels / as large", ratio))
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


def _with_overlay(size: tuple[int, int], number: int, side: int | None) -> explain_pb2.ExplainRequest:
    wanted = request("grad_cam", photograph(size, number))
    wanted.frame = explain_pb2.FRAME_ORIGINAL
    wanted.overlay.format = image_pb2.IMAGE_FORMAT_JPEG
    if side is not None:
        wanted.max_side_px = side
    return wanted


Asked = tuple[str, Sequence[explain_pb2.ExplainRequest]]
"""The address of a server, and what it is asked in turn."""


async def _answers(new: Asked, old: Asked, parsed: argparse.Namespace) -> float:
    """Returns how many answers a second the one gives for each of the other."""

    async def rate(asked: Asked) -> float:
        address, following = asked[0], cycle(asked[1])
        # A map of all of a photograph is larger than what gRPC takes by default.
        async with grpc.aio.insecure_channel(address, [("grpc.max_receive_message_length", -1)]) as channel:
            stub = explainer_service_pb2_grpc.ExplainerServiceStub(channel)
            return (await closed_model(lambda: stub.Explain(next(following)), parsed.concurrency, parsed.seconds)).rate

    for asked in (new, old):
        await rate(asked)
    return statistics.median([await rate(new) / await rate(old) for _ in range(parsed.turns)])


if __name__ == "__main__":
    main()
