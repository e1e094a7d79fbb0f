"""A plot of latencies, drawn with Pillow: the client needs no plotting library."""

from collections.abc import Iterator, Sequence
from math import ceil, floor, log10
from pathlib import Path

import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

from gradserve.load import Call, summary

WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 1100, 520, 90, 40, 20, 60
INK, GRID, GOOD, BAD, MEDIAN, TAIL = "#222222", "#dddddd", "#7aa6d8", "#d04040", "#1f4e8c", "#e08a00"


def plot(measured: Sequence[Sequence[Call]], path: Path) -> None:
    """Saves a plot: one dot per request, latency over when it was due, a panel for each rate with its p50 and p95.

    Args:
        measured: The requests of each rate, none of them empty.
        path: Where to; the name's ending says the format.

    Raises:
        ValueError: The ending is of no known format.
    """
    picture = PIL.Image.new("RGB", (WIDTH, HEIGHT), "white")
    draw = PIL.ImageDraw.Draw(picture)
    font = PIL.ImageFont.load_default(14)
    latencies = [max(call.latency, 1e-4) for calls in measured for call in calls]
    low, high = floor(log10(min(latencies))), max(ceil(log10(max(latencies))), floor(log10(min(latencies))) + 1)

    def height(seconds: float) -> float:
        part = (log10(max(seconds, 1e-4)) - low) / (high - low)
        return HEIGHT - BOTTOM - part * (HEIGHT - TOP - BOTTOM)

    for seconds in _ticks(low, high):
        draw.line([(LEFT, height(seconds)), (WIDTH - RIGHT, height(seconds))], fill=GRID)
        draw.text((LEFT - 8, height(seconds)), _label(seconds), fill=INK, font=font, anchor="rm")
    panel = (WIDTH - LEFT - RIGHT) / len(measured)
    for index, calls in enumerate(measured):
        left, right = LEFT + index * panel + 6, LEFT + (index + 1) * panel - 6
        last = max(call.due for call in calls) or 1.0
        for call in calls:
            x, y = left + call.due / last * (right - left), height(call.latency)
            draw.ellipse([x - 2, y - 2, x + 2, y + 2], fill=GOOD if call.code == "OK" else BAD)
        one = summary(calls)
        for latency, colour in ((one.latencies[0], MEDIAN), (one.latencies[2], TAIL)):
            if latency == latency:
                draw.line([(left, height(latency)), (right, height(latency))], fill=colour, width=2)
        middle = (left + right) / 2
        draw.text((middle, HEIGHT - BOTTOM + 8), f"{one.offered:.1f}/s", fill=INK, font=font, anchor="ma")
        draw.text((middle, HEIGHT - BOTTOM + 26), f"answered {one.answered:.1f}", fill=INK, font=font, anchor="ma")
        if index:
            draw.line([(left - 6, TOP), (left - 6, HEIGHT - BOTTOM)], fill=GRID)
    key = (("answered", GOOD), ("failed", BAD), ("p50", MEDIAN), ("p95", TAIL))
    draw.text((LEFT, 12), "latency from when each request was due", fill=INK, font=font)
    for index, (word, colour) in enumerate(key):
        x = WIDTH - RIGHT - 100 * (len(key) - index)
        draw.rectangle([x, 14, x + 12, 26], fill=colour)
        draw.text((x + 18, 12), word, fill=INK, font=font)
    picture.save(path)


def _ticks(low: int, high: int) -> Iterator[float]:
    for exponent in range(low, high):
        yield from (10.0**exponent, 2 * 10.0**exponent, 5 * 10.0**exponent)
    yield 10.0**high


def _label(seconds: float) -> str:
    return f"{seconds:g} s" if seconds >= 1 else f"{seconds * 1000:g} ms"
