"""Networks as straight lines: the values, layers and gradients of the modules, in networks as people write them."""

import re
from collections import namedtuple
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from tests.driving import model_of, with_gradient
from torch import Tensor, nn

from gradserve_server.autograd.objective import class_score
from gradserve_server.autograd.passes import Bundle, Chunk, run
from gradserve_server.autograd.query import ActivationRule, Query
from gradserve_server.autograd.taps import Recorder, tapped
from gradserve_server.models.folding import Folded, fold
from gradserve_server.models.links import Adding, Call, Rectifying
from gradserve_server.models.model import Model
from gradserve_server.models.straight_line import Piece, StraightLine

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "resnet18": lambda: torchvision.models.resnet18(num_classes=10),
    "mobilenet_v2": lambda: torchvision.models.mobilenet_v2(num_classes=10),
    "mobilenet_v3_small": lambda: torchvision.models.mobilenet_v3_small(num_classes=10),
    "squeezenet1_1": lambda: torchvision.models.squeezenet1_1(num_classes=10),
    "vgg11_bn": lambda: torchvision.models.vgg11_bn(num_classes=10),
    "googlenet": lambda: torchvision.models.googlenet(num_classes=10, aux_logits=False, init_weights=False),
    "timm resnet26d": lambda: timm.create_model("resnet26d", num_classes=10),
    "timm efficientnet_lite0": lambda: timm.create_model("tf_efficientnet_lite0", num_classes=10),
    "timm seresnet18": lambda: timm.create_model("seresnet18", num_classes=10),
}

RULED = (ActivationRule.DECONVNET, ActivationRule.GUIDED)


class Network(nn.Module):
    """A convolution, something, a convolution, and logits."""

    def __init__(self, between: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.between = between

    def forward(self, rows: Tensor) -> Tensor:
        return self.second(self.between(self.first(rows))).mean((2, 3))


def frozen(module: nn.Module) -> nn.Module:
    return module.eval().requires_grad_(False)


def noise(count: int = 2, size: int = 64) -> Tensor:
    values = torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(2))
    return values.contiguous(memory_format=torch.channels_last)


def line_of(network: nn.Module) -> StraightLine | None:
    return fold(frozen(network), noise()).line


def close(found: Tensor, expected: Tensor) -> None:
    assert found.shape == expected.shape
    assert float((found - expected).abs().max()) <= 1e-5 * float(expected.abs().max())


@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_layers_and_gradients_are_those_of_the_modules(name: str) -> None:
    torch.manual_seed(0)
    model = model_of(NETWORKS[name]())
    line, network = model.folded.line, model.folded.module
    assert line is not None
    assert any(isinstance(call, Call) for call in line.calls)
    # Of another number and size than it was read from.
    rows = noise(3, 80)
    found: dict[str, Tensor] = {}
    expected: dict[str, Tensor] = {}

    def noting(values: dict[str, Tensor]) -> dict[str, Callable[[Tensor], None]]:
        return {name: lambda output, name=name: values.update({name: output.detach().clone()}) for name in line.layers}

    taps, others = noting(found), noting(expected)
    assert line.takes(rows, line.layers.keys())
    mine = with_gradient(lambda leaf: line.run(leaf, taps), rows)
    theirs = with_gradient(lambda leaf: tapped(network, others)(leaf.clone()), rows)
    for one, other in zip(mine, theirs, strict=True):
        close(one, other)
    assert found.keys() == expected.keys()
    # What returns its input as it is may not be all that reads that.
    assert model.default_layer in line.layers
    assert sum(layer.name not in line.layers for layer in model.layers) < len(model.layers) / 6
    for layer, output in expected.items():
        close(found[layer], output)
    with torch.no_grad():
        close(line.run(rows, {}), network(rows))


def test_the_embedded_network_is_one_chain_and_a_head(embedded: Model) -> None:
    line = embedded.folded.line
    assert line is not None
    assert line.size is None
    assert embedded.default_layer in line.layers
    # First blocks of a stage, whose output goes to the next convolution and around it.
    missing = {layer.name for layer in embedded.layers if layer.name not in line.layers}
    assert missing
    assert all(re.fullmatch(r"blocks\.\d\.\d\.(bn\d(\.(drop|act))?|drop_path|aa)", name) for name in missing), missing
    kinds = [type(call) for call in line.calls]
    # Forty-nine convolutions and nine sums; then the pooling, the flattening and the classifier.
    assert kinds == [Call] * 58 + [Piece] * 3
    with torch.profiler.profile() as profile:
        with_gradient(lambda rows: line.run(rows, {}), noise(2, 224))
    counted = {event.key: event.count for event in profile.key_averages()}
    assert counted["_Chained"] == counted["_ChainedBackward"] == 1
    # Rectifiers' gradients are written over those that arrive at them, and no sum takes new memory backward.
    assert "aten::hardtanh" not in counted
    assert "aten::hardtanh_backward" in counted


@pytest.mark.parametrize("root", ["layer1", "layer2.0.conv2", "layer3.1.bn1", "layer4.0", "avgpool"])
def test_gradients_with_respect_to_layers_count_every_reader(root: str) -> None:
    torch.manual_seed(0)
    model = model_of(torchvision.models.resnet18(num_classes=10))
    apart = Folded(model.folded.module, model.folded.layers)
    rows = noise(3)
    queries = [
        Query(rows, class_score(index), root=layer, capture=("layer2", root))
        for index, layer in ((1, root), (2, "layer3"))
    ]
    bundles = [Bundle((Chunk(query, 0, 3),)) for query in queries]
    for mine, theirs in zip(run(model, bundles), run(replace(model, folded=apart), bundles), strict=True):
        close(mine[0].gradient, theirs[0].gradient)
        for layer, output in theirs[0].activations.items():
            close(mine[0].activations[layer], output)


def test_several_sweeps_go_back_through_the_same_chain() -> None:
    torch.manual_seed(0)
    model = model_of(torchvision.models.resnet18(num_classes=10))
    rows = noise()
    queries = [Query(rows, class_score(index)) for index in (1, 2, 1)]
    together = run(model, [Bundle(tuple(Chunk(query, 0, 2) for query in queries))])[0]
    for query, answer in zip(queries, together, strict=True):
        ((alone,),) = run(model, [Bundle((Chunk(query, 0, 2),))])
        close(answer.gradient, alone.gradient)


def test_what_is_done_in_place_is_done_aside() -> None:
    def busy(rows: Tensor) -> Tensor:
        rows += rows.flip(1)
        F.relu(rows, inplace=True)
        kept = rows.clamp(0, 2)
        return F.silu(kept) + kept

    line = line_of(Network(busy))
    assert line is not None
    links = [call.link for call in line.calls if isinstance(call, Call)]
    assert Rectifying(float("inf"), finite=True) in links
    assert Rectifying(2.0, finite=True) in links
    assert links.count(Adding()) == 2
    rows = noise()
    before = rows.clone()
    with_gradient(lambda leaf: line.run(leaf, {}), rows)
    assert torch.equal(rows, before)


Pair = namedtuple("Pair", ["first", "second"])  # as people write them


class _Halved(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        return rows * 1

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0] / 2


def _writes_what_noise_does_not(rows: Tensor) -> Tensor:
    rows = F.softplus(rows)
    F.relu6(rows[:, :4] - 0, inplace=True)
    rows[:, :4].clamp_(0, 60)
    return rows


def _writes_a_part(rows: Tensor) -> Tensor:
    rows[:, 0] = 0
    return rows


def _writes_to_a_view(rows: Tensor) -> Tensor:
    kept = rows.flatten(2)
    rows += rows.flip(1)
    return rows + kept.view(rows.shape)


@pytest.mark.parametrize(
    "between",
    [
        _writes_a_part,
        _writes_to_a_view,
        lambda rows: rows.mul_(2),
        lambda rows: rows + torch.rand(1),
        lambda rows: sum(rows.chunk(2, 1)).repeat(1, 2, 1, 1),
        lambda rows: rows.view(2, 8, *rows.shape[2:]) if len(rows) == 2 else rows,
        lambda rows: rows * len(rows),
        lambda rows: _Halved.apply(rows),
        _writes_what_noise_does_not,
        lambda rows: F.max_pool2d(rows, Pair(3, 3), 1, 1) + torch.stack(Pair(rows, rows)).sum(0),
    ],
)
def test_what_no_line_says_is_left_to_the_modules(between: Any) -> None:
    assert line_of(Network(between)) is None


@pytest.mark.parametrize(
    "between",
    [
        lambda rows: rows * (1 if rows.shape[-1] == 64 else 2),
        # The same for all sizes that are multiples of 8.
        lambda rows: F.pad(rows, (0, -rows.shape[-1] % 8, 0, -rows.size(2) % 8)),
    ],
)
def test_where_sizes_are_asked_for_the_line_is_of_one(between: Callable[[Tensor], Tensor]) -> None:
    line = line_of(Network(between))
    assert line is not None
    assert line.size == (64, 64)
    assert line.takes(noise(5), set())
    assert not line.takes(noise(5, 96), set())


def test_what_takes_no_smaller_images_is_read_again_of_larger_ones() -> None:
    line = line_of(Network(lambda rows: F.avg_pool2d(rows, 40)))
    assert line is not None
    assert line.size is None


def test_what_cannot_be_read_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    def picky(rows: Tensor) -> Tensor:
        if rows.shape[0] == 3:
            raise ValueError("not three")
        return rows

    assert line_of(Network(picky)) is None
    (record,) = (record for record in caplog.records if record.name.endswith("models.reading"))
    assert record.levelname == "WARNING"
    assert record.exc_info is not None
    caplog.clear()
    with caplog.at_level("INFO"):
        assert line_of(Network(lambda rows: rows * rows.shape[0])) is None
    (record,) = (record for record in caplog.records if record.name.endswith("models.reading"))
    assert record.levelname == "INFO"


def test_a_layer_that_others_read_meanwhile_is_no_layer_of_the_line() -> None:
    class Late(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.other = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 1)

        def forward(self, rows: Tensor) -> Tensor:
            found = self.inner(rows)
            self.side = self.other(found)
            return found

    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.late = Late()

        def forward(self, rows: Tensor) -> Tensor:
            return (self.late(rows) + self.late.side).mean((2, 3))

    line = line_of(Whole())
    assert line is not None
    assert "late.inner" in line.layers
    # Whoever replaces what it returns does not replace what went to the other convolution.
    assert "late" not in line.layers
    assert not line.takes(noise(), {"late"})


def test_not_under_modes_nor_in_fewer_bits_nor_of_other_types(embedded: Model) -> None:
    line = embedded.folded.line
    assert line is not None
    rows = noise(2, 224)
    assert line.takes(rows, {embedded.default_layer})
    assert not line.takes(rows.double(), set())
    assert not line.takes(rows, {"nothing"})
    with torch.overrides.BaseTorchFunctionMode():
        assert not line.takes(rows, set())
    with torch.autocast("cpu", torch.bfloat16):
        assert not line.takes(rows, set())


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "timm efficientnet_lite0"])
def test_rows_follow_their_rules_along_the_line(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = model_of(NETWORKS[name]())
    apart = replace(model, folded=Folded(model.folded.module, model.folded.layers))
    rows = noise(1)
    bundles = [Bundle((Chunk(Query(rows.clone(), class_score(3), rule=rule), 0, 1),)) for rule in ActivationRule]
    expected = run(apart, bundles)

    def never(*given: Any) -> None:
        raise AssertionError("the modules run")

    monkeypatch.setattr(Recorder, "forward", never)
    found = [answer.gradient for (answer,) in run(model, bundles)]
    for one, (other,) in zip(found, expected, strict=True):
        close(one, other.gradient)
    plain = found[list(ActivationRule).index(ActivationRule.STANDARD)]
    for rule in RULED:
        difference = (found[list(ActivationRule).index(rule)] - plain).abs().max()
        assert difference > 0.1 * plain.abs().max(), rule


def test_rules_run_the_modules_where_a_piece_rectifies(monkeypatch: pytest.MonkeyPatch) -> None:
    class Encoding(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(3, 8, 8, stride=8)
            self.encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

        def forward(self, rows: Tensor) -> Tensor:
            return self.encoder(self.first(rows).flatten(2).transpose(1, 2)).mean(1)

    torch.manual_seed(0)
    model = model_of(Encoding())
    line = model.folded.line
    assert line is not None
    assert not line.shows_rectifiers
    query = Query(noise(1), class_score(3), rule=ActivationRule.GUIDED)
    apart = replace(model, folded=Folded(model.folded.module))
    ((found,),), ((expected,),) = (run(one, [Bundle((Chunk(query, 0, 1),))]) for one in (model, apart))
    close(found.gradient, expected.gradient)


def test_a_single_row_that_is_something_else_runs_the_modules() -> None:
    class Squeezing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(3, 8, 3)

        def forward(self, rows: Tensor) -> Tensor:
            found = F.adaptive_avg_pool2d(self.first(rows), 1).squeeze()
            return found if found.dim() == 2 else found.unsqueeze(0)

    line = line_of(Squeezing())
    assert line is not None
    assert line.takes(noise(2), set())
    assert not line.takes(noise(1), set())


def test_a_layer_that_returns_its_input_is_none_where_others_read_that() -> None:
    class Shortcut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.shortcut, self.conv = nn.Conv2d(3, 8, 3), nn.Dropout(), nn.Conv2d(8, 8, 1)
            self.last = nn.Dropout()

        def forward(self, rows: Tensor) -> Tensor:
            found = self.stem(rows)
            around = self.shortcut(found)
            return self.last(self.conv(found) + around).mean((2, 3))

    torch.manual_seed(0)
    model = model_of(Shortcut())
    line = model.folded.line
    assert line is not None
    assert {"stem", "conv", "last"} <= line.layers.keys()
    assert "shortcut" not in line.layers
    apart = replace(model, folded=Folded(model.folded.module))
    query = Query(noise(), class_score(3), root="shortcut", capture=("shortcut",))
    ((found,),), ((expected,),) = (run(one, [Bundle((Chunk(query, 0, 2),))]) for one in (model, apart))
    close(found.gradient, expected.gradient)


def test_replaced_layers_are_what_later_calls_read() -> None:
    torch.manual_seed(0)
    model = model_of(torchvision.models.resnet18(num_classes=10))
    apart = replace(model, folded=Folded(model.folded.module, model.folded.layers))
    values = torch.randn(2, 128, 8, 8)
    query = Query(noise(), class_score(3), root="layer2", capture=("layer3",), replace={"layer2": values})
    ((found,),), ((expected,),) = (run(one, [Bundle((Chunk(query, 0, 2),))]) for one in (model, apart))
    close(found.gradient, expected.gradient)
    close(found.activations["layer3"], expected.activations["layer3"])
