"""Views of networks that keep methods and modules in more than one place."""

import pytest
import torch
import torch.nn.functional as F
from tests.driving import answer_to, model_of
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from gradserve_server.autograd.objective import class_score
from gradserve_server.autograd.program import ask
from gradserve_server.autograd.query import Query

SIZE = 24


class Keeping(nn.Module):
    """A hook that is its own method keeps what a layer returned."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Linear(16, 5)
        self.first.register_forward_hook(self.keep)

    def keep(self, module: nn.Module, given: object, returned: Tensor) -> None:
        self.kept = returned

    def forward(self, rows: Tensor) -> Tensor:
        last = self.second(F.relu(self.first(rows)))
        return self.head(torch.cat([self.kept.mean((2, 3)), last.mean((2, 3))], 1))


class Twice(nn.Module):
    """A block is an attribute and a part of what runs, as in spectrally normalized GANs."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
        self.whole = nn.Sequential(self.block, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))

    def forward(self, rows: Tensor) -> Tensor:
        return self.whole(rows)


class Choosing(nn.Module):
    """What its inner module does is chosen once, as in FasterNet."""

    class Inner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution = nn.Conv2d(3, 8, 3)
            self.forward = self.convolve

        def convolve(self, rows: Tensor) -> Tensor:
            return self.convolution(rows).relu()

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.head = self.Inner(), nn.Linear(8, 5)

    def forward(self, rows: Tensor) -> Tensor:
        return self.head(self.inner(rows).mean((2, 3)))


class Normed(nn.Module):
    """Weights that are made anew each time they are read."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = weight_norm(nn.Conv2d(3, 8, 3)), weight_norm(nn.Conv2d(8, 4, 3))
        self.norm, self.head = nn.BatchNorm2d(8), nn.Linear(4, 5)

    def forward(self, rows: Tensor) -> Tensor:
        return self.head(self.second(self.norm(self.first(rows)).relu()).mean((2, 3)))


CASES = [
    (Keeping, "second"),
    (Twice, "block.0"),
    (Twice, "block"),
    (Choosing, "inner.convolution"),
    (Normed, "second"),
]


@pytest.mark.parametrize("fold", [True, False], ids=["folded", "as it was"])
@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize(("kind", "layer"), CASES)
def test_layers_are_read_and_rooted_as_the_network_has_them(
    kind: type[nn.Module], layer: str, precision: str, fold: bool
) -> None:
    """Each image its own, whatever was asked before; gradients by torch's own."""
    torch.manual_seed(0)
    network = kind().to(getattr(torch, precision)).eval()
    model = model_of(network, size=SIZE, precision=precision, fold=fold)
    for seed in range(2):
        rows = torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed)).to(model.dtype)
        seen: list[Tensor] = []
        leaf = rows.clone().requires_grad_()
        handle = network.get_submodule(layer).register_forward_hook(lambda *given, seen=seen: seen.append(given[2]))
        with torch.enable_grad():
            logits = network(leaf)
        handle.remove()
        expected = torch.autograd.grad(logits[:, 1].sum(), [leaf, seen[0]])
        whole = answer_to(model, ask(Query(rows, class_score(1), capture=(layer,), logits=True)))
        rooted = answer_to(model, ask(Query(rows, class_score(1), root=layer)))
        torch.testing.assert_close(whole.logits, logits.detach(), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(whole.activations[layer], seen[0].detach(), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(whole.gradient, expected[0], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(rooted.gradient, expected[1], rtol=1e-4, atol=1e-6)
