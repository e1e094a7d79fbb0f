"""What must hold of every method of explanation, whatever it computes, and the networks to try it on."""

import torch
from tests.driving import answer_to, drive, model_of, relative, subject_of
from torch import Tensor, nn

from gradserve_server.autograd.objective import class_score, ranked_class_score
from gradserve_server.models.model import Model
from gradserve_server.programs.explain.method import Method

SIZE = 32
CLASSES = 5


def small_network(seed: int = 0) -> nn.Module:
    """Returns a network with rectifiers, normalisation and a skip, in float64."""
    torch.manual_seed(seed)
    return _Small().double().eval()


class _Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 5, stride=2, padding=2)
        self.norm = nn.BatchNorm2d(6)
        self.body = nn.Conv2d(6, 6, 3, padding=1)
        self.head = nn.Linear(6 * 4 * 4, CLASSES)

    def forward(self, rows: Tensor) -> Tensor:
        stem = torch.relu(self.norm(self.stem(rows)))
        body = torch.relu(stem + self.body(stem))
        return self.head(nn.functional.adaptive_avg_pool2d(body, 4).flatten(1))


def linear_network(seed: int = 0, size: int = SIZE) -> nn.Module:
    """Returns a network whose scores are linear in the pixels, in float64."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * size * size, CLASSES)).double().eval()


def small_model() -> Model:
    return model_of(small_network(), size=SIZE, precision="float64", default_layer="body")


def image(seed: int = 1, size: int = SIZE) -> Tensor:
    """Returns a smooth image with pixels in -1..1, [1, 3, size, size] in float64."""
    coarse = torch.rand(1, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return nn.functional.interpolate(coarse, size=(size, size), mode="bilinear")


def gradient_of(network: nn.Module, rows: Tensor, target: int) -> Tensor:
    """Returns the gradient of each row's score, by PyTorch alone."""
    leaf = rows.detach().clone().requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(network(leaf)[:, target].sum(), leaf)
    return gradient


def check(method: Method, *, random: bool = False, network: nn.Module | None = None) -> None:
    """Checks that company, chunks and the model are as if the program ran alone, and that only the seed is random."""
    layer = "" if network else "body"
    network = network or small_network()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    model = model_of(network, size=SIZE, precision="float64", default_layer=layer)

    def program(index: int, seed: int = 3):
        return method.explain(subject_of(image(index), ranked_class_score(index % 2), seed, model))

    alone = answer_to(model, program(0), budget=1000)
    assert alone.values.shape == (SIZE, SIZE)
    company = drive(model, program(1), program(0), program(2), budget=7)
    assert max(programs for _, programs in company.passes) > 1
    assert relative(company.results[1].values, alone.values) < 1e-9
    assert relative(answer_to(model, program(0), budget=1).values, alone.values) < 1e-9
    assert relative(answer_to(model, program(1)).values, alone.values) > 1e-3, "an answer that ignores the image"

    assert torch.equal(answer_to(model, program(0), budget=1000).values, alone.values)
    other = answer_to(model, program(0, seed=4), budget=1000).values
    assert torch.equal(other, alone.values) is not random

    # The rank is settled on the image itself: the class it names gives the same map.
    with torch.no_grad():
        first = int(network(image(0)).argmax())
    named = method.explain(subject_of(image(0), class_score(first), 3, model))
    assert relative(answer_to(model, named, budget=1000).values, alone.values) < 1e-9

    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    for module in model.module.modules():
        assert not module._forward_hooks and not module._forward_pre_hooks and not module._backward_hooks
    assert all(parameter.grad is None for parameter in model.module.parameters())
