"""What convolutions do of the calls behind them: which, and that it is the same, forward and backward."""

from collections.abc import Callable, Sequence
from math import inf
from typing import Any

import pytest
import torch
import torchvision
from tests.driving import with_gradient
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn

from gradserve_server.models.chains import Chain
from gradserve_server.models.convolutions import Convolution
from gradserve_server.models.folding import fold
from gradserve_server.models.joining import joined
from gradserve_server.models.kernels import through_rectifier
from gradserve_server.models.links import Adding, Call, Convolving, Rectifying
from gradserve_server.models.padding import PaddingInside

Calls = tuple[Call, ...]


def noise(count: int = 3, channels: int = 8, size: tuple[int, int] = (9, 9)) -> Tensor:
    values = torch.randn(count, channels, *size, generator=torch.Generator().manual_seed(1))
    return values.contiguous(memory_format=torch.channels_last)


def convolving(kernel: int = 3, stride: int = 1, rectifier: nn.Module | None = None) -> Convolving:
    torch.manual_seed(kernel)
    convolution = nn.Conv2d(8, 8, kernel, stride, padding=kernel // 2).eval().requires_grad_(False)
    return Convolution(convolution, rectifier).link


def rectifying(ceiling: float) -> Rectifying:
    return Rectifying(ceiling, finite=True)


def residual(*, ceiling: float | None = inf, swapped: bool = False) -> Calls:
    """A rectified convolution, one that goes on from there, and the sum of both."""
    calls = (
        Call(convolving(1, rectifier=nn.ReLU()), (0,), 1),
        Call(convolving(3), (1,), 2),
        Call(Adding(), (1, 2) if swapped else (2, 1), 3),
    )
    return calls if ceiling is None else (*calls, Call(rectifying(ceiling), (3,), 4))


def downsampled() -> Calls:
    """Two convolutions of the rows, with strides, and their sum."""
    return (
        Call(convolving(3, 2), (0,), 1),
        Call(convolving(1, 2), (0,), 2),
        Call(Adding(), (1, 2), 3),
        Call(rectifying(inf), (3,), 4),
    )


def one_after_the_other() -> Calls:
    """Two sums, of which the second has the first on both ways."""
    return (*residual(), Call(convolving(5), (4,), 5), Call(Adding(), (5, 4), 6))


def padded() -> Calls:
    """Convolutions that pad inside for most sizes; for the others torch's own does it."""
    torch.manual_seed(0)
    convolution = Conv2dSame(8, 8, 3, 2).eval().requires_grad_(False)
    links = [Convolution(PaddingInside(convolution)).link for _ in range(2)]
    return (
        Call(links[0], (0,), 1),
        Call(rectifying(6.0), (1,), 2),
        Call(links[1], (0,), 3),
        Call(Adding(), (2, 3), 4),
        Call(rectifying(inf), (4,), 5),
    )


JOINED = {
    "rectified": (Call(convolving(), (0,), 1), Call(rectifying(inf), (1,), 2)),
    "with a ceiling": (Call(convolving(), (0,), 1), Call(rectifying(2.0), (1,), 2)),
    "a sum": residual(ceiling=None),
    "a rectified sum": residual(),
    "the other way round": residual(swapped=True),
    "two convolutions": downsampled(),
    "one after the other": one_after_the_other(),
    "padded inside": padded(),
}
IN_PART = {
    "a sum with a ceiling": (residual(ceiling=2.0), [Convolving, Convolving, Rectifying]),
    "a sum that is read twice": (
        (*residual(), Call(Adding(), (3, 4), 5)),
        [Convolving, Convolving, Rectifying, Adding],
    ),
    "a double": ((Call(convolving(), (0,), 1), Call(Adding(), (1, 1), 2)), [Convolving, Adding]),
    "the sum of two sums": (
        (*residual(ceiling=None), Call(rectifying(inf), (0,), 4), Call(Adding(), (3, 4), 5)),
        [Convolving, Convolving, Rectifying, Adding],
    ),
    "rectified before": (
        (Call(convolving(rectifier=nn.ReLU()), (0,), 1), Call(Adding(), (0, 1), 2)),
        [Convolving, Adding],
    ),
    "rectified twice": (
        (Call(convolving(rectifier=nn.ReLU()), (0,), 1), Call(rectifying(0.5), (1,), 2)),
        [Convolving, Rectifying],
    ),
    "behind what may be no number": (
        (Call(convolving(), (0,), 1), Call(Rectifying(inf), (1,), 2)),
        [Convolving, Rectifying],
    ),
    "read by others": (
        (
            Call(convolving(), (0,), 1),
            Call(Adding(), (0, 1), 2),
            Call(convolving(1, rectifier=nn.ReLU()), (1,), 3),
            Call(Adding(), (2, 3), 4),
        ),
        [Convolving, Adding, Convolving, Adding],
    ),
}
ALL: dict[str, Calls] = JOINED | {name: calls for name, (calls, _) in IN_PART.items()}


def run(calls: Sequence[Call]) -> Callable[[Tensor], Tensor]:
    def made(rows: Tensor) -> Tensor:
        values = {0: rows}
        Chain(calls, (0,), (calls[-1].output,))(values)
        return values[calls[-1].output]

    return made


def kinds(calls: Sequence[Call]) -> list[type]:
    return [type(call.link) for call in calls]


@pytest.mark.parametrize("size", [(8, 8), (9, 9), (8, 9)])
@pytest.mark.parametrize("calls", ALL.values(), ids=ALL)
def test_values_and_gradients_are_those_of_the_calls_apart(calls: Calls, size: tuple[int, int]) -> None:
    found = joined(calls, {calls[-1].output})
    mine, mine_gradient = with_gradient(run(found), noise(size=size))
    apart, gradient = with_gradient(run(calls), noise(size=size))
    torch.testing.assert_close(mine, apart, rtol=0, atol=1e-6)
    torch.testing.assert_close(mine_gradient, gradient, rtol=0, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(run(found)(noise(size=size)), mine, rtol=0, atol=0)


@pytest.mark.parametrize("calls", JOINED.values(), ids=JOINED)
def test_no_sum_and_no_rectifier_is_left(calls: Calls) -> None:
    found = joined(calls, {calls[-1].output})
    assert set(kinds(found)) == {Convolving}
    assert sum(call.link.adds for call in found) == kinds(calls).count(Adding)


@pytest.mark.parametrize(("calls", "left"), IN_PART.values(), ids=IN_PART)
def test_what_others_read_or_no_convolution_can_do_is_left(calls: Calls, left: list[type]) -> None:
    assert kinds(joined(calls, {calls[-1].output})) == left


@pytest.mark.parametrize("kept", [2, 3], ids=["what the convolution returns", "the sum"])
def test_what_is_read_outside_stays(kept: int) -> None:
    calls = residual()
    values, apart = {0: noise()}, {0: noise()}
    Chain(joined(calls, {kept, 4}), (0,), (kept, 4))(values)
    Chain(calls, (0,), (kept, 4))(apart)
    for place in (kept, 4):
        torch.testing.assert_close(values[place], apart[place], rtol=0, atol=1e-6)


def test_a_gradient_that_others_have_is_not_written_over() -> None:
    rows, other = noise(), noise().flip(0)
    arriving = noise().flip(1)
    before = arriving.clone()

    def gradients(link: Convolving, *, owned: bool) -> Any:
        _, kept, noted = link.recorded(rows, other, wanted=(True, True))
        return link.gradients(kept, noted, arriving, owned=owned, through=through_rectifier)

    plain = Convolving(*_parts(), adds=True)
    for owned in (False, True):
        (_, fresh), (gradient, free) = gradients(plain, owned=owned)
        assert (fresh, free) == (True, owned)
        assert gradient is arriving
    rectified = Convolving(*_parts(), ceiling=inf, adds=True)
    passes = rectified.value(rows, other) > 0
    for owned in (False, True):
        (_, fresh), (gradient, free) = gradients(rectified, owned=owned)
        assert fresh
        assert free
        assert (gradient.data_ptr() == arriving.data_ptr()) is owned
        assert torch.equal(gradient, before * passes)
        assert owned or torch.equal(arriving, before)


def _parts() -> tuple[Any, Any]:
    link = convolving()
    return link.convolution, link.kernel


def test_what_is_no_number_stays_so() -> None:
    class Dividing(nn.Module):
        """0 / 0 where all of an image is 0."""

        def __init__(self, divides: bool) -> None:
            super().__init__()
            self.convolution = nn.Conv2d(3, 3, 3, padding=1)
            self.divides = divides

        def forward(self, rows: Tensor) -> Tensor:
            if self.divides:
                rows = rows / rows.square().sum((1, 2, 3), keepdim=True).sqrt()
            # Twice the same module, so that only the line can have it rectify.
            return self.convolution(self.convolution(rows).relu()).relu().flatten(1)

    rows = noise(2, 3)
    rows[0] = 0
    for divides in (False, True):
        network = Dividing(divides).eval().requires_grad_(False)
        line = fold(network, rows[1:].expand(2, -1, -1, -1).contiguous(memory_format=torch.channels_last)).line
        assert line is not None
        rectifiers = [call.link for call in line.calls if isinstance(call, Call) and isinstance(call.link, Rectifying)]
        assert [link.finite for link in rectifiers] == [not divides] * 2
        assert line.run(rows, {}).isnan().any(1).tolist() == [divides, False]


@pytest.mark.parametrize("make", [torchvision.models.resnet50, torchvision.models.mobilenet_v2])
def test_a_residual_network_adds_and_rectifies_in_its_convolutions(make: Any) -> None:
    torch.manual_seed(0)
    network = make(num_classes=10).eval().requires_grad_(False).to(memory_format=torch.channels_last)
    rows = noise(2, 3, (64, 64))
    line = fold(network, rows).line
    assert line is not None
    with torch.no_grad(), torch.profiler.profile() as profile:
        line.run(rows, {})
    counted = {event.key for event in profile.key_averages()}
    assert {"aten::relu", "aten::relu_", "aten::clamp", "aten::hardtanh", "aten::add"}.isdisjoint(counted)
    expected, expected_gradient = with_gradient(network, rows)
    mine, gradient = with_gradient(lambda leaf: line.run(leaf, {}), rows)
    torch.testing.assert_close(mine, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))
    # Of all pixels: where one unit rounds to the other side of 0, a few differ by more.
    assert float((gradient - expected_gradient).norm()) <= 1e-3 * float(expected_gradient.norm())


def test_a_convolution_of_what_needs_no_gradient_makes_none() -> None:
    """A shortcut's convolution, with strides, of what lies before the layer that a gradient is taken of."""
    calls = (Call(convolving(3), (0,), 2), Call(convolving(1), (1,), 3), Call(Adding(), (2, 3), 4))
    found = joined(calls, {4})
    assert kinds(found) == [Convolving, Convolving]
    leaf, other = noise().requires_grad_(), noise().flip(0)
    values = {0: leaf, 1: other}
    Chain(found, (0, 1), (4,))(values)
    with torch.profiler.profile() as profile:
        (mine,) = torch.autograd.grad(values[4].square().sum(), leaf)
    counted = {event.key: event.count for event in profile.key_averages()}
    assert counted["mkldnn::_convolution_pointwise"] == 1
    apart = {0: leaf, 1: other}
    Chain(calls, (0, 1), (4,))(apart)
    torch.testing.assert_close(mine, torch.autograd.grad(apart[4].square().sum(), leaf)[0], rtol=0, atol=1e-5)
