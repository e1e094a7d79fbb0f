"""The demo's section on Maximize: classes from noise, a dream and an attack. Callers side by side share passes."""

import html
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import PIL.Image
import skimage.data

from gradserve import Client, MaximizeResult, objectives

TIMEOUT = 900.0
CLASSES = (
    "goldfish",
    "flamingo",
    "golden retriever",
    "tabby",
    "zebra",
    "balloon",
    "coffee mug",
    "sports car",
    "orange",
    "volcano",
)
OTHER_PRESETS = ("simonyan", "yosinski")
DREAM_LAYER = "blocks.4"
EPSILON = 4 / 255


def section(client: Client, out: Path) -> str:
    """Makes the pictures and returns the section's HTML."""
    calls: dict[str, dict[str, Any]] = {
        f"{preset}-{label}": {"class_label": label, "preset": preset}
        for preset, labels in (("lucid", CLASSES), *((preset, CLASSES[:2]) for preset in OTHER_PRESETS))
        for label in labels
    }
    cat, coffee = (PIL.Image.fromarray(getattr(skimage.data, name)()) for name in ("chelsea", "coffee"))
    calls["dream"] = {"image": cat.resize((300, 200)), "objectives": objectives.layer(DREAM_LAYER)}
    calls["pgd"] = {"image": coffee, "preset": "pgd", "epsilon": EPSILON}
    started = time.perf_counter()
    with ThreadPoolExecutor(len(calls)) as threads:
        running = {
            name: threads.submit(lambda call=call: client.maximize(**call, seed=0, timeout=TIMEOUT).result())
            for name, call in calls.items()
        }
        results = {name: future.result() for name, future in running.items()}
    seconds = time.perf_counter() - started
    figures = []
    for name, result in results.items():
        result.save(out / f"maximize-{name.replace(' ', '-')}.png")
        print(f"{name}: {result.after.label} {result.after.probability:.0%}, {result.stop_reason}")
        figures.append(_figure(f"out/maximize-{name.replace(' ', '-')}.png", _caption(name, result)))
    results["pgd"].perturbation.picture.save(out / "maximize-change.png")  # type: ignore[union-attr]
    figures.append(_figure("out/maximize-change.png", "<b>the attack's change</b>, stretched"))
    shared = max(result.metadata.mean_pass_programs for result in results.values())
    return (
        f"<section><h2>What it looks for</h2><p>Images made by climbing, and what the model says of them.</p>"
        f"<div class=row>{''.join(figures)}</div><p class=facts>{len(results)} calls at once in {seconds:.0f} s; "
        f"up to {shared:.1f} of them in a pass on average.</p></section>"
    )


def _caption(name: str, result: MaximizeResult) -> str:
    says = f"{html.escape(result.after.label)} {result.after.probability:.0%}"
    if name == "pgd" and result.before is not None:
        says = f"{html.escape(result.before.label)} {result.before.probability:.0%} before, {says} after"
    return f"<b>{html.escape(name)}</b><br>{says}"


def _figure(source: str, caption: str) -> str:
    return f'<figure style="width:14rem"><img src="{source}" alt=""><figcaption>{caption}</figcaption></figure>'
