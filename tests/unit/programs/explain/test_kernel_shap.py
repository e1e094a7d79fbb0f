"""Kernel SHAP against Shapley values by their definition, against Captum's, and in closed form."""

from dataclasses import replace
from itertools import combinations
from math import comb

import pytest
import torch
from captum.attr import KernelShap as CaptumKernelShap
from captum.attr import ShapleyValueSampling
from tests.driving import answer_to, drive, model_of, relative, subject_of
from torch import Tensor, nn

from gradserve_server.autograd.objective import class_score, ranked_class_score
from gradserve_server.errors import InvalidInput
from gradserve_server.programs.explain.baseline import Black, Mean
from gradserve_server.programs.explain.explanation import explain, superpixels_of
from gradserve_server.programs.explain.kernel_shap import KernelShap, Segmentation, coalitions, grid
from gradserve_server.programs.explain.superpixels import Superpixels
from gradserve_server.programs.explain.xrai import Xrai

SIZE = 24


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 8, 5, stride=2), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.SiLU(), nn.Flatten(), nn.Linear(512, 5))
    return nn.Sequential(*layers).eval()


@pytest.fixture(scope="module")
def model(network):
    return model_of(network, size=SIZE, precision="float64")


def image(seed: int = 0) -> Tensor:
    noise = torch.Generator().manual_seed(seed)
    return torch.randn(1, 3, SIZE, SIZE, dtype=torch.float64, generator=noise)


def exact(network: nn.Module, rows: Tensor, baseline: Tensor, segments: Tensor, target: int) -> Tensor:
    """Shapley values from their definition: each player's gain, averaged over all coalitions of the others."""
    count = int(segments.max()) + 1
    worth = {}
    with torch.no_grad():
        for size in range(count + 1):
            for chosen in combinations(range(count), size):
                kept = torch.isin(segments, torch.tensor(chosen, dtype=torch.long))
                worth[frozenset(chosen)] = float(network(torch.where(kept, rows, baseline))[0, target])
    values = torch.zeros(count, dtype=torch.float64)
    for player in range(count):
        others = [other for other in range(count) if other != player]
        for size in range(count):
            for chosen in combinations(others, size):
                without = frozenset(chosen)
                gain = worth[without | {player}] - worth[without]
                values[player] += gain / (count * comb(count - 1, size))
    return values


def cell_sums(values: Tensor, segments: Tensor) -> Tensor:
    return torch.zeros(int(segments.max()) + 1, dtype=values.dtype).index_add(0, segments.flatten(), values.flatten())


@pytest.mark.parametrize("baseline", [Black(), Mean()], ids=lambda one: type(one).__name__)
@pytest.mark.parametrize("cells", [4, 9])
def test_few_cells_are_exact(network, model, cells: int, baseline) -> None:
    subject = subject_of(image(), class_score(1), model=model)
    segments = grid(cells, subject.rows)
    expected = exact(network, subject.rows, baseline.rows(subject), segments, 1)
    found = answer_to(model, KernelShap(512, cells, baseline).explain(subject)).values
    assert relative(cell_sums(found, segments), expected) < 1e-9
    # All pixels of a cell alike.
    assert relative(found, (expected / torch.bincount(segments.flatten()))[segments]) < 1e-9


def test_more_samples_are_nearer(network, model) -> None:
    """Nine cells have 510 coalitions to look at."""
    subject = subject_of(image(), class_score(1), model=model)
    segments = grid(9, subject.rows)
    expected = exact(network, subject.rows, Mean().rows(subject), segments, 1)
    errors = [
        relative(cell_sums(answer_to(model, KernelShap(count, 9).explain(subject)).values, segments), expected)
        for count in (18, 100, 400)
    ]
    assert 0.5 > errors[0] > errors[1] > errors[2] > 0
    assert errors[2] < 0.02


def test_agrees_with_captum_of_many_samples(network, model) -> None:
    """Captum draws with replacement, so its values are near the exact ones, and ours are exact."""
    subject = subject_of(image(), class_score(1), model=model)
    segments = grid(9, subject.rows)
    torch.manual_seed(0)
    captum = CaptumKernelShap(network).attribute(
        subject.rows,
        baselines=Mean().rows(subject),
        target=1,
        feature_mask=segments[None, None].expand(1, 3, SIZE, SIZE),
        n_samples=2000,
        perturbations_per_eval=50,
    )
    found = answer_to(model, KernelShap(512, 9).explain(subject)).values
    per_cell = torch.stack([captum[0, 0][segments == cell][0] for cell in range(9)]).double()
    assert relative(cell_sums(found, segments), per_cell) < 0.05


def stripes(seed: int) -> Tensor:
    """Returns superpixels of odd shapes, numbered 0..6, [1, SIZE, SIZE]."""
    slope = torch.rand(2, generator=torch.Generator().manual_seed(seed)) + 0.5
    places = torch.arange(SIZE)[:, None] * slope[0] + torch.arange(SIZE) * slope[1]
    return (places / places.max() * 6).round().int()[None]


def of_superpixels(sample_count: int, segment_count: int = 7) -> KernelShap:
    return KernelShap(sample_count, segment_count, segmentation=Segmentation.SUPERPIXELS)


def test_superpixels_are_exact(network, model) -> None:
    subject = subject_of(image(), class_score(1), model=model, segments=stripes(0))
    expected = exact(network, subject.rows, Mean().rows(subject), stripes(0)[0].long(), 1)
    found = answer_to(model, of_superpixels(126).explain(subject)).values
    assert relative(cell_sums(found, stripes(0)[0]), expected) < 1e-9
    assert relative(found, (expected / torch.bincount(stripes(0).flatten()))[stripes(0)[0]]) < 1e-9


def test_superpixels_agree_with_captum(network, model) -> None:
    """Their Shapley values by sampling orders of players, which is another way to the same numbers."""
    subject = subject_of(image(), class_score(1), model=model, segments=stripes(1))
    torch.manual_seed(0)
    captum = ShapleyValueSampling(network).attribute(
        subject.rows,
        baselines=Mean().rows(subject),
        target=1,
        feature_mask=stripes(1)[:, None].long().repeat(1, 3, 1, 1),
        n_samples=200,
        perturbations_per_eval=50,
    )
    per_segment = torch.stack([captum[0, 0][stripes(1)[0] == one][0] for one in range(7)]).double()
    found = answer_to(model, of_superpixels(126).explain(subject)).values
    assert relative(cell_sums(found, stripes(1)[0]), per_segment) < 0.05


def test_a_superpixel_that_is_all_of_the_image_has_all_of_the_change(network, model) -> None:
    """As of noise, in which no others are found."""
    subject = subject_of(image(), class_score(1), model=model, segments=torch.zeros(1, SIZE, SIZE, dtype=torch.int32))
    found = answer_to(model, of_superpixels(14).explain(subject)).values
    with torch.no_grad():
        change = (network(subject.rows) - network(Mean().rows(subject)))[0, 1]
    torch.testing.assert_close(found, (change / SIZE**2).expand(SIZE, SIZE))


def test_superpixels_that_a_transform_moved_out_of_the_image(model) -> None:
    gaps = stripes(0)
    gaps[gaps == 2] = 3
    numbered = gaps.unique(return_inverse=True)[1].int()
    with_gaps, without = (
        answer_to(model, of_superpixels(62, 6).explain(subject_of(image(), class_score(1), model=model, segments=one)))
        for one in (gaps, numbered)
    )
    assert torch.equal(with_gaps.values, without.values)


def test_each_method_gets_the_superpixels_that_it_asks_for(network, model) -> None:
    methods = [of_superpixels(126), Xrai(step_count=2), KernelShap(30, 4), of_superpixels(14), of_superpixels(16, 8)]
    assert superpixels_of(methods) == (Superpixels(7), Superpixels(), Superpixels(8))
    subject = subject_of(image(), class_score(1), model=model)
    program = explain(
        subject.rows, subject.black, subject.white, stripes(0), subject.segments, stripes(1),
        methods=methods, targets=[class_score(1)], seed=0, as_grid=subject.as_grid, as_map=subject.as_map,
    )  # fmt: skip
    maps = answer_to(model, program).maps
    for method, found, segments in zip(
        methods, maps, (stripes(0), subject.segments, None, stripes(0), stripes(1)), strict=True
    ):
        alone = method.explain(replace(subject, segments=segments))
        assert relative(found.values, answer_to(model, alone).values) < 1e-9


def test_without_superpixels_it_fails(model) -> None:
    with pytest.raises(ValueError, match="without segments"):
        answer_to(model, of_superpixels(14).explain(subject_of(image(), class_score(1), model=model, segments=None)))


@pytest.mark.parametrize("count", [4, 25, 49])
def test_an_additive_score_is_exact_with_few_samples(count: int) -> None:
    torch.manual_seed(3)
    linear = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE * SIZE, 3))
    model = model_of(linear, size=SIZE, precision="float64")
    subject = subject_of(image(), class_score(2), model=model)
    segments = grid(count, subject.rows)
    weight = linear[1].weight[2].view(3, SIZE, SIZE)
    parts = (weight * (subject.rows - Black().rows(subject))[0]).sum(0)
    found = answer_to(model, KernelShap(2 * count, count, Black()).explain(subject)).values
    assert relative(cell_sums(found, segments), cell_sums(parts, segments)) < 1e-9


@pytest.mark.parametrize("samples", [98, 300, 2000])
def test_the_map_adds_up_to_the_change_of_score(network, model, samples: int) -> None:
    subject = subject_of(image(), class_score(0), model=model)
    found = answer_to(model, KernelShap(samples).explain(subject)).values
    with torch.no_grad():
        change = network(subject.rows)[0, 0] - network(Mean().rows(subject))[0, 0]
    torch.testing.assert_close(found.sum(), change, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("count", "budget"), [(4, 8), (9, 510), (9, 100), (16, 2000), (49, 1000), (400, 800)])
def test_coalitions_have_the_weight_of_their_size(count: int, budget: int) -> None:
    """Of every size taken whole, each coalition once and by theorem 2's kernel; the total is the kernel's."""
    members, weights = coalitions(count, budget, torch.Generator().manual_seed(0))
    assert len(members) <= budget
    sizes = members.sum(1)
    assert int(sizes.min()) >= 1 and int(sizes.max()) <= count - 1
    kernel = {size: (count - 1) / (comb(count, size) * size * (count - size)) for size in range(1, count)}
    for size in (1, count - 1):
        assert len(members[sizes == size].unique(dim=0)) == count
        assert weights[sizes == size].tolist() == pytest.approx([kernel[size]] * count)
    # Every member as often as not: coalitions come with their complements.
    assert float(weights @ (members.double() - 0.5).sum(1)) == pytest.approx(0, abs=1e-9)
    if 2**count - 2 <= budget:
        assert len(members.unique(dim=0)) == 2**count - 2
        assert weights.tolist() == pytest.approx([kernel[int(size)] for size in sizes])
    if budget == 2 * count:
        return
    total = sum((count - 1) / (size * (count - size)) for size in range(1, count))
    assert float(weights.sum()) == pytest.approx(total)


def test_the_grid_divides_evenly() -> None:
    cells = grid(50, torch.zeros(1, 3, 21, 30))
    assert int(cells.max()) == 48
    areas = torch.bincount(cells.flatten())
    assert areas.min() == 3 * 4 and areas.max() == 3 * 5
    assert int(grid(400, torch.zeros(1, 3, 5, 30)).max()) + 1 == 5 * 20


def test_the_seed_determines_the_coalitions(model) -> None:
    first, same, other = (
        answer_to(model, KernelShap(200).explain(subject_of(image(), class_score(0), seed=seed, model=model))).values
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, same)
    assert relative(other, first) > 0.01


def test_chunked_and_in_company_as_alone(model) -> None:
    def program(seed: int):
        return KernelShap(120).explain(subject_of(image(seed), ranked_class_score(0), seed=seed, model=model))

    alone = answer_to(model, program(1)).values
    assert relative(answer_to(model, program(1), budget=3).values, alone) < 1e-9
    company = drive(model, program(0), program(1), program(2), budget=16)
    assert max(programs for _, programs in company.passes) > 1
    assert relative(company.results[1].values, alone) < 1e-9


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"segment_count": 3}, "segment_count"),
        ({"segment_count": 401}, "segment_count"),
        ({"sample_count": 97}, "sample_count"),
        ({"sample_count": 10_001}, "sample_count"),
    ],
)
def test_values_out_of_range_are_refused(values, field) -> None:
    with pytest.raises(InvalidInput) as error:
        KernelShap(**values)
    assert error.value.field == field
