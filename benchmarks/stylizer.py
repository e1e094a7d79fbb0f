"""One pass of a stylizer against the optimisation that reaches the same loss (Johnson et al. 2016, section 4.1).

Photographs the stylizer never saw; the loss it was trained on, at the weights it was trained with. L-BFGS, as in the
paper's comparison, and Adam climb down from noise, and from the photograph, until the loss is that of the stylizer's
picture or the steps run out. What counts is the ratio of both times in this run, for whichever of the two gets there
first; from noise it must be at least a hundred.

How many steps a pass is worth depends on the loss; what a step costs, on the network whose features it compares. The
last lines measure that of VGG-16, which the paper used, at random weights: what a step costs does not depend on them.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

from gradserve_server.scheduling.allocator import keep_freed_memory

ALLOCATOR = keep_freed_memory()

import numpy as np  # noqa: E402
import skimage.data  # noqa: E402
import torch  # noqa: E402
import torchvision  # noqa: E402
from safetensors import safe_open  # noqa: E402

from gradserve_server.imaging.crop import centre_square  # noqa: E402
from gradserve_server.imaging.resize import resize  # noqa: E402
from gradserve_server.models.loading import ModelSpec, embedded_spec, load, prepare  # noqa: E402
from gradserve_server.models.stylizer import EMBEDDED_STYLIZERS, load_stylizer  # noqa: E402
from gradserve_server.training.perceptual import Layers, PerceptualLoss, Weights, default_layers  # noqa: E402
from gradserve_server.training.photographs import read_image  # noqa: E402
from gradserve_server.training.trainer import Plan, as_images, begun  # noqa: E402

HELD_OUT = ("chelsea", "coffee", "astronaut")
OUT = Path(__file__).parent / "out"
BAR = 100
OPTIMIZERS = {
    # Of 0.01, 0.03 and 0.1, pixels in 0..1, the one that gets there first.
    "Adam": lambda picture: torch.optim.Adam([picture], 0.03),
    # Without a search along the line, which takes a second evaluation for each step and gets there later.
    "L-BFGS": lambda picture: torch.optim.LBFGS([picture], lr=0.8, max_iter=1, history_size=10),
}


def main() -> int:
    """Prints what was learned and what a pass saves; returns 1 if that is less than the bar."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("styles", type=Path, help="folder that scripts/style_images.py wrote")
    parser.add_argument("--size", type=int, default=128, help="height and width in pixels")
    parser.add_argument("--steps", type=int, default=400, help="most steps of the optimisation")
    parsed = parser.parse_args()
    device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    model = load(embedded_spec(), device)
    pixels = np.stack([centre_square(getattr(skimage.data, name)(), parsed.size) for name in HELD_OUT])
    photographs = as_images(pixels, device)
    found = []
    for spec in EMBEDDED_STYLIZERS:
        stylizer = load_stylizer(spec, device)
        with safe_open(spec.weights, "pt") as file:
            facts = json.loads(file.metadata()["training"])
        size = int(facts["style_size"])
        style = as_images(resize(read_image(parsed.styles / f"{spec.name}.png"), size, size)[None], device)
        layers = Layers(**{key: tuple(names) for key, names in json.loads(facts["layers"]).items()})
        loss = PerceptualLoss(model, style, layers, Weights(**json.loads(facts["weights"])))
        found.append(_measured(spec.name, loss, stylizer.module, facts, photographs, parsed.steps))
        ratio = _vgg_step(style, stylizer.module, photographs[:1])
        print(f"  a step with VGG-16's features: {ratio:.1f} times one pass", flush=True)
        found[-1]["vgg16_step"] = round(ratio, 1)
    OUT.mkdir(exist_ok=True)
    (OUT / "stylizer.json").write_text(json.dumps({"device": str(device), "stylizers": found}, indent=2))
    least = min(row["ratio"] for one in found for row in one["against"] if row["start"] == "noise")
    print(f"from noise at least {least:.0f} times one pass; bar: {BAR}")
    return 0 if least >= BAR else 1


def _measured(name, loss, network, facts, photographs, steps) -> dict[str, object]:
    beginner = begun(Plan(1, 1, 1.0, float(facts["width"]), int(facts["seed"]))).to(photographs.device)
    with torch.no_grad():
        before = float(loss((beginner(255 * photographs) / 255).clamp(0, 1), photographs).total)
        untouched = float(loss(photographs, photographs).total)
        after = float(loss((network(255 * photographs) / 255).clamp(0, 1), photographs).total)
    print(f"{name}: held-out loss {after:.3f}; untrained {before:.3f}, {before / after:.1f} times; ", end="")
    print(f"photographs themselves {untouched:.3f}, {untouched / after:.1f} times")
    rows: list[dict[str, object]] = []
    for index, photograph in enumerate(photographs.split(1)):
        with torch.no_grad():
            pictures = (network(255 * photograph) / 255).clamp(0, 1)
            wanted = float(loss(pictures, photograph).total)
        times = _passes(network, photograph)
        for start in ("photograph", "noise"):
            optimizer, (taken, seconds, reached) = min(
                ((one, _optimised(loss, photograph, start, wanted, steps, one)) for one in OPTIMIZERS),
                key=lambda tried: (tried[1][2] > wanted, tried[1][1]),
            )
            # Before and after, so that a machine that slows down slows both.
            times += _passes(network, photograph)
            one_pass = statistics.median(times)
            ratio = seconds / one_pass
            sign = "" if reached <= wanted else "more than "
            print(
                f"  {HELD_OUT[index]:10} from {start:10} {taken:4} steps of {optimizer} to {reached:.3f}, "
                f"wanted {wanted:.3f}: ",
                end="",
            )
            print(f"{sign}{ratio:.0f} times one pass of {1000 * one_pass:.0f} ms", flush=True)
            rows.append({"photograph": HELD_OUT[index], "start": start, "optimizer": optimizer, "steps": taken})
            rows[-1] |= {"ratio": round(ratio, 1), "reached": round(reached, 4), "wanted": round(wanted, 4)}
    return {"stylizer": name, "untrained": before, "photographs": untouched, "trained": after, "against": rows}


def _passes(network, photograph) -> list[float]:
    with torch.no_grad():
        return [_seconds(network, 255 * photograph) for _ in range(9)]


def _vgg_step(style, network, photograph) -> float:
    """Returns what a step of the optimisation costs with the paper's feature network, in passes."""
    spec = ModelSpec(name="vgg16", architecture="torchvision:vgg16")
    model = prepare(torchvision.models.vgg16(weights=None), "0" * 64, spec, photograph.device)
    loss = PerceptualLoss(model, style, default_layers(model), Weights(1.0, 1.0, 0.0))
    ratios = []
    for _ in range(5):
        _, seconds, _ = _optimised(loss, photograph, "photograph", -1.0, 1, "Adam")
        with torch.no_grad():
            ratios.append(seconds / _seconds(network, 255 * photograph))
    return statistics.median(ratios)


def _optimised(loss, photograph, start, wanted, steps, optimizer) -> tuple[int, float, float]:
    """Optimises pixels until the loss is reached; returns the evaluations, the seconds and the best loss."""
    noise = torch.rand(photograph.shape, generator=torch.Generator().manual_seed(0)).to(photograph)
    # By planes: torch's L-BFGS takes no other layout.
    picture = (photograph if start == "photograph" else noise).clone(memory_format=torch.contiguous_format)
    picture.requires_grad_()
    descent = OPTIMIZERS[optimizer](picture)
    losses: list[float] = []

    def evaluated() -> torch.Tensor:
        descent.zero_grad()
        total = loss(picture, photograph).total
        losses.append(float(total.detach()))
        total.backward()
        return total

    began = time.perf_counter()
    while len(losses) < steps and min(losses, default=float("inf")) > wanted:
        descent.step(evaluated)
        with torch.no_grad():
            picture.clamp_(0, 1)
    return len(losses), time.perf_counter() - began, min(losses)


def _seconds(network, images) -> float:
    began = time.perf_counter()
    network(images)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began


if __name__ == "__main__":
    raise SystemExit(main())
