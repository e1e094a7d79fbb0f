"""Units of layers whose channels come last, for Explain and for Maximize, against slices of what hooks saw."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from tests.driving import answer_to, entry_of, model_of, relative
from tests.unit.programs.explain.test_cam_of_transformers import (
    SIZE,
    timm_swin,
    timm_vit,
    torchvision_swin,
    torchvision_vit,
)
from torch import Tensor, nn

from gradserve import objectives
from gradserve.v1 import explain_pb2, maximize_pb2
from gradserve_server.autograd.program import ask
from gradserve_server.autograd.query import Query
from gradserve_server.config import Settings
from gradserve_server.errors import InvalidInput
from gradserve_server.models.repository import Repository
from gradserve_server.rpc.maximize_requests import maximize_call
from gradserve_server.rpc.targets import targets

CHANNEL, Y, X = 11, 1, 2


@dataclass(frozen=True)
class Case:
    """A layer of a network, and how a person would slice it: to [rows, height, width, channels]."""

    network: Callable[[], nn.Module]
    layer: str
    by_hand: Callable[[Tensor], Tensor]


def tokens(extra: int) -> Callable[[Tensor], Tensor]:
    return lambda output: output[:, extra:].unflatten(1, (4, 4))


CASES = {
    "torchvision ViT": Case(torchvision_vit, "encoder.layers.encoder_layer_1", tokens(1)),
    "timm ViT": Case(timm_vit, "blocks.1.mlp", tokens(1)),
    "timm ViT with registers": Case(lambda: timm_vit(reg_tokens=4), "blocks.0", tokens(5)),
    "torchvision Swin": Case(torchvision_swin, "features.3.0", lambda output: output),
    "timm Swin": Case(timm_swin, "layers.1.blocks.0", lambda output: output),
    "convolution": Case(timm_vit, "patch_embed.proj", lambda output: output.permute(0, 2, 3, 1)),
    "vector": Case(
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE**2, 20)), "1", lambda output: output[:, None, None]
    ),
}  # fmt: skip


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture(scope="module")
def network(case: Case) -> nn.Module:
    torch.manual_seed(1)
    return case.network().double().eval()


@pytest.fixture(scope="module")
def model(network: nn.Module):
    return model_of(deepcopy(network), size=SIZE, precision="float64")


def image(count: int = 2) -> Tensor:
    return torch.randn(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def sliced(network: nn.Module, case: Case, rows: Tensor) -> Tensor:
    seen: list[Tensor] = []
    handle = network.get_submodule(case.layer).register_forward_hook(lambda *call: seen.append(call[2]))
    network(rows)
    handle.remove()
    return case.by_hand(seen[0])


def at(case: Case) -> tuple[int, int]:
    return (0, 0) if case is CASES["vector"] else (Y, X)


def value_of(model, objective, rows: Tensor) -> Tensor:
    return answer_to(model, ask(Query(rows, objective, gradient=False))).value


def unit(**position: int) -> Callable[[str], explain_pb2.Target]:
    return lambda layer: explain_pb2.Target(unit=explain_pb2.Unit(layer=layer, channel=CHANNEL, **position))


def test_explains_units(case: Case, network: nn.Module, model) -> None:
    y, x = at(case)
    leaf = image().requires_grad_()
    maps = sliced(network, case, leaf)
    for message, expected in (
        (unit(), maps[..., CHANNEL].mean((1, 2))),
        (unit(y=y, x=x), maps[:, y, x, CHANNEL]),
    ):
        (target,) = targets([message(case.layer)], (), model, 1)
        found = answer_to(model, ask(Query(image(), target.objective)))
        torch.testing.assert_close(found.value, expected, rtol=1e-9, atol=1e-12)
        (gradient,) = torch.autograd.grad(expected.sum(), leaf, retain_graph=True)
        assert relative(found.gradient, gradient) < 1e-9


def test_maximizes_units(case: Case, network: nn.Module, model) -> None:
    y, x = at(case)
    maps = sliced(network, case, image()).detach().numpy()
    channels = maps.shape[-1]
    vector = np.linspace(-1, 1, channels, dtype="<f4")
    flat = maps.reshape(2, -1, channels)
    grams = [(positions.T @ positions).ravel() for positions in flat]
    cosine = grams[0] @ grams[1] / np.prod([np.linalg.norm(gram) for gram in grams])
    height, width = maps.shape[1:3]
    for objective, expected in (
        (objectives.channel(case.layer, CHANNEL), maps[..., CHANNEL].mean((1, 2))),
        (objectives.neuron(case.layer, CHANNEL, y=y, x=x), maps[:, y, x, CHANNEL]),
        (objectives.neuron(case.layer, CHANNEL), maps[:, height // 2, width // 2, CHANNEL]),
        (objectives.direction(case.layer, vector), np.einsum("nhwc,c->n", maps, vector) / (height * width)),
        (objectives.diversity(case.layer), np.array([-cosine, -cosine])),
    ):
        request = maximize_pb2.MaximizeRequest(objectives=objective.messages(), count=2)
        call = maximize_call(request, Repository((entry_of(model),)), Settings())
        np.testing.assert_allclose(value_of(model, call.objective, image()), expected, rtol=1e-9, atol=1e-12)


def refused(message: explain_pb2.Target, model) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        targets([message], (), model, 1)
    return caught.value


def test_what_does_not_exist_is_refused(case: Case, network: nn.Module, model) -> None:
    last = model.layer(case.layer).channel_count - 1
    height, width = sliced(network, case, image()).shape[1:3]
    message = unit(y=height - 1, x=width - 1)(case.layer)
    message.unit.channel = last
    targets([message], (), model, 1)
    for field, value in (("channel", last + 1), ("y", height), ("x", width), ("y", -1)):
        wrong = explain_pb2.Target()
        wrong.CopyFrom(message)
        setattr(wrong.unit, field, value)
        assert refused(wrong, model).field == f"targets[0].unit.{field}"
    for field in ("y", "x"):
        wrong = explain_pb2.Target()
        wrong.CopyFrom(message)
        wrong.unit.ClearField(field)
        assert refused(wrong, model).field == f"targets[0].unit.{field}"


@pytest.mark.parametrize("kind", ["channel", "neuron", "direction", "diversity"])
def test_a_layer_that_does_not_say_where_its_channels_are_is_refused(kind: str) -> None:
    """The heads of attention: [heads, tokens, channels]."""
    model = model_of(timm_vit(), size=SIZE)
    layer = "blocks.0.attn.q_norm"
    assert model.layer(layer).shape == (2, 17, 16)
    assert refused(unit()(layer), model).field == "targets[0].unit.layer"
    given = {"channel": (0,), "neuron": (0,), "direction": ([0.0] * 16,), "diversity": ()}[kind]
    messages = getattr(objectives, kind)(layer, *given).messages()
    request = maximize_pb2.MaximizeRequest(objectives=messages, count=2)
    with pytest.raises(InvalidInput, match="name a layer of shape") as caught:
        maximize_call(request, Repository((entry_of(model),)), Settings())
    assert caught.value.field == f"objectives[0].{kind}.layer"


def test_tokens_of_an_image_of_another_size_are_refused() -> None:
    """Patches in a row at any size, as of a network that merges them without convolutions."""
    network = nn.Sequential(
        nn.Conv2d(3, 6, 8, 8), nn.Flatten(2), Swapped(), nn.LayerNorm(6), Swapped(), nn.AvgPool1d(16), nn.Flatten()
    )
    model = model_of(network, size=32)
    (target,) = targets([explain_pb2.Target(unit=explain_pb2.Unit(layer="3", y=1, x=2))], (), model, 1)
    value_of(model, target.objective, torch.zeros(1, 3, 32, 32))
    with pytest.raises(InvalidInput, match="4 x 4") as caught:
        value_of(model, target.objective, torch.zeros(1, 3, 48, 48))
    assert caught.value.field == "size"


class Swapped(nn.Module):
    def forward(self, tokens: Tensor) -> Tensor:
        return tokens.transpose(1, 2)
