"""Images on their way into messages."""

from collections.abc import Callable, Mapping
from io import BytesIO

import numpy as np
import PIL.Image
import pytest
from skimage import data

from gradserve.images import from_image, to_message

UPRIGHT: Mapping[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda lying: lying,
    2: np.fliplr,
    3: lambda lying: np.rot90(lying, 2),
    4: np.flipud,
    5: lambda lying: lying.swapaxes(0, 1),
    6: lambda lying: np.rot90(lying, -1),
    7: lambda lying: np.rot90(lying.swapaxes(0, 1), 2),
    8: lambda lying: np.rot90(lying),
}
"""By EXIF's orientation, from a picture as it lies in its file to the same upright."""


def sent(image: PIL.Image.Image) -> PIL.Image.Image:
    return PIL.Image.open(BytesIO(to_message(image).encoded))


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_a_pil_image_is_sent_as_a_person_sees_it(orientation: int) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    file = BytesIO()
    PIL.Image.fromarray(data.chelsea()).save(file, "PNG", exif=exif)
    # The server turns a file, and a picture that was opened is the same picture.
    found = sent(PIL.Image.open(file))
    assert found.getexif().get(0x0112, 1) == 1
    expected = UPRIGHT[orientation](data.chelsea())
    assert np.array_equal(np.asarray(found), expected)
    assert np.array_equal(np.asarray(from_image(file.getvalue())), expected)


def test_a_pil_image_with_exif_data_that_are_none_is_sent_as_it_lies() -> None:
    file = BytesIO()
    PIL.Image.fromarray(data.chelsea()).save(file, "PNG", exif=b"Exif\0\0garbage!")
    file.seek(0)
    assert np.array_equal(np.asarray(sent(PIL.Image.open(file))), data.chelsea())
    assert np.array_equal(np.asarray(from_image(file.getvalue())), data.chelsea())


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "HSV", "YCbCr"])
def test_a_pil_image_may_be_of_any_mode_that_has_a_picture(mode: str) -> None:
    picture = PIL.Image.fromarray(data.chelsea()).convert("RGB")
    image = picture.convert(mode)
    assert np.array_equal(np.asarray(sent(image).convert("RGB")), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("mode", ["I", "I;16", "I;16B"])
def test_sixteen_bits_of_grey_are_kept(mode: str) -> None:
    values = np.arange(0, 65536, 1024, dtype=np.int32).reshape(8, 8)
    image = PIL.Image.fromarray(values)
    found = sent(image if mode == "I" else PIL.Image.fromarray(values.astype(">u2" if mode == "I;16B" else "<u2")))
    assert np.array_equal(np.asarray(found).astype(int), values)


@pytest.mark.parametrize("mode", ["F", "LAB"])
def test_one_that_has_none_is_refused_by_name(mode: str) -> None:
    with pytest.raises(TypeError, match=rf"mode {mode} cannot be sent: give image.convert"):
        to_message(PIL.Image.new(mode, (4, 4)))
