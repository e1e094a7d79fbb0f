"""Activation rules against a per-operation reference, where module hooks go wrong."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from captum.attr import Deconvolution, GuidedBackprop
from tests.driving import answer_to, drive, model_of, relative
from torch import Tensor, nn

from gradserve_server.autograd.objective import class_score
from gradserve_server.autograd.program import ask
from gradserve_server.autograd.query import ActivationRule, Query

Rectifier = Callable[[Tensor], Tensor]
RULES = list(ActivationRule)


def reference_rectifier(rule: ActivationRule, ceiling: float | None) -> Rectifier:
    """A rectifier written from the definitions in the papers: forward clamps, backward follows the rule."""

    class Reference(torch.autograd.Function):
        @staticmethod
        def forward(ctx, values):
            ctx.save_for_backward(values)
            return values.clamp(0, ceiling)

        @staticmethod
        def backward(ctx, gradient):
            (values,) = ctx.saved_tensors
            was_active = (values > 0) if ceiling is None else (values > 0) & (values < ceiling)
            if rule is ActivationRule.STANDARD:
                return gradient * was_active
            if rule is ActivationRule.DECONVNET:
                return gradient * (gradient > 0)
            if rule is ActivationRule.REDIRECTED:
                passes = gradient * was_active
                away = ((values <= 0) & (gradient < 0)) | ((values >= (ceiling or torch.inf)) & (gradient > 0))
                blocked = (passes == 0).flatten(1).all(1)[:, None, None, None]
                return torch.where(blocked, gradient * ~away, passes)
            return gradient * was_active * (gradient > 0)

    return Reference.apply


class Plain(nn.Module):
    """Convolutions with a rectifier after each."""

    def __init__(self, rectifier: Rectifier) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3)
        self.head = nn.Linear(8, 5)
        self.rectifier = rectifier

    def forward(self, rows: Tensor) -> Tensor:
        features = self.rectifier(self.second(self.rectifier(self.first(rows))))
        return self.head(features.mean((2, 3)))


class FanOut(Plain):
    """The rectifier's input has a second reader, as in pre-activation blocks."""

    def forward(self, rows: Tensor) -> Tensor:
        before = self.first(rows)
        features = self.second(self.rectifier(before.clone() if self.copies else before))
        return self.head(self.rectifier(features + before[:, :, 1:-1, 1:-1]).mean((2, 3)))

    copies = False


OPERATIONS: dict[str, tuple[Rectifier, float | None]] = {
    "F.relu": (F.relu, None),
    "F.relu in place": (lambda values: F.relu(values, inplace=True), None),
    "Tensor.relu": (lambda values: values.relu(), None),
    "torch.relu_, input read on": (lambda values: (torch.relu_(values), values)[1], None),
    "nn.ReLU": (nn.ReLU(), None),
    "nn.ReLU in place": (nn.ReLU(inplace=True), None),
    "nn.ReLU6": (nn.ReLU6(), 6.0),
    "nn.ReLU6 in place": (nn.ReLU6(inplace=True), 6.0),
    "F.hardtanh": (lambda values: F.hardtanh(values, 0.0, 1.0), 1.0),
    "Tensor.clamp": (lambda values: values.clamp(min=0), None),
    "torch.clamp_min": (lambda values: torch.clamp_min(values, 0), None),
}


def reference_gradient(network: type[Plain], rule: ActivationRule, ceiling: float | None, rows: Tensor) -> Tensor:
    torch.manual_seed(3)
    module = network(reference_rectifier(rule, ceiling)).double().eval()
    leaf = rows.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(module(leaf)[:, 2].sum(), leaf)
    return gradient


def served_gradient(module: nn.Module, rule: ActivationRule, rows: Tensor) -> Tensor:
    answer = answer_to(model_of(module, precision="float64"), ask(Query(rows, class_score(2), rule=rule)))
    return answer.gradient


@pytest.fixture
def rows() -> Tensor:
    return 6 * torch.randn(2, 3, 12, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_form_of_rectifier_follows_the_rule(operation: str, rule: ActivationRule, rows: Tensor) -> None:
    rectifier, ceiling = OPERATIONS[operation]
    torch.manual_seed(3)
    found = served_gradient(Plain(rectifier), rule, rows)
    assert relative(found, reference_gradient(Plain, rule, ceiling, rows)) < 1e-12


@pytest.mark.parametrize("rule", RULES)
def test_a_second_reader_of_the_rectifiers_input_keeps_its_gradient(rule: ActivationRule, rows: Tensor) -> None:
    torch.manual_seed(3)
    found = served_gradient(FanOut(nn.ReLU()), rule, rows)
    assert relative(found, reference_gradient(FanOut, rule, None, rows)) < 1e-12


@pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU activations")
def test_captum_is_wrong_on_a_second_reader(rows: Tensor) -> None:
    """Its hook sits on the shared input of the rectifier: why this project recognises operations, not modules."""

    class WithModule(FanOut):
        def __init__(self) -> None:
            super().__init__(nn.ReLU())

    torch.manual_seed(3)
    module = WithModule().double().eval()
    found = GuidedBackprop(module).attribute(rows.clone().requires_grad_(), target=2)
    assert relative(found, reference_gradient(FanOut, ActivationRule.GUIDED, None, rows)) > 1e-2


@pytest.mark.filterwarnings("ignore:Setting backward hooks on ReLU activations")
@pytest.mark.parametrize(("method", "rule"), [(GuidedBackprop, "GUIDED"), (Deconvolution, "DECONVNET")])
def test_captum_agrees_where_it_is_right(method: type, rule: str, rows: Tensor) -> None:
    torch.manual_seed(3)
    module = Plain(nn.ReLU()).double().eval()
    expected = method(module).attribute(rows.clone().requires_grad_(), target=2)
    assert relative(served_gradient(module, ActivationRule[rule], rows), expected) < 1e-12


def test_rows_with_different_rules_share_a_pass(rows: Tensor) -> None:
    torch.manual_seed(3)
    model = model_of(Plain(nn.ReLU(inplace=True)), precision="float64")
    one = rows[:1]
    driven = drive(model, *(ask(Query(one.clone(), class_score(2), rule=rule)) for rule in RULES))
    assert driven.passes == [(len(RULES), len(RULES))]
    for answer, rule in zip(driven.results, RULES, strict=True):
        assert relative(answer.gradient, reference_gradient(Plain, rule, None, one)) < 1e-12


def test_rules_on_the_same_rows_share_a_forward(rows: Tensor) -> None:
    torch.manual_seed(3)
    model = model_of(Plain(nn.ReLU(inplace=True)), precision="float64")

    def all_rules():
        return (yield tuple(Query(rows, class_score(2), rule=rule) for rule in RULES))

    driven = drive(model, all_rules())
    assert driven.passes == [(2, 1)]
    for answer, rule in zip(driven.results[0], RULES, strict=True):
        assert relative(answer.gradient, reference_gradient(Plain, rule, None, rows)) < 1e-12
