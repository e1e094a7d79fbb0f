"""Passes: mixed programs together, roots, early stops, and a model that nobody writes to."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tests.driving import answer_to, drive, model_of, relative
from tests.repository import network
from torch import Tensor, nn

from gradserve_server.autograd.objective import channel, class_score, ranked_class_score
from gradserve_server.autograd.passes import Bundle, Chunk, run
from gradserve_server.autograd.program import Progress, ask, ask_all, together
from gradserve_server.autograd.query import ActivationRule, Query
from gradserve_server.models.stretches import Pause


class Net(nn.Module):
    """Two branches, an in-place rectifier behind a layer, a layer that runs twice, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.left, self.right = nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, 6, 1)
        self.twice = nn.Conv2d(6, 6, 3, padding=1)
        self.head = nn.Linear(6, 4)
        self.head_runs = 0

    def forward(self, rows: Tensor) -> Tensor:
        stem = F.relu(self.stem(rows), inplace=True)
        mixed = F.relu(self.left(stem)) * torch.sigmoid(self.right(stem))
        features = F.relu_(self.twice(F.relu(self.twice(mixed))))
        self.head_runs += 1
        return self.head(features.mean((2, 3)))


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return Net()


@pytest.fixture
def model(net: Net):
    return model_of(net, size=16, precision="float64")


def image(seed: int, count: int = 1) -> Tensor:
    return torch.randn(count, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def bundle(*queries: Query) -> Bundle:
    """Returns queries over the same rows as what a pass answers."""
    return Bundle(tuple(Chunk(query, 0, len(query.rows)) for query in queries))


def layer_gradient(net: Net, rows: Tensor, layer: str, target: int) -> tuple[Tensor, Tensor]:
    """Activation and gradient at a layer, by a hook on the net itself."""
    seen = {}

    def record(_module: nn.Module, _args: tuple, output: Tensor) -> Tensor:
        seen[layer] = output.clone()
        # The net goes on with a copy, which it may change in place.
        return seen[layer].clone()

    handle = net.get_submodule(layer).register_forward_hook(record)
    leaf = rows.clone().requires_grad_()
    try:
        score = net(leaf)[:, target].sum()
    finally:
        handle.remove()
    (gradient,) = torch.autograd.grad(score, seen[layer])
    return seen[layer].detach(), gradient


def test_an_input_gradient_is_that_of_plain_autograd(net: Net, model) -> None:
    rows = image(1, 3)
    answer = answer_to(model, ask(Query(rows, class_score(2))))
    leaf = rows.clone().requires_grad_()
    logits = net(leaf)
    (expected,) = torch.autograd.grad(logits[:, 2].sum(), leaf)
    assert relative(answer.gradient, expected) < 1e-12
    torch.testing.assert_close(answer.logits, logits.detach())
    torch.testing.assert_close(answer.value, logits[:, 2].detach())


def test_the_gradient_agrees_with_finite_differences(net: Net, model) -> None:
    rows = image(2)
    gradient = answer_to(model, ask(Query(rows, class_score(1)))).gradient
    step = 1e-6
    for position in ((0, 0, 3, 4), (0, 1, 8, 8), (0, 2, 15, 0)):
        plus, minus = rows.clone(), rows.clone()
        plus[position] += step
        minus[position] -= step
        with torch.no_grad():
            expected = (net(plus)[0, 1] - net(minus)[0, 1]) / (2 * step)
        assert abs(float(gradient[position]) - float(expected)) < 1e-8


@pytest.mark.parametrize("layer", ["stem", "left", "right"])
def test_a_layer_gradient_counts_every_reader_and_survives_in_place_operations(net: Net, model, layer: str) -> None:
    rows = image(3, 2)
    answer = answer_to(model, ask(Query(rows, class_score(0), root=layer, capture=(layer,))))
    activation, gradient = layer_gradient(net, rows, layer, 0)
    assert relative(answer.gradient, gradient) < 1e-12
    # As the layer returned it: negative values too, although a rectifier then works in place.
    torch.testing.assert_close(answer.activations[layer], activation)
    assert answer.activations[layer].min() < 0


def test_roots_on_parallel_branches_share_a_pass(net: Net, model) -> None:
    rows = image(4)
    driven = drive(model, ask_all(Query(rows, class_score(0), root="left"), Query(rows, class_score(0), root="right")))
    assert driven.passes == [(1, 1)]
    for answer, layer in zip(driven.results[0], ("left", "right"), strict=True):
        assert relative(answer.gradient, layer_gradient(net, rows, layer, 0)[1]) < 1e-12


def test_the_same_rows_are_answered_with_the_same_bits() -> None:
    small = model_of(network(0), size=32)
    rows = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    gradients = [answer_to(small, ask(Query(rows, class_score(1)))).gradient for _ in range(50)]
    assert all(torch.equal(gradient, gradients[0]) for gradient in gradients)


def test_mixed_programs_share_one_pass_and_answer_as_alone(model) -> None:
    """Targets, rules, roots among them, captured layers and objectives differ; the pass does not care."""
    queries = [
        Query(image(10), class_score(0)),
        Query(image(11), class_score(3), rule=ActivationRule.GUIDED),
        Query(image(12), ranked_class_score(0), rule=ActivationRule.DECONVNET, capture=("left",)),
        Query(image(13, 3), 0.5 * channel("left", 2) + class_score(1) - class_score(2)),
        Query(image(14), channel("stem", 1), capture=("stem", "right")),
    ]
    driven = drive(model, *(ask(query) for query in queries))
    assert driven.passes == [(7, 5)]
    for query, together_ in zip(queries, driven.results, strict=True):
        alone = answer_to(model, ask(query))
        assert relative(together_.gradient, alone.gradient) < 1e-12
        torch.testing.assert_close(together_.value, alone.value)
        for layer in query.capture:
            torch.testing.assert_close(together_.activations[layer], alone.activations[layer])


def test_bundles_over_the_same_rows_that_want_the_same_are_computed_once(net: Net, model) -> None:
    """Those of others are not, and everybody is answered as alone."""
    seen: list[int] = []
    hook = net.stem.register_forward_hook(lambda _module, given, _output: seen.append(len(given[0])))
    one, other = image(23), image(24)
    bundles = [
        bundle(Query(one, class_score(2)), Query(one, logits=True)),
        bundle(Query(other, class_score(2))),
        bundle(Query(one, class_score(2), capture=("left",))),
        bundle(Query(one, class_score(1))),
        bundle(Query(one, class_score(2), rule=ActivationRule.GUIDED)),
        bundle(Query(one, class_score(2))),
    ]
    with torch.no_grad():
        together = run(model, bundles)
        hook.remove()
        alone = [run(model, [single])[0] for single in bundles]
    assert seen == [4]
    assert [len(answers) for answers in together] == [2, 1, 1, 1, 1, 1]
    for found, expected in zip(together, alone, strict=True):
        torch.testing.assert_close(found[0].gradient, expected[0].gradient, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(together[0][1].logits, alone[0][1].logits, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(together[2][0].activations["left"], alone[2][0].activations["left"])


def test_a_ranked_class_is_each_rows_own(net: Net, model) -> None:
    rows = image(20, 4)
    answer = answer_to(model, ask(Query(rows, ranked_class_score(1))))
    with torch.no_grad():
        order = net(rows).argsort(1, descending=True)
    for row in range(4):
        own = answer_to(model, ask(Query(rows[row : row + 1].clone(), class_score(int(order[row, 1])))))
        assert relative(answer.gradient[row], own.gradient[0]) < 1e-12


def test_objectives_add_and_scale(model) -> None:
    rows = image(21)
    parts = [class_score(0), channel("left", 2)]
    whole = answer_to(model, ask(Query(rows, 0.5 * parts[0] - 2 * parts[1])))
    first, second = (answer_to(model, ask(Query(rows, part))) for part in parts)
    assert relative(whole.gradient, 0.5 * first.gradient - 2 * second.gradient) < 1e-12
    torch.testing.assert_close(whole.value, 0.5 * first.value - 2 * second.value)


def test_the_forward_stops_at_the_deepest_layer_needed(net: Net, model) -> None:
    before = net.head_runs
    answer = answer_to(model, ask(Query(image(22), channel("left", 0), capture=("right",))))
    assert net.head_runs == before
    assert answer.gradient.shape == (1, 3, 16, 16)
    with pytest.raises(LookupError, match="logits"):
        _ = answer.logits


def test_before_a_root_there_is_no_graph(model) -> None:
    """A layer-rooted pass saves nothing for the layers before it."""
    saved: list[int] = []

    def pack(tensor: Tensor) -> Tensor:
        saved.append(tensor.numel())
        return tensor

    def size_of(query: Query) -> int:
        saved.clear()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            answer_to(model, ask(query))
        return sum(saved)

    rows = image(23)
    whole = size_of(Query(rows, class_score(0)))
    rooted = size_of(Query(rows, class_score(0), root="left"))
    forward_only = size_of(Query(rows, class_score(0), gradient=False))
    assert forward_only == 0
    assert 0 < rooted < 0.75 * whole


def test_a_forward_only_query_values_its_objective(net: Net, model) -> None:
    rows = image(24, 5)
    answer = answer_to(model, ask(Query(rows, class_score(3), gradient=False)))
    with torch.no_grad():
        torch.testing.assert_close(answer.value, net(rows)[:, 3])
    with pytest.raises(LookupError, match="gradient"):
        _ = answer.gradient


def test_another_pass_may_be_run_before_each_sweep(model) -> None:
    """Of the same model, with rules of its own."""
    outer = (Query(image(30, 2), class_score(0), rule=ActivationRule.GUIDED), Query(image(30, 2), class_score(1)))
    # Of the very same rows, so that one forward serves two sweeps.
    outer = (outer[0], replace(outer[1], rows=outer[0].rows))
    inner = Query(image(31), class_score(2), rule=ActivationRule.DECONVNET)
    alone = [run(model, [bundle(query)])[0][0].gradient for query in (*outer, inner)]
    within: list[Tensor] = []

    def pause() -> None:
        within.append(run(model, [bundle(inner)])[0][0].gradient)

    ((first, second),) = run(model, [bundle(*outer)], Pause(pause, calls=1))
    assert len(within) == 2
    for found, expected in zip((first.gradient, second.gradient, *within), (*alone, alone[2]), strict=True):
        assert (found == expected).all()


def test_another_pass_may_be_run_between_two_operations() -> None:
    """Of a network that runs along a straight line: forward and backward, whether or not torch follows gradients."""
    model = model_of(
        nn.Sequential(
            nn.Conv2d(3, 4, 3),
            nn.ReLU(),
            nn.Conv2d(4, 4, 3),
            nn.Flatten(),
            nn.Linear(576, 8),
            nn.ReLU(),
            nn.Linear(8, 5),
        ),
        size=16,
    )
    outer = Query(image(30, 2).float(), class_score(0), rule=ActivationRule.GUIDED)
    inner = Query(image(31).float(), class_score(2))
    alone = [run(model, [bundle(query)])[0][0].gradient for query in (outer, inner)]
    within: list[Tensor] = []
    modes: set[bool] = set()

    def pause() -> None:
        modes.add(torch.is_grad_enabled())
        with torch.no_grad():
            within.append(run(model, [bundle(inner)])[0][0].gradient)

    ((found,),) = run(model, [bundle(outer)], Pause(pause, calls=1))
    assert (found.gradient == alone[0]).all()
    assert all((gradient == alone[1]).all() for gradient in within)
    # Two convolutions and a rectifier there and back, three operations that torch has nodes for, and the sweep.
    assert len(within) == 3 + 3 + 3 + 1
    assert modes == {False, True}
    within.clear()
    ((again,),) = run(model, [bundle(outer)], Pause(pause, calls=2))
    assert (again.gradient == alone[0]).all()
    assert len(within) == 2 + 3 + 2 + 1


@pytest.mark.parametrize("budget", [1, 3, 4])
def test_chunks_rejoin_to_the_whole(model, budget: int) -> None:
    rows = image(25, 10)
    query = Query(rows, class_score(1), rule=ActivationRule.GUIDED, capture=("left",))
    whole = answer_to(model, ask(query), budget=10)
    driven = drive(model, ask(query), budget=budget)
    (chunked,) = driven.results
    assert [count for count, _ in driven.passes] == [budget] * (10 // budget) + ([10 % budget] if 10 % budget else [])
    assert relative(chunked.gradient, whole.gradient) < 1e-12
    torch.testing.assert_close(chunked.activations["left"], whole.activations["left"])
    torch.testing.assert_close(chunked.logits, whole.logits)


def test_nothing_is_left_on_the_model(net: Net, model) -> None:
    before = {name: value.clone() for name, value in net.state_dict().items()}
    queries = [
        Query(image(30), class_score(0), rule=ActivationRule.GUIDED),
        Query(image(31), class_score(0), root="left", capture=("stem",)),
    ]
    drive(model, *(ask(query) for query in queries))
    # A pass that fails midway cleans up as well.
    driven = drive(model, ask(Query(image(32), class_score(99), capture=("left",))))
    assert isinstance(driven.futures[0].exception(), IndexError)
    for name, value in net.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    for module in net.modules():
        assert not module.training
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
        assert not module._backward_hooks
    for parameter in net.parameters():
        assert parameter.grad is None
        assert not parameter.requires_grad


def test_no_gradient_is_computed_for_a_parameter(net: Net, model) -> None:
    """Shown by the graph itself: no node of a pass accumulates into a parameter."""
    reached: list[list[str]] = []
    original = torch.autograd.grad

    def looking(outputs: Tensor, inputs: Sequence[Tensor], **options: Any) -> tuple[Tensor, ...]:
        reached.append([])
        stack = [outputs.grad_fn]
        while stack:
            node = stack.pop()
            if hasattr(node, "variable") and any(node.variable is parameter for parameter in net.parameters()):
                reached[-1].append(node.name())
            stack += [following for following, _ in node.next_functions if following is not None]
        return original(outputs, inputs, **options)

    torch.autograd.grad = looking
    try:
        answer_to(model, ask(Query(image(33), class_score(0))))
    finally:
        torch.autograd.grad = original
    # It was called once, and reached none.
    assert reached == [[]]


def test_together_runs_programs_of_different_lengths_side_by_side(model) -> None:
    def steps(count: int, seed: int):
        values = []
        for step in range(count):
            answer = yield from ask(Query(image(seed + step), class_score(0)))
            yield Progress(step + 1, count)
            values.append(float(answer.value[0]))
        return values

    driven = drive(model, together(steps(3, 40), steps(1, 50), steps(2, 60)))
    assert driven.passes == [(3, 1), (2, 1), (1, 1)]
    assert driven.results[0] == tuple(answer_to(model, steps(*spec)) for spec in ((3, 40), (1, 50), (2, 60)))


def test_no_cross_talk_in_float64_on_real_weights(embedded64) -> None:
    """Design section 2: in float64 the answers agree to 1e-9 in any company."""
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randn(1, 3, 224, 224, dtype=torch.float64, generator=generator) for _ in range(4)]
    queries = [
        Query(rows[0], class_score(1)),
        Query(rows[1], class_score(2), rule=ActivationRule.GUIDED),
        Query(rows[2], class_score(3), rule=ActivationRule.DECONVNET),
        Query(rows[3], ranked_class_score(0), capture=("bn2",)),
    ]
    driven = drive(embedded64, *(ask(query) for query in queries))
    assert driven.passes == [(4, 4)]
    for query, found in zip(queries, driven.results, strict=True):
        assert relative(found.gradient, answer_to(embedded64, ask(query)).gradient) < 1e-9


def test_a_forward_goes_on_from_replaced_values(net: Net, model) -> None:
    """Rows of one pass, some replaced at one layer, some at another, some not at all."""
    rows = image(60, 3)
    values = {layer: torch.randn(3, 6, 16, 16, dtype=torch.float64) for layer in ("left", "stem")}
    queries = [
        Query(rows, class_score(1), gradient=False, replace={"left": values["left"]}),
        Query(rows, class_score(1), gradient=False, replace={"stem": values["stem"]}, capture=("stem",)),
        Query(rows, class_score(1), gradient=False),
        Query(rows, class_score(2), gradient=False, replace={"left": values["left"]}, logits=True),
    ]

    def expected(layer: str | None) -> Tensor:
        if layer is None:
            return net(rows)
        handle = net.get_submodule(layer).register_forward_hook(lambda *_: values[layer].clone())
        try:
            return net(rows)
        finally:
            handle.remove()

    for budget in (1, 4, 9, 100):
        driven = drive(model, ask_all(*queries), budget=budget)
        # Three forwards of three rows: the first and the last query share theirs.
        assert sum(count for count, _ in driven.passes) == 9
        answers = driven.results[0]
        for answer, layer, target in zip(answers, ("left", "stem", None, "left"), (1, 1, 1, 2), strict=True):
            torch.testing.assert_close(answer.value, expected(layer)[:, target])
        torch.testing.assert_close(answers[1].activations["stem"], values["stem"])
        torch.testing.assert_close(answers[3].logits, expected("left"))


def test_gradients_where_a_layer_is_replaced(net: Net, model) -> None:
    rows = image(61, 2)
    values = torch.randn(2, 6, 16, 16, dtype=torch.float64)
    at_layer = Query(rows, class_score(0), root="left", replace={"left": values})
    at_input = Query(rows, class_score(0), replace={"left": values})
    found, through = answer_to(model, ask(at_layer)).gradient, answer_to(model, ask(at_input)).gradient

    leaf, given = rows.clone().requires_grad_(), values.clone().requires_grad_()
    handle = net.left.register_forward_hook(lambda *_: given.clone())
    try:
        score = net(leaf)[:, 0].sum()
    finally:
        handle.remove()
    expected = torch.autograd.grad(score, [given, leaf])
    assert relative(found, expected[0]) < 1e-12
    # Through the other branch only.
    assert relative(through, expected[1]) < 1e-12


def test_replaced_values_must_fit_the_layer(model) -> None:
    rows = image(62, 2)
    query = Query(rows, class_score(0), gradient=False, replace={"left": torch.zeros(2, 1, 16, 16)})
    driven = drive(model, ask(query))
    with pytest.raises(ValueError, match="'left' returns"):
        driven.results  # noqa: B018
