"""DeepLIFT against Captum's where that is right, and against its own promise where it is not."""

import pytest
import torch
import torch.nn.functional as F
from captum.attr import DeepLift as CaptumDeepLift
from captum.attr import IntegratedGradients
from tests.driving import answer_to, drive, model_of, relative, subject_of
from torch import Tensor, nn
from torchvision import models

from gradserve_server.autograd.objective import class_score, neuron, ranked_class_score
from gradserve_server.autograd.program import ask, together
from gradserve_server.autograd.query import ActivationRule, Query, Rescale
from gradserve_server.errors import InvalidInput, Unsupported
from gradserve_server.programs.explain.baseline import Baseline, Black, Blurred, Image, White
from gradserve_server.programs.explain.deep_lift import DeepLift
from gradserve_server.programs.explain.guided_backprop import GuidedBackprop
from gradserve_server.programs.explain.integrated_gradients import IntegratedGradients as Integrated
from gradserve_server.programs.explain.reduction import ChannelReduction
from gradserve_server.programs.explain.saliency import Saliency
from gradserve_server.rpc.support import refusal, supported

captum_warns = pytest.mark.filterwarnings("ignore:Setting (backward|forward, backward) hooks")

SIZE = 32


def image(seed: int = 0, size: int = SIZE) -> Tensor:
    noise = torch.Generator().manual_seed(seed)
    return torch.randn(1, 3, size, size, dtype=torch.float64, generator=noise)


def once(activation: type[nn.Module], pool: nn.Module | None = None, *, apart: bool = True) -> nn.Module:
    """Modules that run once each: Captum's terms.

    `apart` puts a linear operation that changes nothing between activation and pooling. Captum hooks the tensor they
    share twice, and the activation then sees the pooling's plain gradient.
    """
    torch.manual_seed(0)
    between = nn.AvgPool2d(1) if apart else nn.Identity()
    layers = [nn.Conv2d(3, 6, 5, padding=2), nn.BatchNorm2d(6), activation(), between, pool or nn.MaxPool2d(2)]
    layers += [nn.Conv2d(6, 8, 3), activation(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(128, 16)]
    layers += [activation(), nn.Linear(16, 5)]
    network = nn.Sequential(*layers).double().eval()
    network[1].running_mean.normal_()
    network[1].running_var.uniform_(0.5, 2)
    return network


class Functional(nn.Module):
    """The same computation with functions, the activation in place."""

    def __init__(self, source: nn.Module) -> None:
        super().__init__()
        self.conv, self.norm, self.deep, self.hidden, self.head = (source[index] for index in (0, 1, 5, 9, 11))

    def forward(self, rows: Tensor) -> Tensor:
        features = F.max_pool2d(F.relu(self.norm(self.conv(rows)), inplace=True), 2)
        features = self.deep(features)
        torch.relu_(features)
        return self.head(self.hidden(F.adaptive_avg_pool2d(features, 4).flatten(1)).clamp(min=0))


class Reused(Functional):
    """The same with one module for all activations."""

    def __init__(self, source: nn.Module) -> None:
        super().__init__(source)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, rows: Tensor) -> Tensor:
        features = F.max_pool2d(self.relu(self.norm(self.conv(rows))), 2)
        features = F.adaptive_avg_pool2d(self.relu(self.deep(features)), 4).flatten(1)
        return self.head(self.relu(self.hidden(features)))


def attributed(model, rows: Tensor, *baselines: Baseline):
    method = DeepLift(ChannelReduction.SUM, baselines or (Black(),))
    return answer_to(model, method.attribute(subject_of(rows, class_score(2))))


def unfolded(network: nn.Module):
    """Of a reference of one colour, maxima are ties that rounding decides; folding rounds otherwise."""
    return model_of(network, size=SIZE, precision="float64", fold=False)


def captum(network: nn.Module, rows: Tensor, reference: Tensor) -> Tensor:
    return CaptumDeepLift(network).attribute(rows.clone().requires_grad_(), reference, target=2).detach()[0]


@captum_warns
@pytest.mark.parametrize("activation", [nn.ReLU, nn.Sigmoid, nn.Tanh, nn.ELU, nn.LeakyReLU, nn.Softplus])
def test_agrees_with_captum(activation: type[nn.Module]) -> None:
    network = once(activation)
    model = unfolded(network)
    found = attributed(model, image()).values
    assert relative(found, captum(network, image(), torch.full_like(image(), -1.0))) < 1e-9


@captum_warns
def test_agrees_with_captum_on_the_folded_network_too() -> None:
    network = once(nn.ReLU)
    model = model_of(network, size=SIZE, precision="float64")
    assert model.folded.module is not model.module
    found = attributed(model, image(), Image(image(1).numpy())).values
    assert relative(found, captum(network, image(), image(1))) < 1e-9


@captum_warns
def test_agrees_with_captum_for_each_baseline_and_their_mean() -> None:
    network = once(nn.ReLU)
    model = unfolded(network)
    baselines = (Black(), White(), Blurred(2.0))
    subject = subject_of(image(), class_score(2))
    expected = torch.stack([captum(network, image(), baseline.rows(subject)) for baseline in baselines]).mean(0)
    assert relative(attributed(model, image(), *baselines).values, expected) < 1e-9


@captum_warns
@pytest.mark.parametrize("kind", [Functional, Reused])
def test_functional_and_reused_activations_are_as_right_as_modules(kind: type[Functional]) -> None:
    """Captum answers the first with something else and refuses the second; both compute what the modules compute."""
    network = once(nn.ReLU)
    expected = captum(network, image(), torch.full_like(image(), -1.0))
    same = kind(network).double().eval()
    assert relative(attributed(unfolded(same), image()).values, expected) < 1e-9
    if kind is Functional:
        assert relative(captum(same, image(), torch.full_like(image(), -1.0)), expected) > 0.05
    else:
        with pytest.raises(RuntimeError, match="used more than once"):
            captum(same, image(), torch.full_like(image(), -1.0))


@captum_warns
def test_an_activation_right_before_a_pooling_is_right() -> None:
    """The operation between them changes nothing of what the network computes; it must not change the answer either."""
    apart, adjacent = (once(nn.ReLU, apart=choice) for choice in (True, False))
    expected = captum(apart, image(), torch.full_like(image(), -1.0))
    assert relative(attributed(unfolded(adjacent), image()).values, expected) < 1e-9
    assert relative(captum(adjacent, image(), torch.full_like(image(), -1.0)), expected) > 0.05


@captum_warns
def test_overlapping_pools_lose_nothing() -> None:
    """Where windows overlap, Captum's unpooling keeps one window's part of a maximum that several share."""
    network = once(nn.ReLU, nn.MaxPool2d(3, stride=2, padding=1))
    found = attributed(model_of(network, size=SIZE, precision="float64"), image())
    reference = torch.full_like(image(), -1.0)
    with torch.no_grad():
        change = (network(image()) - network(reference))[0, 2]
    torch.testing.assert_close(found.values.sum(), change, rtol=1e-9, atol=1e-9)
    lost = captum(network, image(), reference).sum() - change
    assert abs(float(lost)) > 0.01 * abs(float(change))


@pytest.mark.parametrize("name", ["resnet18", "densenet121", "mobilenet_v2", "vgg11_bn", "squeezenet1_1", "googlenet"])
def test_the_attributions_add_up_to_the_change_of_score(name: str) -> None:
    torch.manual_seed(1)
    options = {"init_weights": True} if name == "googlenet" else {}
    network = models.get_model(name, weights=None, num_classes=5, **options).double().eval()
    found = attributed(model_of(network, size=64, precision="float64"), image(3, 64))
    with torch.no_grad():
        change = (network(image(3, 64)) - network(torch.full_like(image(3, 64), -1.0)))[0, 2]
    torch.testing.assert_close(found.values.sum(), change, rtol=1e-6, atol=1e-9)
    assert float(found.approximation_error) < 1e-6


def test_of_a_linear_model_it_is_integrated_gradients() -> None:
    torch.manual_seed(2)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(900, 5))
    network = network.double().eval()
    expected = IntegratedGradients(network).attribute(image(), -1.0, target=2, n_steps=5)[0].detach()
    found = attributed(model_of(network, size=SIZE, precision="float64"), image()).values
    assert relative(found, expected.double()) < 1e-9


def test_an_image_that_is_its_baseline_has_nothing_to_explain() -> None:
    network = once(nn.Softplus)
    found = attributed(model_of(network, size=SIZE, precision="float64"), torch.full_like(image(), -1.0))
    assert not found.values.any()
    assert float(found.approximation_error) == 0


def test_where_both_are_alike_the_multiplier_is_the_gradient() -> None:
    network = once(nn.Softplus, nn.AvgPool2d(2))
    model = model_of(network, size=SIZE, precision="float64")
    pair = image().repeat(2, 1, 1, 1)
    found = answer_to(model, ask(Query(pair, class_score(2), rule=Rescale()))).gradient
    plain = answer_to(model, ask(Query(image(), class_score(2)))).gradient
    assert relative(found[0], plain[0]) < 1e-9


class Root(nn.Module):
    """Its slope at 0 has no end."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Linear(3, 4)

    def forward(self, rows: Tensor) -> Tensor:
        return self.head(rows.sqrt().mean((2, 3)))


def test_a_slope_without_end_spoils_no_difference() -> None:
    module = Root().double().eval()
    model = model_of(module, size=SIZE, precision="float64")
    rows = image().abs()
    pair = torch.cat([torch.zeros_like(rows), rows])
    found = answer_to(model, ask(Query(pair, class_score(2), rule=Rescale()))).gradient
    expected = module.head.weight[2].detach().view(1, 3, 1, 1) / rows.sqrt() / rows[0, 0].numel()
    assert relative(found[:1], expected) < 1e-9


def test_a_unit_that_is_inactive_at_both_ends_is_an_answer() -> None:
    """Score and change are 0: not 0/0."""
    network = once(nn.ReLU)
    with torch.no_grad():
        network[0].bias[2], network[0].weight[2] = -9.0, 0.0
        network[1].weight[2] = 1.0
    model = model_of(network, size=SIZE, precision="float64")
    for method in (DeepLift(), Integrated(step_count=2)):
        found = answer_to(model, method.explain(subject_of(image(), neuron("2", 2, 3, 3))))
        assert not found.values.any()
        assert float(found.approximation_error) == 0


class TestCompany:
    """Pairs stay together, and rows with other rules share their passes."""

    @pytest.fixture
    def model(self):
        return model_of(once(nn.ReLU, nn.MaxPool2d(3, stride=2)), size=SIZE, precision="float64")

    @pytest.mark.parametrize("budget", [1, 3, 5, 8, 100])
    def test_with_others_of_other_rules_as_alone(self, model, budget: int) -> None:
        def programs():
            for seed in range(3):
                subject = subject_of(image(seed), ranked_class_score(0))
                yield DeepLift(baselines=(Black(), White())).attribute(subject)
                yield GuidedBackprop().attribute(subject)
                yield Saliency().attribute(subject)

        alone = [answer_to(model, program, budget=100).values for program in programs()]
        company = drive(model, *programs(), budget=budget)
        if budget > 1:
            assert max(count for _, count in company.passes) > 1
        for found, expected in zip(company.results, alone, strict=True):
            assert relative(found.values, expected) < 1e-9

    def test_several_sweeps_over_the_same_rows(self, model) -> None:
        """Two targets and two rules share one forward, and each sweep follows its own."""
        pair = torch.cat([image(), image(1)])
        queries = [
            Query(pair, class_score(target), rule=rule)
            for target in (0, 2)
            for rule in (Rescale(), ActivationRule.GUIDED, ActivationRule.STANDARD)
        ]
        driven = drive(model, together(*map(ask, queries)))
        assert driven.passes == [(2, 1)]
        for query, found in zip(queries, driven.results[0], strict=True):
            assert relative(found.gradient, answer_to(model, ask(query)).gradient) < 1e-9


def test_the_seed_does_not_matter_and_nothing_is_left_on_the_model() -> None:
    network = once(nn.ReLU)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    model = model_of(network, size=SIZE, precision="float64")
    first, second = (
        answer_to(model, DeepLift().explain(subject_of(image(), class_score(0), seed=seed))).values for seed in (1, 2)
    )
    assert torch.equal(first, second)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not any(module._forward_hooks or module._backward_hooks for module in network.modules())


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("efficientnet_b0", "mul of two activations"),
        ("mobilenet_v3_small", "mul of two activations"),
        ("convnext_tiny", "layer_norm"),
    ],
)
def test_models_with_operations_it_has_no_rule_for_are_refused(name: str, reason: str) -> None:
    model = model_of(models.get_model(name, weights=None), size=64)
    assert reason in refusal(DeepLift, model)
    with pytest.raises(Unsupported, match=reason):
        supported(DeepLift(), model)


def test_too_many_baselines_are_refused() -> None:
    with pytest.raises(InvalidInput) as error:
        DeepLift(baselines=(Black(),) * 9)
    assert error.value.field == "baselines"
