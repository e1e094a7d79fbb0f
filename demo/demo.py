"""Starts a server on loopback, explains two photographs by every method, and writes demo/index.html."""

import html
import re
import subprocess
import sys
import time
from pathlib import Path

import maximization
import PIL.Image
import skimage.data
import stylization

from gradserve import Client, Explanation

FOLDER = Path(__file__).parent
OUT = FOLDER / "out"
PHOTOGRAPHS = {"chelsea": "a cat", "coffee": "a cup of coffee"}
TIMEOUT = 300.0
QUICK = {
    "score_cam": {"channel_count": 64},
    "ablation_cam": {"channel_count": 64},
    "rise": {"mask_count": 300},
    "kernel_shap": {"sample_count": 300},
}
"""Fewer masks and channels than the defaults: a newcomer waits for this on a laptop."""

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: #222 }
section { margin: 2.5rem 0 } h2 { margin-bottom: .2rem }
.row { display: flex; flex-wrap: wrap; gap: 1rem } figure { margin: 0; width: 21rem }
img { width: 100%; height: auto; border-radius: 4px; display: block }
figcaption { font-size: .85rem; margin-top: .3rem } .caveat { color: #8a4b00 } .facts { color: #666 }
"""


def main() -> None:
    OUT.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "gradserve_server", "serve", "--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        port = _port(server)
        with Client(f"127.0.0.1:{port}") as client:
            client.wait_ready()
            page = _page(client)
    finally:
        server.terminate()
        server.communicate()
    (FOLDER / "index.html").write_text(page, encoding="utf-8")
    print(f"wrote {(FOLDER / 'index.html').relative_to(Path.cwd()) if FOLDER.is_relative_to(Path.cwd()) else FOLDER}")


def _port(server: "subprocess.Popen[str]") -> str:
    assert server.stderr is not None
    for line in server.stderr:
        print(line, end="")
        if found := re.search(r"serving on port (\d+)", line):
            return found.group(1)
    sys.exit("the server did not start")


def _page(client: Client) -> str:
    (model, *_) = client.list_models()
    caveats = {method.name: method.caveat for method in model.methods if method.supported}
    sections = []
    for name, title in PHOTOGRAPHS.items():
        photograph = OUT / f"{name}.png"
        PIL.Image.fromarray(getattr(skimage.data, name)()).save(photograph)
        started = time.perf_counter()
        methods = [(method, QUICK.get(method, {})) for method in caveats]
        explanations = client.explain_many(photograph, methods=methods, seed=0, timeout=TIMEOUT)
        seconds = time.perf_counter() - started
        best = explanations[0].predictions[0]
        print(f"{name}: {best.label} ({best.probability:.0%}), {len(explanations)} methods in {seconds:.2f} s")
        sections.append(_section(name, title, explanations, caveats, seconds))
    sections.append(maximization.section(client, OUT))
    sections.append(stylization.section(client, OUT))
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>gradserve: explanations</title><style>{STYLE}</style>"
        f"<h1>What {html.escape(model.name)} looks at</h1>{''.join(sections)}</html>"
    )


def _section(name: str, title: str, explanations: list[Explanation], caveats: dict[str, str], seconds: float) -> str:
    facts = explanations[0].metadata
    figures = [_figure(f"out/{name}.png", title, "<b>the photograph</b>")]
    for explanation in explanations:
        explanation.save(OUT / f"{name}-{explanation.method}.png")
        caveat = caveats[explanation.method]
        caption = f"<b>{explanation.method}</b>"
        if explanation.layers:
            caption += f" at layer {html.escape(', '.join(explanation.layers))}"
        if caveat:
            caption += f"<br><span class=caveat>{html.escape(caveat)}</span>"
        figures.append(_figure(f"out/{name}-{explanation.method}.png", f"{explanation.method} of {title}", caption))
    predictions = ", ".join(
        f"{html.escape(score.label)} {score.probability:.0%}" for score in explanations[0].predictions
    )
    return (
        f"<section><h2>{html.escape(explanations[0].description)}</h2><p>The model says: {predictions}.</p>"
        f"<div class=row>{''.join(figures)}</div>"
        f"<p class=facts>{len(explanations)} methods in {seconds * 1000:.0f} ms: {facts.pass_count} pass(es) of "
        f"{facts.compute_seconds * 1000:.0f} ms in all, {facts.queue_seconds * 1000:.1f} ms in the queue.</p></section>"
    )


def _figure(source: str, alt: str, caption: str) -> str:
    return f'<figure><img src="{source}" alt="{html.escape(alt)}"><figcaption>{caption}</figcaption></figure>'


if __name__ == "__main__":
    main()
