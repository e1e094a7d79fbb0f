"""The losses against the papers' equations, written out with einsum in float64."""

import numpy as np
import pytest
import torch

from gradserve_server.programs.stylize.perceptual_loss import Normalization, content_loss, gram, style_loss

CHANNELS, HEIGHT, WIDTH = 5, 4, 7
POSITIONS = HEIGHT * WIDTH


@pytest.fixture
def features() -> torch.Tensor:
    return torch.randn(2, 3, CHANNELS, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def test_the_gram_matrix_is_that_of_channels_over_positions(features: torch.Tensor) -> None:
    flat = features[0].numpy().reshape(3, CHANNELS, POSITIONS)
    expected = np.einsum("bip,bjp->bij", flat, flat) / POSITIONS
    np.testing.assert_allclose(gram(features[0]).numpy(), expected, rtol=1e-12)


def test_content_and_style_are_those_of_gatys(features: torch.Tensor) -> None:
    image, target = features
    first, second = (each.numpy().reshape(3, CHANNELS, POSITIONS) for each in (image, target))
    content = 0.5 * ((first - second) ** 2).sum((1, 2))
    np.testing.assert_allclose(content_loss(image, target, Normalization.GATYS).numpy(), content, rtol=1e-12)
    difference = np.einsum("bip,bjp->bij", first, first) - np.einsum("bip,bjp->bij", second, second)
    style = (difference**2).sum((1, 2)) / (4 * CHANNELS**2 * POSITIONS**2)
    found = style_loss(gram(image), gram(target), Normalization.GATYS)
    np.testing.assert_allclose(found.numpy(), style, rtol=1e-12)


def test_content_and_style_are_those_of_johnson(features: torch.Tensor) -> None:
    image, target = features
    first, second = (each.numpy().reshape(3, CHANNELS, POSITIONS) for each in (image, target))
    content = ((first - second) ** 2).sum((1, 2)) / (CHANNELS * POSITIONS)
    np.testing.assert_allclose(content_loss(image, target, Normalization.JOHNSON).numpy(), content, rtol=1e-12)
    size = CHANNELS * POSITIONS
    difference = (np.einsum("bip,bjp->bij", first, first) - np.einsum("bip,bjp->bij", second, second)) / size
    found = style_loss(gram(image), gram(target), Normalization.JOHNSON)
    np.testing.assert_allclose(found.numpy(), (difference**2).sum((1, 2)), rtol=1e-12)


@pytest.mark.parametrize("normalization", Normalization)
def test_the_style_of_a_larger_picture_of_the_same_texture_is_the_same(
    features: torch.Tensor, normalization: Normalization
) -> None:
    image = features[0]
    tiled = image.repeat(1, 1, 2, 3)
    assert float(style_loss(gram(tiled), gram(image), normalization).max()) < 1e-24


@pytest.mark.parametrize("normalization", Normalization)
def test_a_loss_is_zero_at_its_target_and_its_gradient_is_right(
    features: torch.Tensor, normalization: Normalization
) -> None:
    image, target = features
    assert float(content_loss(target, target, normalization).max()) == 0
    assert float(style_loss(gram(target), gram(target), normalization).max()) == 0
    leaf = image.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: content_loss(x, target, normalization), leaf)
    assert torch.autograd.gradcheck(lambda x: style_loss(gram(x), gram(target), normalization), leaf)
