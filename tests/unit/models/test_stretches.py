"""Stretches of chains: the same numbers by Python and by script, however many calls there are between two pauses."""

import sys
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any
from unittest.mock import patch

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from tests.driving import model_of, with_gradient
from torch import Tensor, nn

from gradserve_server.autograd.activation_rules import RowRules
from gradserve_server.autograd.query import ActivationRule
from gradserve_server.autograd.taps import tapped
from gradserve_server.models import kernels
from gradserve_server.models.model import Model
from gradserve_server.models.scripts import Function, Scripts
from gradserve_server.models.stretches import Pause
from gradserve_server.scheduling.threads import use_threads

TIMES = 6
"""By itself, with a look, and then by a script, which torch rewrites once it has run."""

# Strides, sums around blocks, other ceilings, joined branches, padding of timm's own, rectifiers inside of pieces.
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "resnet18": lambda: torchvision.models.resnet18(num_classes=10),
    "mobilenet_v2": lambda: torchvision.models.mobilenet_v2(num_classes=10),
    "googlenet": lambda: torchvision.models.googlenet(num_classes=10, aux_logits=False, init_weights=False),
    "timm efficientnet_lite0": lambda: timm.create_model("tf_efficientnet_lite0", num_classes=10),
    "mobilenet_v3_small": lambda: torchvision.models.mobilenet_v3_small(num_classes=10),
    "timm seresnet18": lambda: timm.create_model("seresnet18", num_classes=10),
}


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Sums of several threads are not always added in the same order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def noise(seed: int, count: int = 2, size: int = 80) -> Tensor:
    values = torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))
    return values.contiguous(memory_format=torch.channels_last)


def nothing() -> None:
    pass


def by_python(scripts: Scripts, function: Function, given: Sequence[Tensor], key: Hashable) -> Any:
    return function(*given)


def halving(layers: Iterable[str], seen: dict[str, Tensor]) -> dict[str, Callable[[Tensor], Tensor]]:
    """Returns taps that note what layers return, and give half of it on."""

    def tap(layer: str, output: Tensor) -> Tensor:
        seen[layer] = output
        return output * 0.5

    return {layer: partial(tap, layer) for layer in layers}


def logits_and_gradients(model: Model, rows: Tensor, calls: int, rules: RowRules | None = None) -> list[Tensor]:
    """Returns logits without and with a gradient, and the gradients of two sweeps, of which the first has rules."""
    line = model.folded.line
    assert line is not None
    rules = rules or RowRules(len(rows), [(), ()])
    pause = Pause(nothing, calls)
    with torch.no_grad():
        alone = line.run(rows, {}, pause=pause)
    leaf = rows.detach().requires_grad_()
    logits = line.run(leaf, {}, rules.through, pause)
    found = [alone, logits.detach()]
    for sweep, scores in enumerate((logits[:, 1], logits.amax(1))):
        rules.sweep = sweep
        found += torch.autograd.grad(scores.sum(), leaf, retain_graph=sweep == 0)
    return found


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("name", NETWORKS)
def test_scripts_make_the_very_numbers_of_the_calls(name: str) -> None:
    torch.manual_seed(0)
    model = model_of(NETWORKS[name]())
    for seed in range(TIMES):
        # Other values each time, so that a number that should have been computed anew is another.
        rows = noise(seed)
        for calls in (3, 16, sys.maxsize):
            # Of a layer that several read, gradients are added in the order of stretches.
            with patch.object(Scripts, "__call__", by_python):
                expected = logits_and_gradients(model, rows, calls)
            for found, number in zip(logits_and_gradients(model, rows, calls), expected, strict=True):
                assert torch.equal(found, number)
    line = model.folded.line
    assert line is not None
    with torch.no_grad(), patch.object(kernels._LaidOut, "__call__", side_effect=AssertionError):
        # No kernel is asked by Python any more.
        line.run(noise(0), {})


@pytest.mark.usefixtures("one_thread")
def test_rules_are_followed_by_whatever_rows_they_are_for() -> None:
    torch.manual_seed(0)
    model = model_of(NETWORKS["resnet18"]())
    for seed in range(TIMES):
        ruled = slice(seed % 2, 1 + seed % 2)
        rules = RowRules(2, [[(ruled, ActivationRule.GUIDED)], [(ruled, ActivationRule.STANDARD)]])
        found, expected = (logits_and_gradients(model, noise(seed), calls, rules) for calls in (sys.maxsize, 1))
        for mine, theirs in zip(found, expected, strict=True):
            assert torch.equal(mine, theirs)


def test_the_embedded_network_needs_python_no_more(embedded: Model) -> None:
    """Once passes of a size have been run: forward, and backward."""
    size = (embedded.preprocessing.height, embedded.preprocessing.width)
    rows = torch.zeros(1, 3, *size).contiguous(memory_format=torch.channels_last)
    for _ in range(TIMES):
        logits_and_gradients(embedded, rows, sys.maxsize)
    with patch.object(kernels._LaidOut, "__call__", side_effect=AssertionError):
        logits_and_gradients(embedded, rows, sys.maxsize)
        with pytest.raises(AssertionError):
            logits_and_gradients(embedded, rows, calls=1)


def test_two_lanes_write_scripts_at_once(embedded: Model) -> None:
    rows = [noise(seed, 1, 96) for seed in range(8)]
    with ThreadPoolExecutor(2, initializer=use_threads, initargs=(1,)) as lanes:

        def asked(calls: int) -> list[list[Tensor]]:
            return list(lanes.map(lambda one: logits_and_gradients(embedded, one, calls), rows * 2))

        for mine, theirs in zip(asked(sys.maxsize), asked(1), strict=True):
            for found, expected in zip(mine, theirs, strict=True):
                assert torch.equal(found, expected)
        asked(sys.maxsize)
        with patch.object(kernels._LaidOut, "__call__", side_effect=AssertionError):
            asked(sys.maxsize)


@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_between_tapped_layers_is_that_of_the_modules(name: str) -> None:
    """Values that several legs read, and layers whose output another takes the place of."""
    torch.manual_seed(0)
    model = model_of(NETWORKS[name]())
    line = model.folded.line
    assert line is not None
    layers = sorted(line.layers, key=lambda layer: line.layers[layer])
    chosen = [layers[len(layers) * part // 5] for part in (1, 2, 4)]
    for seed in range(TIMES):
        found: dict[str, Tensor] = {}
        expected: dict[str, Tensor] = {}

        with torch.no_grad():
            found["logits"] = line.run(noise(seed), halving(chosen, found))
            expected["logits"] = tapped(model.folded.module, halving(chosen, expected))(noise(seed))
        mine = with_gradient(lambda rows: line.run(rows, halving(chosen, {})), noise(seed))
        theirs = with_gradient(lambda rows: tapped(model.folded.module, halving(chosen, {}))(rows.clone()), noise(seed))
        found |= zip(("with a gradient", "gradient"), mine, strict=True)
        expected |= zip(("with a gradient", "gradient"), theirs, strict=True)
        assert found.keys() == expected.keys()
        for layer, output in expected.items():
            torch.testing.assert_close(found[layer], output, rtol=1e-4, atol=1e-5)


class Heads(nn.Module):
    """Reads the same twice with weights of their own, as attention does that is written by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.query, self.key = nn.Parameter(torch.randn(5, 8)), nn.Parameter(torch.randn(5, 8))

    def forward(self, rows: Tensor) -> Tensor:
        pooled = self.first(rows).mean((2, 3))
        return F.linear(pooled, self.query) * F.linear(pooled, self.key)


def test_pieces_are_told_apart_by_themselves_and_not_by_their_weights() -> None:
    torch.manual_seed(0)
    model = model_of(Heads())
    line = model.folded.line
    assert line is not None
    for seed in range(TIMES):
        mine = with_gradient(lambda rows: line.run(rows, {}), noise(seed))
        for found, expected in zip(mine, with_gradient(model.folded.module, noise(seed)), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
