"""What a pass of the usual architectures costs, over what PyTorch takes for the same network.

Weights are random, which cost what trained ones do. PyTorch's network is frozen and in evaluation mode, and takes the
images in whichever memory format it is faster in. Each pair takes turns, A B A B ..., and the median ratio counts.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import partial
from typing import cast

from gradserve_server.scheduling.allocator import keep_freed_memory

ALLOCATOR = keep_freed_memory()

import torch  # noqa: E402
from benchmarks.results import Row, save, show  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from gradserve_server.autograd.objective import class_score  # noqa: E402
from gradserve_server.autograd.passes import Bundle, Chunk, run  # noqa: E402
from gradserve_server.autograd.query import Query  # noqa: E402
from gradserve_server.models.architectures import build, default_preprocessing  # noqa: E402
from gradserve_server.models.loading import ModelSpec, prepare  # noqa: E402

Work = Callable[[], object]

ARCHITECTURES = (
    "torchvision:resnet18",
    "torchvision:resnet50",
    "torchvision:densenet121",
    "torchvision:mobilenet_v3_large",
    "torchvision:efficientnet_b0",
    "torchvision:regnet_y_1_6gf",
    "torchvision:convnext_tiny",
    "torchvision:swin_t",
    "timm:vit_small_patch16_224",
)
FORMATS = (torch.channels_last, torch.contiguous_format)
# PyTorch's own time, and what a ratio strays by on a machine with neighbours.
BAR = "<= 1.1"


def main() -> None:
    """Prints a table of ratios and writes it to benchmarks/out/architectures.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=ARCHITECTURES, metavar="ARCHITECTURE")
    parser.add_argument("--turns", type=int, default=7)
    parsed = parser.parse_args()
    print(f"memory: {ALLOCATOR}; torch {torch.__version__}\n")
    found = []
    for name in parsed.only:
        rows = measured(name, parsed.turns)
        show(rows)
        found += rows
    save("architectures", found)


def measured(architecture: str, turns: int) -> list[Row]:
    """Compares forwards, and forwards and backwards to the pixels, of one image and of eight."""
    torch.manual_seed(0)
    module = build(architecture, 1000, {}).eval().requires_grad_(False)
    plain = {order: deepcopy(module).to(memory_format=order) for order in FORMATS}
    preprocessing = default_preprocessing(architecture)
    spec = ModelSpec(name="measured", architecture=architecture, preprocessing=preprocessing)
    model = prepare(module, "0" * 64, spec, torch.device("cpu"))
    found = []
    with torch.no_grad():
        for count in (1, 8):
            images = torch.rand(count, 3, preprocessing.height, preprocessing.width)
            laid_out = {order: images.contiguous(memory_format=order) for order in FORMATS}
            for what, query, work in (
                ("forward", Query(images, logits=True), _forward),
                ("saliency", Query(images, class_score(0)), _gradient),
            ):
                ratio = _ratio(
                    partial(run, model, [Bundle((Chunk(query, 0, count),))]),
                    [partial(work, plain[order], laid_out[order]) for order in FORMATS],
                    turns,
                )
                found.append(Row(f"{architecture}: {what} of {count} image(s) / PyTorch's", ratio, BAR))
    return found


def _forward(module: nn.Module, rows: Tensor) -> Tensor:
    return cast("Tensor", module(rows))


def _gradient(module: nn.Module, rows: Tensor) -> Tensor:
    with torch.enable_grad():
        leaf = rows.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(module(leaf)[:, 0].sum(), leaf)
    return gradient


def _ratio(work: Work, others: Sequence[Work], turns: int) -> float:
    """Returns how many times as long some work takes as the fastest of the others."""
    for each in (work, *others):
        each()
    other = min(others, key=lambda each: min(_seconds(each) for _ in range(2)))
    return statistics.median(_seconds(work) / _seconds(other) for _ in range(turns))


def _seconds(work: Work) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
