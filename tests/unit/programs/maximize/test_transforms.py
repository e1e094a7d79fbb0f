"""Each transform against numpy and scipy."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from gradserve_server.programs.maximize.transforms import Robustness, View


def image(height: int = 12, width: int = 9, seed: int = 0) -> torch.Tensor:
    return torch.rand(1, 3, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def seen(pixels: torch.Tensor, view: View, pad: int = 0) -> torch.Tensor:
    resamples = view.scale != 1 or view.degrees
    robustness = Robustness(pad, scales=(view.scale,) if resamples else ())
    return robustness.seen(pixels, [view] * len(pixels))


def canvas_of(pixels: torch.Tensor, pad: int) -> np.ndarray:
    return np.pad(pixels[0].numpy(), ((0, 0), (pad, pad), (pad, pad)), constant_values=0.5)


def middle(canvas: np.ndarray, pad: int) -> np.ndarray:
    return canvas[:, pad : canvas.shape[1] - pad, pad : canvas.shape[2] - pad]


@pytest.mark.parametrize("shift", [(0, 0), (3, -2), (-5, 4), (11, 8)])
def test_a_shift_without_frame_is_the_roll_of_deepdream(shift: tuple[int, int]) -> None:
    pixels = image()
    np.testing.assert_array_equal(seen(pixels, View(shift))[0], np.roll(pixels[0].numpy(), shift, (1, 2)))


@pytest.mark.parametrize("shift", [(2, 1), (-4, 3)])
def test_a_frame_of_grey_lies_between_the_borders(shift: tuple[int, int]) -> None:
    pixels, pad = image(), 4
    expected = middle(np.roll(canvas_of(pixels, pad), shift, (1, 2)), pad)
    np.testing.assert_array_equal(seen(pixels, View(shift), pad)[0], expected)
    assert (expected == 0.5).any(), "the frame shows"


@pytest.mark.parametrize("degrees", [-10.0, 3.0, 45.0])
@pytest.mark.parametrize("scale", [0.9, 1.0, 1.1])
@pytest.mark.parametrize("pad", [0, 3])
def test_rotation_and_scale_are_scipys(degrees: float, scale: float, pad: int) -> None:
    pixels, shift = image(), (1, -2)
    canvas = np.roll(canvas_of(pixels, pad), shift, (1, 2))
    angle = np.deg2rad(degrees)
    matrix = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) / scale
    centre = (np.array(canvas.shape[1:]) - 1) / 2
    expected = np.stack(
        [
            ndimage.affine_transform(channel, matrix, centre - matrix @ centre, order=1, mode="grid-wrap")
            for channel in canvas
        ]
    )
    found = seen(pixels, View(shift, scale, degrees), pad)[0]
    np.testing.assert_allclose(found, middle(expected, pad), atol=1e-9)


def test_positive_angles_turn_counter_clockwise() -> None:
    """As scipy's `rotate` and a person looking at the picture understand it."""
    pixels = image(9, 9)
    expected = np.stack(
        [ndimage.rotate(channel, 10, reshape=False, order=1, mode="grid-wrap") for channel in pixels[0].numpy()]
    )
    np.testing.assert_allclose(seen(pixels, View(degrees=10.0))[0], expected, atol=1e-9)
    np.testing.assert_allclose(seen(pixels, View(degrees=90.0))[0], np.rot90(pixels[0].numpy(), axes=(1, 2)), atol=1e-9)


VIEWS = [View((1, -1), 0.93, 7.0), View((0, 0), 1.0, 0.0), View((-2, 1), 1.1, -9.0)]


@pytest.mark.parametrize("pad", [0, 2])
@pytest.mark.parametrize("resamples", [False, True])
def test_each_image_has_its_own_view_and_gradients_go_the_way_back(pad: int, resamples: bool) -> None:
    robustness = Robustness(pad, 2, (0.93, 1.1) if resamples else (), (7.0,) if resamples else ())
    pixels = torch.cat([image(6, 5, seed) for seed in range(3)]).requires_grad_()
    views = robustness.seen(pixels, VIEWS)
    for one, view, alone in zip(pixels.detach(), VIEWS, views.detach(), strict=True):
        torch.testing.assert_close(robustness.seen(one[None], [view])[0], alone, rtol=0, atol=1e-14)
    weights = torch.cat([image(6, 5, 9 + seed) for seed in range(3)])
    (expected,) = torch.autograd.grad(views, pixels, weights)
    torch.testing.assert_close(robustness.carried_back(weights, VIEWS), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("resamples", [False, True])
def test_the_gradient_is_that_of_finite_differences(resamples: bool) -> None:
    robustness = Robustness(2, 2, (0.93,) if resamples else ())

    class Seen(torch.autograd.Function):
        @staticmethod
        def forward(ctx, pixels):
            return robustness.seen(pixels, VIEWS[:1])

        @staticmethod
        def backward(ctx, gradient):
            return robustness.carried_back(gradient, VIEWS[:1])

    assert torch.autograd.gradcheck(Seen.apply, image(6, 5).requires_grad_())


def test_draws_are_seeded_and_keep_to_their_choices() -> None:
    robustness = Robustness(pad_px=2, jitter_px=3, scales=(0.9, 1.1), degrees=(-5.0, 0.0, 5.0))
    generators = [torch.Generator().manual_seed(seed) for seed in (0, 0, 1)]
    drawn, again, other = ([robustness.draw(generator) for _ in range(300)] for generator in generators)
    assert drawn == again
    assert drawn != other
    assert {view.shift[axis] for view in drawn for axis in (0, 1)} == set(range(-3, 4))
    assert {view.scale for view in drawn} == {0.9, 1.1}
    assert {view.degrees for view in drawn} == {-5.0, 0.0, 5.0}
    assert Robustness().draw(generators[0]) == View()
