"""Blur integrated gradients against its authors' code, and against a closed form."""

import pytest
import torch
from saliency.core import blur_ig
from scipy.ndimage import gaussian_filter
from tests.driving import answer_to, drive, model_of, relative, subject_of
from tests.unit.programs.explain.authors import TARGET, as_channels, as_picture, caller, smooth_network
from tests.unit.programs.explain.properties import SIZE, check, gradient_of, image, linear_network, small_model
from torch import Tensor, nn

from gradserve_server.autograd.objective import class_score
from gradserve_server.errors import InvalidInput
from gradserve_server.programs.explain.blur_ig import BlurIg

SIGMA = 3.0


def attributed(network: nn.Module, method: BlurIg):
    model = model_of(network, size=SIZE, precision="float64")
    return answer_to(model, method.attribute(subject_of(image(), class_score(TARGET))))


def blurred(sigma: float) -> Tensor:
    return torch.from_numpy(gaussian_filter(image().numpy(), sigma, mode="nearest", axes=(2, 3)))


def test_agrees_with_its_authors(monkeypatch: pytest.MonkeyPatch) -> None:
    """They sum to first order in 1 / steps: two of their sums extrapolated to no step are compared.

    They blur into a black frame, which moves attributions to the border; here edges are repeated, also in theirs.
    """
    monkeypatch.setattr(
        blur_ig, "gaussian_blur", lambda picture, sigma: gaussian_filter(picture, sigma, mode="nearest", axes=(0, 1))
    )
    network = smooth_network()

    def theirs(steps: int) -> Tensor:
        picture = blur_ig.BlurIG().GetMask(
            as_picture(image()),
            caller(network),
            max_sigma=SIGMA,
            steps=steps,
            grad_step=SIGMA / steps,
            batch_size=steps,
        )
        return as_channels(picture)

    found = attributed(network, BlurIg(step_count=400, max_sigma_px=SIGMA)).values
    coarse, fine = theirs(200), theirs(400)
    assert relative(fine, found) < 0.6 * relative(coarse, found)
    assert relative(2 * fine - coarse, found) < 1e-4


@pytest.mark.parametrize("steps", [1, 40])
def test_linear_scores(steps: int) -> None:
    """The gradient times what the blur takes away, with any number of steps."""
    network = linear_network()
    expected = ((image() - blurred(SIGMA)) * gradient_of(network, image(), TARGET))[0]
    found = attributed(network, BlurIg(step_count=steps, max_sigma_px=SIGMA))
    assert relative(found.values, expected) < 1e-9
    assert float(found.approximation_error) < 1e-12


def test_the_error_is_that_of_the_sum_and_falls_with_the_square_of_steps() -> None:
    network = smooth_network()
    with torch.no_grad():
        change = float((network(image()) - network(blurred(SIGMA)))[0, TARGET])
    errors = []
    for steps in (20, 80):
        found = attributed(network, BlurIg(step_count=steps, max_sigma_px=SIGMA))
        errors.append(float(found.approximation_error))
        assert errors[-1] == pytest.approx(abs(float(found.values.sum()) - change) / abs(change), rel=1e-6)
    # 16 to second order, 4 to first.
    assert errors[0] / errors[1] > 12


def test_an_even_image_has_nothing_to_blur() -> None:
    rows = torch.full((1, 3, SIZE, SIZE), 0.3, dtype=torch.float64)
    found = answer_to(small_model(), BlurIg(step_count=3).attribute(subject_of(rows, class_score(TARGET))))
    assert float(found.values.abs().max()) < 1e-12


def test_rows_are_asked_in_blocks() -> None:
    driven = drive(small_model(), BlurIg(step_count=70).explain(subject_of(image(), class_score(TARGET))), budget=1000)
    assert max(rows for rows, _ in driven.passes) == 32
    assert sum(rows for rows, _ in driven.passes) == 70 + 2


def test_properties() -> None:
    check(BlurIg(step_count=40, max_sigma_px=5.0))


@pytest.mark.parametrize(
    ("field", "value"), [("step_count", 0), ("step_count", 1001), ("max_sigma_px", 0.0), ("max_sigma_px", 1001.0)]
)
def test_limits(field: str, value) -> None:
    with pytest.raises(InvalidInput) as caught:
        BlurIg(**{field: value})
    assert caught.value.field == field
