"""The demo's section on Maximize: classes from noise, a dream and an attack. Callers side by side share passes."""

import html
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import PIL.Image
import skimage.data

from gradserve import Client, MaximizeResult, objectives

TIMEOUT = 900.0
CLASSES = ("goldfish", "flamingo", "balloon", "coffee mug", "volcano")
SIDE = 128
"""Smaller than the model's input: a newcomer waits for this on a laptop."""
PRESETS = ("lucid", "yosinski", "simonyan")
DREAM_LAYER = "blocks.4"
EPSILON = 4 / 255


def section(client: Client, out: Path) -> str:
    """Makes the pictures and returns the section's HTML."""
    calls: dict[str, dict[str, Any]] = {
        f"{preset}-{label}": {"class_label": label, "preset": preset, "size": SIDE}
        for preset in PRESETS
        for label in CLASSES
    }
    cat, coffee = (PIL.Image.fromarray(getattr(skimage.data, name)()) for name in ("chelsea", "coffee"))
    calls["dream"] = {"image": cat.resize((240, 160)), "objectives": objectives.layer(DREAM_LAYER)}
    calls["pgd"] = {"image": coffee, "preset": "pgd", "epsilon": EPSILON}
    started = time.perf_counter()
    with ThreadPoolExecutor(len(calls)) as threads:
        running = {
            name: threads.submit(lambda call=call: client.maximize(**call, seed=0, timeout=TIMEOUT).result())
            for name, call in calls.items()
        }
        results = {name: future.result() for name, future in running.items()}
    seconds = time.perf_counter() - started
    for name, result in results.items():
        result.save(out / _file(name))
        print(f"{name}: {result.after.label} {result.after.probability:.0%}, {result.stop_reason}")
    results["pgd"].perturbation.picture.save(out / _file("change"))  # type: ignore[union-attr]
    figures = {name: _figure(name, _caption(name, result)) for name, result in results.items()}
    rows = [f"<h3>{preset}</h3>{_row(figures[f'{preset}-{label}'] for label in CLASSES)}" for preset in PRESETS]
    others = [figures["dream"], figures["pgd"]]
    others.append(_figure("change", "<b>the attack's change</b>, stretched"))
    shared = max(result.metadata.mean_pass_programs for result in results.values())
    return (
        f"<section><h2>What it looks for</h2><p>Images made by climbing, and what the model says of them.</p>"
        f"{''.join(rows)}<h3>from a photograph</h3>{_row(others)}<p class=facts>{len(results)} calls at once in "
        f"{seconds:.0f} s; up to {shared:.1f} of them in a pass on average.</p></section>"
    )


def _caption(name: str, result: MaximizeResult) -> str:
    says = f"{html.escape(result.after.label)} {result.after.probability:.0%}"
    if name == "pgd" and result.before is not None:
        says = f"{html.escape(result.before.label)} {result.before.probability:.0%} before, {says} after"
    return f"<b>{html.escape(name)}</b><br>{says}"


def _row(figures: Iterable[str]) -> str:
    return f"<div class=row>{''.join(figures)}</div>"


def _figure(name: str, caption: str) -> str:
    source = f"out/{_file(name)}"
    return f'<figure style="width:12rem"><img src="{source}" alt=""><figcaption>{caption}</figcaption></figure>'


def _file(name: str) -> str:
    return f"maximize-{name.replace(' ', '-')}.png"
