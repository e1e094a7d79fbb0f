"""Decoding has an end, and need not be whole. What else it promises is in tests/property/test_decoder.py."""

from io import BytesIO

import numpy as np
import pytest
from PIL import ExifTags, Image
from tests.conftest import jpeg, photograph

from gradserve_server.errors import InvalidInput
from gradserve_server.imaging.decode import decode, decode_reduced


def test_what_takes_too_long_is_given_up() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2000, 2000, 3), np.uint8)
    for form in ("PNG", "JPEG"):
        file = BytesIO()
        Image.fromarray(pixels).save(file, form)
        with pytest.raises(InvalidInput) as caught:
            # A tenth of what it takes on any machine of these years.
            decode(file.getvalue(), 10_000_000, seconds=0.002)
        assert caught.value.reason == "DECODING_TOO_SLOW"
        assert decode(file.getvalue(), 10_000_000).shape == pixels.shape


def test_what_takes_its_time_is_not() -> None:
    assert decode(jpeg("chelsea"), 10_000_000, seconds=5.0).shape == (300, 451, 3)


@pytest.mark.parametrize("options", [{}, {"quality": 95, "subsampling": 0}, {"progressive": True}])
@pytest.mark.parametrize(
    ("least", "factor"), [(0, 1), (872, 1), (437, 1), (436, 2), (219, 2), (218, 4), (109, 8), (1, 8)]
)
def test_a_jpeg_keeps_so_many_pixels_that_the_shorter_side_has_enough(
    least: int, factor: int, options: dict[str, object]
) -> None:
    whole = photograph("hubble_deep_field")
    file = BytesIO()
    Image.fromarray(whole).save(file, "JPEG", **options)
    found = decode_reduced(file.getvalue(), 10_000_000, least=least)
    assert found.factor == factor
    assert found.size == (1000, 872)
    assert found.pixels.shape == (872 // factor, 1000 // factor, 3)
    # Each pixel is about the mean of those of the whole that it stands for.
    blocks = decode(file.getvalue(), 10_000_000).astype(float)
    means = blocks.reshape(872 // factor, factor, 1000 // factor, factor, 3).mean((1, 3))
    assert np.abs(found.pixels - means).mean() < 1.5


def test_only_a_jpeg_is_decoded_smaller() -> None:
    for form in ("PNG", "WEBP"):
        file = BytesIO()
        Image.fromarray(photograph("chelsea")).save(file, form)
        found = decode_reduced(file.getvalue(), 10_000_000, least=10)
        assert (found.factor, found.size) == (1, (451, 300))
        assert np.array_equal(found.pixels, decode(file.getvalue(), 10_000_000))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_of_a_smaller_one_is_that_of_the_whole_upright(orientation: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    file = BytesIO()
    Image.fromarray(photograph("chelsea")).save(file, "JPEG", exif=exif)
    found, whole = decode_reduced(file.getvalue(), 10_000_000, least=100), decode(file.getvalue(), 10_000_000)
    assert found.factor == 2
    assert found.size == (whole.shape[1], whole.shape[0])
    assert found.pixels.shape[:2] == tuple(-(-length // 2) for length in whole.shape[:2])


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("exif", [b"Exif\0\0garbage!", b"Exif\0\0MM\0*", b"Exif\0\0II*\0\xff\xff\xff\xff"])
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG"])
def test_exif_data_that_are_none_leave_an_image_as_it_lies(kind: str, exif: bytes) -> None:
    file = BytesIO()
    Image.fromarray(photograph("chelsea")).save(file, kind, exif=exif, dpi=(72, 72), lossless=True)
    assert decode(file.getvalue(), 10**6).shape == photograph("chelsea").shape


def test_grey_and_four_colours_are_decoded_smaller_too() -> None:
    for mode in ("L", "CMYK"):
        file = BytesIO()
        Image.fromarray(photograph("chelsea")).convert(mode).save(file, "JPEG")
        found = decode_reduced(file.getvalue(), 10_000_000, least=100)
        assert (found.factor, found.pixels.shape) == (2, (150, 226, 3))


def test_limits_hold_for_the_whole_of_what_is_decoded_smaller() -> None:
    with pytest.raises(InvalidInput) as caught:
        decode_reduced(jpeg("chelsea"), 451 * 300 - 1, least=10)
    assert caught.value.reason == "IMAGE_TOO_LARGE"
