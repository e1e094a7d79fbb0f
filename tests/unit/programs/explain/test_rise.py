"""RISE against a slow re-implementation with scikit-image, and against the expectation in closed form."""

from itertools import product

import numpy as np
import pytest
import torch
from skimage.transform import resize
from tests.driving import answer_to, drive, model_of, relative, subject_of
from torch import Tensor, nn

from gradserve_server.autograd.objective import channel, class_score, ranked_class_score
from gradserve_server.errors import InvalidInput
from gradserve_server.models.model import Model
from gradserve_server.programs.explain.baseline import Black, Mean
from gradserve_server.programs.explain.rise import Masks, Rise

SIZE = 32


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 8, 5, stride=2), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.SiLU(), nn.Flatten(), nn.Linear(1152, 5))
    return nn.Sequential(*layers).eval()


@pytest.fixture(scope="module")
def model(network):
    return model_of(network, size=SIZE, precision="float64")


def image(seed: int = 0, *shape: int) -> Tensor:
    noise = torch.Generator().manual_seed(seed)
    return torch.randn(1, 3, *(shape or (SIZE, SIZE)), dtype=torch.float64, generator=noise)


@pytest.mark.parametrize("shape", [(32, 32), (30, 45)])
@pytest.mark.parametrize("grid_size", [2, 7, 8])
def test_masks_are_grids_enlarged_by_scikit_image_and_shifted(shape, grid_size: int) -> None:
    masks = Masks(40, grid_size, 0.5, image(0, *shape), torch.Generator().manual_seed(3))
    made = torch.cat([masks[:3], masks[3:40]]).numpy()
    assert made.shape == (40, *shape)
    assert set(masks.grids.unique().tolist()) == {0.0, 1.0}
    for mask, grid, (down, right) in zip(made, masks.grids.numpy(), masks.shifts.tolist(), strict=True):
        size = [(grid_size + 1) * -(-side // grid_size) for side in shape]
        large = resize(grid, size, order=1, mode="edge", anti_aliasing=False)
        np.testing.assert_allclose(mask, large[down : down + shape[0], right : right + shape[1]], atol=1e-9)


@pytest.mark.parametrize("keep", [0.2, 0.5])
@pytest.mark.parametrize("baseline", [Black(), Mean()], ids=lambda one: type(one).__name__)
def test_agrees_with_a_slow_implementation(network, model, baseline, keep: float) -> None:
    subject = subject_of(image(), class_score(2), seed=5, model=model)
    found = answer_to(model, Rise(70, 7, keep, baseline).explain(subject)).values.numpy()
    covering = baseline.rows(subject)[0].numpy()
    drawn = Masks(70, 7, keep, subject.rows, subject.noise())[:70].numpy()
    expected = np.zeros((SIZE, SIZE))
    for mask in drawn:
        seen = subject.rows[0].numpy() * mask + covering * (1 - mask)
        with torch.no_grad():
            logits = network(torch.from_numpy(seen)[None])[0].numpy()
        expected += np.exp(logits[2]) / np.exp(logits).sum() * mask
    np.testing.assert_allclose(found, expected / 70 / keep, rtol=1e-9)


def test_a_linear_score_has_its_expectation() -> None:
    """For S = sum w m over pixels, E[S M_p] / p = p sum w + (1 - p) sum_q w_q E[A_p . A_q], over all shifts."""
    side, size, keep = 8, 2, 0.3
    weight = torch.randn(side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    class Linear(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.sum = nn.Conv2d(3, 1, side, bias=False)
            self.sum.weight.data = weight.float().expand(1, 3, side, side) / 3
            self.head = nn.Linear(1, 2)

        def forward(self, rows: Tensor) -> Tensor:
            return self.head(self.sum(rows).flatten(1))

    model = model_of(Linear(), size=side, precision="float64")
    weight = weight.float().double()
    # White on black: an image of ones above its baseline, so that the unit is the sum of w m. The unit is no
    # class, so it has no softmax around it.
    rows = torch.zeros(1, 3, side, side, dtype=torch.float64)
    subject = subject_of(rows, channel("sum", 0), seed=2)
    found = answer_to(model, Rise(10_000, size, keep, Black()).explain(subject), budget=32).values

    cell = side // size
    every = Masks(cell * cell, size, keep, rows, torch.Generator().manual_seed(0))
    every.shifts = torch.tensor(list(product(range(cell), range(cell))))
    gifts = []
    for index in range(size * size):
        every.grids = torch.zeros(cell * cell, size, size, dtype=torch.float64)
        every.grids.view(-1, size * size)[:, index] = 1
        gifts.append(every[: cell * cell].flatten(1))
    together = torch.einsum("knp,knq->pq", torch.stack(gifts), torch.stack(gifts)) / cell**2
    # The image is 0 and black is -1: S = sum w (m - 1), whose second part weighs the masks' mean, which is p.
    expected = keep * weight.sum() + (1 - keep) * (together @ weight.flatten()).view(side, side) - weight.sum()
    # Ten thousand masks: three standard errors of a map whose spread is that of S.
    spread = float(weight.abs().sum()) / keep**0.5 / 100
    assert float((found - expected).abs().max()) < 3 * spread
    centred = (found - found.mean()).flatten(), (expected - expected.mean()).flatten()
    assert torch.nn.functional.cosine_similarity(*centred, dim=0) > 0.98


def test_a_weighted_sum_of_classes_has_the_weighted_sum_of_their_maps(model: Model) -> None:
    """Each class counts by its probability, as it does alone."""
    first, second, found = (
        answer_to(model, Rise(20).explain(subject_of(image(), target, seed=4, model=model))).values
        for target in (class_score(1), class_score(2), class_score(1) - 0.5 * class_score(2))
    )
    torch.testing.assert_close(found, first - 0.5 * second)


def test_the_seed_determines_the_masks(model) -> None:
    first, same, other = (
        answer_to(model, Rise(50).explain(subject_of(image(), class_score(0), seed=seed, model=model))).values
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, same)
    assert relative(other, first) > 0.01


def test_chunked_and_in_company_as_alone(model) -> None:
    def program(seed: int):
        return Rise(80).explain(subject_of(image(seed), ranked_class_score(0), seed=seed, model=model))

    alone = answer_to(model, program(1)).values
    assert relative(answer_to(model, program(1), budget=3).values, alone) < 1e-9
    company = drive(model, program(0), program(1), program(2), budget=16)
    assert max(programs for _, programs in company.passes) > 1
    assert relative(company.results[1].values, alone) < 1e-9


def test_more_masks_begin_with_the_same_draws_of_cells() -> None:
    few, many = (Masks(count, 7, 0.5, image(), torch.Generator().manual_seed(0)) for count in (10, 20))
    assert torch.equal(few.grids, many.grids[:10])


@pytest.mark.parametrize(
    "values",
    [
        {"mask_count": 0},
        {"mask_count": 10_001},
        {"grid_size": 1},
        {"grid_size": 65},
        {"keep_probability": 0.0},
        {"keep_probability": 1.0},
        {"keep_probability": float("nan")},
    ],
)
def test_values_out_of_range_are_refused(values) -> None:
    with pytest.raises(InvalidInput) as error:
        Rise(**values)
    assert error.value.field == next(iter(values))
