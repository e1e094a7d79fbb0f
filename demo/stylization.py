"""The demo's section on Stylize: a cat in two styles that formulas make. Callers side by side share passes."""

import html
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import PIL.Image
import skimage.data

from gradserve import Client

TIMEOUT = 300.0
SIZE = 160
STEPS = 60


def section(client: Client, out: Path) -> str:
    """Makes the pictures and returns the section's HTML."""
    sys.path.insert(0, str(Path(__file__).parent.parent))
    from tests.paintings import stained_glass, swirls

    cat = PIL.Image.fromarray(skimage.data.chelsea())
    styles = {
        make.__name__: PIL.Image.fromarray(np.rint(make() * 255).astype(np.uint8)) for make in (swirls, stained_glass)
    }
    started = time.perf_counter()
    with ThreadPoolExecutor(len(styles)) as threads:
        results = list(
            threads.map(
                lambda style: client.stylize(cat, style, size=SIZE, steps=STEPS, timeout=TIMEOUT).result(),
                styles.values(),
            )
        )
    seconds = time.perf_counter() - started
    figures = []
    for (name, style), result in zip(styles.items(), results, strict=True):
        style.save(out / f"style-{name}.png")
        result.save(out / f"stylize-{name}.png")
        print(f"{name}: {result.stop_reason}, loss {result.losses[0]:.3g} to {result.losses[-1]:.3g}")
        figures.append(_figure(f"out/style-{name}.png", f"<b>{html.escape(name)}</b>"))
        figures.append(_figure(f"out/stylize-{name}.png", f"style term {result.loss_terms.style:.3g}"))
    return (
        f"<section><h2>In other styles</h2><div class=row>{''.join(figures)}</div>"
        f"<p class=facts>{len(results)} calls at once in {seconds:.0f} s.</p></section>"
    )


def _figure(source: str, caption: str) -> str:
    return f'<figure style="width:14rem"><img src="{source}" alt=""><figcaption>{caption}</figcaption></figure>'
