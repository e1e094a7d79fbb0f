"""The demo's section on Stylize: a cat in the style of two textures. Callers side by side share passes."""

import html
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import PIL.Image
import skimage.data

from gradserve import Client

TIMEOUT = 300.0
SIZE = 160
STYLES = ("hubble_deep_field", "immunohistochemistry")


def section(client: Client, out: Path) -> str:
    """Makes the pictures and returns the section's HTML."""
    cat = PIL.Image.fromarray(skimage.data.chelsea())
    styles = {name: PIL.Image.fromarray(getattr(skimage.data, name)()).resize((SIZE, SIZE)) for name in STYLES}
    started = time.perf_counter()
    with ThreadPoolExecutor(len(styles)) as threads:
        results = list(
            threads.map(lambda style: client.stylize(cat, style, size=SIZE, timeout=TIMEOUT).result(), styles.values())
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
