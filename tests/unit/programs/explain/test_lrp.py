"""LRP against Captum's for the epsilon rule, and against the rules written out with matrices."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from captum.attr import LRP as CaptumLRP  # noqa: N811
from captum.attr import InputXGradient
from captum.attr._utils.lrp_rules import EpsilonRule
from tests.driving import answer_to, drive, model_of, relative, subject_of
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn
from torchvision import models

from gradserve_server.autograd.objective import class_score, ranked_class_score
from gradserve_server.errors import InvalidInput
from gradserve_server.programs.explain.deep_lift import DeepLift
from gradserve_server.programs.explain.explanation import explain
from gradserve_server.programs.explain.grad_cam import GradCam
from gradserve_server.programs.explain.guided_backprop import GuidedBackprop
from gradserve_server.programs.explain.lrp import Lrp, LrpComposite
from gradserve_server.programs.explain.reduction import ChannelReduction
from gradserve_server.rpc.support import refusal

SIZE = 12
EVERY = [
    {"composite": composite, "flat": flat, "alpha": alpha}
    for composite in LrpComposite
    for flat in (False, True)
    for alpha in ((1.0, 2.0) if composite is LrpComposite.EPSILON_ALPHA_BETA else (1.0,))
]


def image(seed: int = 0, size: int = SIZE) -> Tensor:
    noise = torch.Generator().manual_seed(seed)
    return torch.randn(1, 3, size, size, dtype=torch.float64, generator=noise)


def network(*, bias: bool = True, activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """Convolutions, one with a normalization whose scales have both signs, overlapping windows, and matrices."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 6, 3, padding=1, bias=bias), nn.BatchNorm2d(6), activation(), nn.MaxPool2d(2)]
    layers += [nn.Conv2d(6, 8, 3, bias=bias), activation(), nn.AvgPool2d(2), nn.Flatten()]
    layers += [nn.Linear(32, 10, bias=bias), activation(), nn.Linear(10, 4, bias=bias)]
    made = nn.Sequential(*layers).double().eval()
    made[1].weight.data.normal_()
    if bias:
        made[1].running_mean.normal_()
        made[1].bias.data.normal_()
    return made


def attributed(module: nn.Module, rows: Tensor, **options) -> Tensor:
    model = model_of(module, size=rows.shape[-1], precision="float64")
    method = Lrp(ChannelReduction.SUM, **{"epsilon": 1e-9} | options)
    return answer_to(model, method.attribute(subject_of(rows, class_score(1)))).values


@pytest.mark.parametrize("bias", [True, False])
def test_the_epsilon_rule_agrees_with_captum(bias: bool) -> None:
    module = network(bias=bias)
    # Captum has no rule for nn.Flatten, which here is the last step before the matrices.
    module[7].rule = EpsilonRule()
    expected = CaptumLRP(module).attribute(image().requires_grad_(), target=1)[0].detach()
    found = attributed(network(bias=bias), image(), composite=LrpComposite.EPSILON, flat=False)
    # Captum adds its 1e-9 at batch normalization and pooling too.
    assert relative(found, expected) < 1e-6


@pytest.mark.parametrize("name", ["resnet18", "densenet121", "vgg11_bn", "squeezenet1_1"])
def test_without_bias_and_epsilon_it_is_input_times_gradient(name: str) -> None:
    """Also over skips and functional rectifiers, which Captum cannot serve. A new normalization has no bias."""
    torch.manual_seed(1)
    module = models.get_model(name, weights=None, num_classes=4).double().eval()
    for parameter_name, parameter in module.named_parameters():
        if parameter_name.endswith("bias"):
            parameter.data.zero_()
        elif parameter.ndim > 1:
            # Far from epsilon.
            nn.init.kaiming_normal_(parameter)
    rows = image(3, 64)
    expected = InputXGradient(module).attribute(rows.clone().requires_grad_(), target=1)[0].detach()
    assert relative(attributed(module, rows, composite=LrpComposite.EPSILON, flat=False), expected) < 1e-6


@pytest.mark.parametrize("options", EVERY, ids=str)
def test_nothing_is_lost_without_bias(options) -> None:
    module = network(bias=False)
    with torch.no_grad():
        score = module(image())[0, 1]
    torch.testing.assert_close(attributed(module, image(), **options).sum(), score, rtol=1e-6, atol=0)


class Slow:
    """The rules from their definitions, with every operation a matrix."""

    def __init__(self, options, gamma: float, epsilon: float) -> None:
        self.options, self.gamma, self.epsilon = options, gamma, epsilon

    def stable(self, sums: np.ndarray) -> np.ndarray:
        return sums + np.where(sums < 0, -self.epsilon, self.epsilon)

    def back(self, matrix: np.ndarray, bias: np.ndarray, given: np.ndarray, arriving: np.ndarray, rule: str):
        parts = matrix * given
        above, below = parts.clip(min=0), parts.clip(max=0)
        if rule == "epsilon":
            return (parts / self.stable(parts.sum(1) + bias)[:, None] * arriving[:, None]).sum(0)
        if rule == "flat":
            linked = (matrix != 0).astype(float)
            return (linked / linked.sum(1)[:, None] * arriving[:, None]).sum(0)
        if rule == "gamma":
            # Contributions of the sum's own sign, the bias one of them.
            terms = np.concatenate([parts, bias[:, None]], axis=1)
            own = terms * (np.sign(terms) == np.where(terms.sum(1) < 0, -1, 1)[:, None])
            total = (terms + self.gamma * own).sum(1)
            favoured = (terms + self.gamma * own)[:, :-1]
            return (favoured / self.stable(total)[:, None] * arriving[:, None]).sum(0)
        alpha = self.options["alpha"]
        up = above / self.stable(above.sum(1) + bias.clip(min=0))[:, None]
        down = below / self.stable(below.sum(1) + bias.clip(max=0))[:, None]
        return ((alpha * up - (alpha - 1) * down) * arriving[:, None]).sum(0)

    def explain(self, module: nn.Sequential, rows: Tensor, target: int) -> np.ndarray:
        groups = [
            module[0:2],
            module[2],
            module[3],
            module[4],
            module[5],
            module[6:8],
            module[8],
            module[9],
            module[10],
        ]
        inputs = [rows]
        for group in groups:
            inputs.append(group(inputs[-1]).detach())
        relevance = np.zeros(inputs[-1].numel())
        relevance[target] = inputs[-1].flatten()[target]
        convolution = self.options["composite"].value.removeprefix("epsilon_")
        rules = {0: "flat" if self.options["flat"] else convolution, 3: convolution, 6: "epsilon", 8: "epsilon"}
        for index in reversed(range(len(groups))):
            group, given = groups[index], inputs[index]
            if index in rules:
                matrix = torch.autograd.functional.jacobian(group, given).reshape(-1, given.numel()).numpy()
                bias = group(torch.zeros_like(given)).detach().flatten().numpy()
                relevance = self.back(matrix, bias, given.flatten().numpy(), relevance, rules[index])
            elif index in (2, 5):
                # A selection, or a mean: by contribution.
                matrix = torch.autograd.functional.jacobian(group, given).reshape(-1, given.numel()).numpy()
                parts = matrix * given.flatten().numpy()
                total = parts.sum(1)
                relevance = (parts / np.where(total == 0, 1, total)[:, None] * relevance[:, None]).sum(0)
        return relevance.reshape(rows.shape[1:])


@pytest.mark.parametrize("options", EVERY, ids=str)
def test_every_rule_agrees_with_its_definition(options) -> None:
    module = network()
    expected = Slow(options, 0.25, 1e-3).explain(module, image(2), 1)
    assert relative(attributed(module, image(2), epsilon=1e-3, gamma=0.25, **options), expected) < 1e-9


@pytest.mark.parametrize("size", [15, 16])
@pytest.mark.parametrize("options", EVERY, ids=str)
def test_padding_that_is_none_of_the_kernel_has_no_relevance(options, size: int) -> None:
    """As TensorFlow pads, one more behind than before where their number is odd: written out, and as timm's layer."""
    torch.manual_seed(0)
    convolutions = [Conv2dSame(3, 6, 3, stride=2), Conv2dSame(6, 6, 3, stride=2, groups=6)]

    def made(*layers: nn.Module) -> nn.Module:
        first, second, *last = layers
        return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), nn.Flatten(), *last).double().eval()

    head = nn.Linear(96, 4)
    inside = made(*convolutions, head)
    plain = [nn.Conv2d(3, 6, 3, stride=2), nn.Conv2d(6, 6, 3, stride=2, groups=6)]
    for convolution, same in zip(plain, convolutions, strict=True):
        convolution.load_state_dict(same.state_dict())
    before = size % 2
    first, second = (
        nn.Sequential(nn.ZeroPad2d((odd, 1, odd, 1)), convolution)
        for odd, convolution in zip((before, 0), plain, strict=True)
    )
    outside = made(first, second, head)
    found = attributed(inside, image(size=size), **options)
    assert relative(found, attributed(outside, image(size=size), **options)) < 1e-9


class Functional(nn.Module):
    """The same computation, the rectifier a function in place."""

    def __init__(self, source: nn.Sequential) -> None:
        super().__init__()
        self.source = source

    def forward(self, rows: Tensor) -> Tensor:
        source = self.source
        features = source[4](F.max_pool2d(F.relu_(source[1](source[0](rows))), 2))
        features.relu_()
        return source[10](source[8](source[6](features).flatten(1)).clamp(min=0))


@pytest.mark.parametrize("options", EVERY, ids=str)
def test_functional_rectifiers_are_as_right_as_modules(options) -> None:
    found = attributed(Functional(network()), image(), **options)
    assert relative(found, attributed(network(), image(), **options)) < 1e-9


class InParts(Functional):
    """Likewise, the first rectifier on parts of what it is given, one after the other."""

    def forward(self, rows: Tensor) -> Tensor:
        source = self.source
        first = source[1](source[0](rows))
        F.relu_(first[:, :2])
        first[:, 2:].relu_()
        features = source[4](F.max_pool2d(first, 2))
        features.view(len(rows), -1).relu_()
        return source[10](F.relu(source[8](source[6](features).flatten(1))))


@pytest.mark.parametrize("options", EVERY, ids=str)
def test_rectifiers_of_parts_are_as_right_as_of_the_whole(options) -> None:
    found = attributed(InParts(network()), image(), **options)
    assert relative(found, attributed(network(), image(), **options)) < 1e-9


class BeforeNormalization(nn.Module):
    """Rectifiers and sums between convolutions and the normalizations behind them, in place or not."""

    def __init__(self, *, in_place: bool) -> None:
        super().__init__()
        self.in_place = in_place
        torch.manual_seed(0)
        self.stem, self.first, self.second = (nn.Conv2d(count, 5, 3, padding=1) for count in (3, 5, 5))
        self.norms = nn.ModuleList(nn.BatchNorm2d(5) for _ in range(3))
        self.head = nn.Linear(5, 4)
        for norm in self.norms:
            for values in (norm.weight.data, norm.bias.data, norm.running_mean):
                values.normal_()

    def forward(self, rows: Tensor) -> Tensor:
        features = self.norms[0](F.relu(self.stem(rows), inplace=self.in_place))
        more = self.first(features)
        if self.in_place:
            more += features
        else:
            more = more + features
        # Read by its normalization, and as it is.
        ahead = self.second(F.relu(self.norms[1](more)))
        return self.head((F.relu(self.norms[2](ahead)) + ahead).mean((2, 3)))


@pytest.mark.parametrize("options", EVERY, ids=str)
def test_what_was_changed_in_place_is_no_longer_what_the_convolution_returned(options) -> None:
    """As a normalization behind a rectifier, or behind the sum of a block."""
    inside, outside = (BeforeNormalization(in_place=in_place).double().eval() for in_place in (True, False))
    found = attributed(inside, image(), **options)
    assert relative(found, attributed(outside, image(), **options)) < 1e-9


def test_who_else_reads_a_convolution_has_a_part_of_its_relevance() -> None:
    """Without biases the epsilon rule is input times gradient, and nothing is lost."""
    module = BeforeNormalization(in_place=False).double().eval()
    for name, values in (*module.named_parameters(), *module.named_buffers()):
        if "bias" in name or "running_mean" in name:
            values.data.zero_()
    rows = image()
    expected = InputXGradient(module).attribute(rows.clone().requires_grad_(), target=1)[0].detach()
    assert relative(attributed(module, rows, composite=LrpComposite.EPSILON, flat=False), expected) < 1e-6


@pytest.mark.parametrize("options", EVERY, ids=str)
def test_pixels_that_are_zero_get_the_same_whoever_is_beside(options) -> None:
    """A network without biases' rows of no negative value go in one part, others in two."""
    model = model_of(network(), size=SIZE, precision="float64")
    black = image().abs()
    black[..., : SIZE // 2] = 0
    programs = [Lrp(**options).explain(subject_of(rows, class_score(1))) for rows in (black, image(1))]
    alone = answer_to(model, Lrp(**options).explain(subject_of(black.clone(), class_score(1)))).values
    found = drive(model, *programs, budget=2).results[0].values
    assert relative(found, alone) < 1e-9
    if not options["flat"]:
        assert not alone[:, : SIZE // 2].any()


def test_black_pixels_of_value_zero_get_their_even_part() -> None:
    """Relevance by value would lose them: the flat rule does not look at the pixel."""
    rows = image()
    rows[:, :, 4:8] = 0
    expected = Slow(EVERY[3], 0.25, 1e-9).explain(network(), rows, 1)
    assert np.abs(expected[:, 4:8]).max() > 0
    assert relative(attributed(network(), rows, **EVERY[3]), expected) < 1e-6


@pytest.mark.parametrize("budget", [1, 5, 100])
def test_with_others_of_other_rules_as_alone(budget: int) -> None:
    model = model_of(network(), size=SIZE, precision="float64")

    def programs():
        for seed in range(2):
            subject = subject_of(image(seed), ranked_class_score(0))
            for options in EVERY:
                yield Lrp(**options).explain(subject)
            yield DeepLift().explain(subject)
            yield GuidedBackprop().explain(subject)

    alone = [answer_to(model, program).values for program in programs()]
    for found, expected in zip(drive(model, *programs(), budget=budget).results, alone, strict=True):
        assert relative(found.values, expected) < 1e-9


def test_a_tap_between_convolution_and_normalization_changes_nothing() -> None:
    model = model_of(network(), size=SIZE, precision="float64")
    subject = subject_of(image(), class_score(1))
    method = Lrp(composite=LrpComposite.EPSILON_ALPHA_BETA, flat=False)
    both = explain(
        subject.rows,
        subject.black,
        subject.white,
        methods=(method, GradCam(("0",)), GuidedBackprop()),
        targets=(subject.target,),
        seed=0,
        as_grid=subject.as_grid,
        as_map=subject.as_map,
    )
    alone = answer_to(model, method.explain(subject)).values
    assert relative(answer_to(model, both).maps[0].values, alone) < 1e-9


def test_the_seed_does_not_matter_and_nothing_is_left_on_the_model() -> None:
    module = network()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    model = model_of(module, size=SIZE, precision="float64")
    first, second = (
        answer_to(model, Lrp().explain(subject_of(image(), class_score(0), seed=seed))).values for seed in (1, 2)
    )
    assert torch.equal(first, second)
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert all(parameter.grad is None for parameter in module.parameters())
    assert not any(part._forward_hooks or part._backward_hooks for part in module.modules())


class Dynamic(nn.Module):
    """Weighs by what the image says, which no rule of its own divides among both."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 4)

    def forward(self, rows: Tensor) -> Tensor:
        kernel = self.convolution.weight * rows.mean()
        return self.head(F.relu(F.conv2d(rows, kernel)).mean((2, 3)))


def test_models_it_has_no_rule_for_are_refused() -> None:
    assert "conv2d of two activations" in refusal(Lrp, model_of(Dynamic(), size=SIZE))
    assert "sigmoid" in refusal(Lrp, model_of(network(activation=nn.Sigmoid), size=SIZE))
    assert "mul of two activations" in refusal(Lrp, model_of(models.mobilenet_v3_small(), size=64))
    assert not refusal(Lrp, model_of(network(activation=nn.SiLU), size=SIZE))


@pytest.mark.parametrize(
    "values",
    [{"epsilon": 0.0}, {"epsilon": 1e4}, {"gamma": -1.0}, {"alpha": 0.5}, {"alpha": 11.0}, {"gamma": float("nan")}],
)
def test_values_out_of_range_are_refused(values) -> None:
    with pytest.raises(InvalidInput) as error:
        Lrp(**values)
    assert error.value.field == next(iter(values))
