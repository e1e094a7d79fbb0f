"""Fitting an image to the model's input and putting maps back."""

import numpy as np
import pytest
from PIL import Image
from tests.conftest import photograph
from torchvision.transforms import v2

from gradserve_server.imaging.geometry import fit
from gradserve_server.models.preprocessing import Preprocessing

SIZES = [(300, 451), (451, 300), (224, 224), (225, 260), (1000, 600)]


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("resize", [224, 256])
@pytest.mark.parametrize("size", SIZES)
def test_the_input_is_torchvisions_resize_and_crop(size: tuple[int, int], resize: int, interpolation: str) -> None:
    pixels = np.asarray(Image.fromarray(photograph("coffee")).resize((size[1], size[0])))
    preprocessing = Preprocessing(resize=resize, interpolation=interpolation)
    transform = v2.Compose([v2.Resize(resize, interpolation=v2.InterpolationMode(interpolation)), v2.CenterCrop(224)])
    # In floating point, where Pillow rounds nothing between its two passes, they agree but for single precision.
    channel = pixels[..., 0].astype(np.float32) / 255
    fitted, _ = fit(np.repeat(channel[..., None], 3, axis=2), preprocessing)
    expected = np.asarray(transform(Image.fromarray(channel))).clip(0, 1)
    assert np.abs(fitted[..., 0] - expected).max() < 1e-4
    rounded, _ = fit(pixels, preprocessing)
    difference = np.abs(rounded.astype(float) - np.asarray(transform(Image.fromarray(pixels))).astype(float))
    assert difference.mean() < 0.5


@pytest.mark.parametrize("size", [*SIZES, (30, 40), (2, 3), (1, 1), (1, 500), (500, 1)])
@pytest.mark.parametrize("resize", [224, 256])
def test_a_map_goes_back_to_where_it_came_from(size: tuple[int, int], resize: int) -> None:
    """A ramp in the original, taken through the input and back, is the ramp again wherever the model saw it."""
    height, width = size
    rows, columns = np.indices(size, dtype=np.float32)
    ramp = np.stack([rows / height, columns / width, np.ones(size, np.float32)], axis=-1)
    preprocessing = Preprocessing(resize=resize)
    fitted, placement = fit(ramp, preprocessing)
    for channel, step in ((0, 1 / height), (1, 1 / width)):
        placed = placement.on_original(fitted[..., channel])
        seen = placement.on_original(np.ones((224, 224))) > 0
        assert placed.shape == size
        assert seen.any()
        # Off by less than a pixel of the input, half a pixel of the original at the edges.
        scale = min(size) / resize
        assert np.abs(placed - ramp[..., channel])[seen].max() <= (0.51 + scale) * step
        assert not placed[~seen].any()


def test_the_model_saw_the_central_square() -> None:
    _, placement = fit(photograph("chelsea"), Preprocessing(resize=224))
    seen = placement.on_original(np.ones((224, 224))) > 0
    assert seen.all(axis=0).nonzero()[0].tolist() == list(range(75, 376)) or seen.sum() == 300 * 300
    _, placement = fit(photograph("chelsea"), Preprocessing(resize=256))
    # 451 x 300 becomes 384 x 256, and 80 columns and 16 rows are cropped away on each side.
    assert placement.box == pytest.approx((80 * 451 / 384, 16 * 300 / 256, 304 * 451 / 384, 240 * 300 / 256))


def test_a_constant_map_stays_constant() -> None:
    _, placement = fit(photograph("coffee"), Preprocessing())
    placed = placement.on_original(np.full((224, 224), -2.5))
    assert set(np.unique(placed)) == {np.float32(-2.5), np.float32(0)}


def test_normalisation_is_torchvisions() -> None:
    import torch

    from gradserve_server.imaging.geometry import model_input

    pixels = np.array(Image.fromarray(photograph("coffee")).resize((224, 224)))
    preprocessing = Preprocessing()
    expected = v2.Compose(
        [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(preprocessing.mean, preprocessing.std)]
    )(pixels)
    np.testing.assert_allclose(model_input(pixels, preprocessing)[0], expected.numpy(), atol=1e-5)
