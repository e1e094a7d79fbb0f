"""Fitting an image to the model's input and putting maps back."""

import tracemalloc
from io import BytesIO

import numpy as np
import pytest
import timm
from PIL import Image
from tests.conftest import photograph
from torchvision.transforms import v2
from torchvision.transforms.functional import center_crop, resize

from gradserve_server.imaging.decode import decode, decode_reduced
from gradserve_server.imaging.geometry import fit, fit_decoded, least_side
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


@pytest.mark.parametrize("fit_", ["crop", "pad", "squash"])
@pytest.mark.parametrize(("size", "longest", "shown"), [((400, 600), 150, (100, 150)), ((601, 41), 60, (60, 4))])
def test_a_smaller_picture_of_the_original_has_the_map_where_the_original_has_it(
    size: tuple[int, int], longest: int, shown: tuple[int, int], fit_: str
) -> None:
    _, placement = fit(np.zeros((*size, 3), np.uint8), Preprocessing(fit=fit_))
    smaller = placement.within(longest)
    # A ramp from the input's left to its right, or from its top to its bottom.
    for axis, ramp in enumerate(np.indices((224, 224), dtype=np.float32)):
        placed, seen = smaller.on_original(ramp), smaller.on_original(np.ones((224, 224))) > 0
        assert placed.shape == shown
        centres = (np.indices(shown) + 0.5) * np.divide(size, shown)[:, None, None]
        (left, top, right, bottom), middle = placement.box, centres[axis]
        start, stop = ((top, bottom), (left, right))[axis]
        assert np.array_equal(
            seen, (top <= centres[0]) & (centres[0] <= bottom) & (left <= centres[1]) & (centres[1] <= right)
        )
        expected = ((middle - start) / (stop - start) * 224 - 0.5).clip(0, 223)
        # A pixel and a half of the input; or a tenth of one of the picture, whose outermost have less to be a mean of.
        assert np.abs(placed - expected)[seen].max() < max(1.5, 0.1 * 224 * size[axis] / shown[axis] / (stop - start))
    assert placement.within(max(size)) is placement


@pytest.mark.parametrize("fit_", ["crop", "pad", "squash"])
@pytest.mark.parametrize("size", [(20, 20_000), (20_000, 20), (1, 50_000), (100, 10_000)])
@pytest.mark.parametrize("longest", [1, 2, 10])
def test_what_is_less_than_a_pixel_of_a_small_picture_takes_no_more_memory(
    size: tuple[int, int], longest: int, fit_: str
) -> None:
    """A map padded by what one pixel of the picture is on it was terabytes."""
    _, placement = fit(np.zeros((*size, 3), np.uint8), Preprocessing(fit=fit_))
    tracemalloc.start()
    try:
        placed = placement.within(longest).on_original(np.full((224, 224), 3.0))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert max(placed.shape) == longest
    assert placed.max() == 3
    assert peak < 1 << 24


def test_the_model_saw_the_central_square() -> None:
    _, placement = fit(photograph("chelsea"), Preprocessing(resize=224))
    seen = placement.on_original(np.ones((224, 224))) > 0
    rows, columns = np.nonzero(seen)
    # 451 x 300 becomes 336 x 224, and 56 columns are cropped away on each side: 75.2 of the original's.
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (0, 299, 75, 375)
    assert seen.sum() == 300 * 301
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


@pytest.mark.parametrize(("height", "width"), [(48, 48), (32, 64)])
@pytest.mark.parametrize("size", [(300, 451), (451, 300), (20, 300)])
def test_squash_is_torchvisions_resize_of_both_sides(size: tuple[int, int], height: int, width: int) -> None:
    pixels = np.asarray(Image.fromarray(photograph("coffee")).resize(size[::-1]))
    preprocessing = Preprocessing(height, width, round(min(height, width) * 1.25), fit="squash")
    fitted, placement = fit(pixels, preprocessing)
    whole = (round(height * 1.25), round(width * 1.25))
    expected = center_crop(resize(Image.fromarray(pixels), whole), (height, width))
    assert np.abs(fitted.astype(int) - np.asarray(expected).astype(int)).max() <= 2
    # The tenth that the crop takes from each side was not seen.
    assert placement.box == pytest.approx((size[1] * 0.1, size[0] * 0.1, size[1] * 0.9, size[0] * 0.9), abs=3)


@pytest.mark.parametrize("size", [(300, 450), (450, 300), (225, 225)])
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_pad_shows_the_whole_image_amid_the_mean_colour(size: tuple[int, int], dtype: str) -> None:
    pixels = np.asarray(Image.fromarray(photograph("coffee")).resize(size[::-1]))
    given = pixels if dtype == "uint8" else pixels.astype(np.float32) / 255
    preprocessing = Preprocessing(45, 45, 45, fit="pad")
    fitted, placement = fit(given, preprocessing)
    expected = timm.data.transforms.ResizeKeepRatio(45, longest=1.0)(Image.fromarray(pixels))
    fill = tuple(round(255 * value) for value in preprocessing.mean)
    expected = np.asarray(timm.data.transforms.CenterCropOrPad(45, fill=fill)(expected)).astype(int)
    found = np.rint(fitted * 255).astype(int) if dtype == "float32" else fitted.astype(int)
    assert np.abs(found - expected).max() <= 2
    # A map goes back onto the whole image, and what lies on the padding nowhere.
    place = np.arange(45, dtype=np.float32)[:, None] * np.ones(45, np.float32)
    seen = placement.on_original(place)
    covered = 45 * min(1, size[0] / size[1])
    offset = (45 - round(covered)) // 2
    # Where the centres of the first and last row of the original lie on the map.
    half = covered / size[0] / 2 - 0.5
    assert seen.shape == size
    assert seen[0].mean() == pytest.approx(max(0, offset + half), abs=0.05)
    assert seen[-1].mean() == pytest.approx(min(44, offset + covered - 1 - half), abs=0.05)


@pytest.mark.parametrize("side", [145, 72, 36, 30])
@pytest.mark.parametrize("mode", ["crop", "pad", "squash"])
@pytest.mark.parametrize("cut", [(872, 1000), (871, 999), (869, 993)])
def test_the_input_is_the_same_from_a_jpeg_that_is_decoded_smaller(cut: tuple[int, int], mode: str, side: int) -> None:
    file = BytesIO()
    height, width = cut
    Image.fromarray(photograph("hubble_deep_field")[:height, :width]).save(file, "JPEG", quality=90)
    preprocessing = Preprocessing(height=side, width=side, resize=side + side // 8, fit=mode, interpolation="bicubic")
    least = least_side(preprocessing, 3)
    image = decode_reduced(file.getvalue(), 10_000_000, least=least)
    assert image.factor == max(factor for factor in (1, 2, 4, 8) if height // least >= factor)
    (found, placement), (expected, place) = (
        fit_decoded(image, preprocessing),
        fit(decode(file.getvalue(), 10_000_000), preprocessing),
    )
    assert placement == place
    difference = np.abs(found.astype(float) - expected.astype(float))
    # Less than what saving the photograph once more changes; a shift by a pixel changes ten times as much.
    assert difference.mean() < 0.5
    assert difference.max() <= 12
    shifted = np.abs(np.roll(found, 1, axis=1).astype(float) - expected.astype(float))
    assert difference.mean() < 0.1 * shifted.mean()
