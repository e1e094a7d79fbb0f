"""What an overlay lies on, where the model's input came of an image decoded smaller than it is."""

import re
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from tests.conftest import jpeg

from gradserve.v1 import explain_pb2, image_pb2
from gradserve_server.config import Settings
from gradserve_server.errors import InvalidInput
from gradserve_server.imaging.decode import decode, decode_reduced
from gradserve_server.imaging.overlay import OverlayOptions
from gradserve_server.imaging.resize import with_longer_side
from gradserve_server.models.model import Model
from gradserve_server.rpc.requests import ExplainCall, Frame, check_heatmap_bytes, explained_picture

LIMITS = Settings()
WHOLE = (451, 300)


def explained(model: Model) -> ExplainCall:
    return ExplainCall(model, (), (), Frame.ORIGINAL, None, OverlayOptions(), None, 0, 5)


def test_it_is_the_whole_image_and_an_error_names_its_field(embedded: Model) -> None:
    encoded = jpeg("chelsea")
    request = explain_pb2.ExplainRequest(image=image_pb2.Image(encoded=encoded))
    call = explained(embedded)
    image = decode_reduced(encoded, 10_000_000, least=100)
    assert image.factor == 2
    fitted = np.zeros((224, 224, 3), np.uint8)
    later = explained_picture(request, call, image, fitted, WHOLE, LIMITS)
    # Until it is wanted, nothing of it is held.
    assert later.byte_count == 0
    picture = later()
    assert np.array_equal(picture, decode(encoded, 10_000_000))
    for without in (replace(call, overlay=None), replace(call, frame=Frame.MODEL_INPUT)):
        assert explained_picture(request, without, image, fitted, WHOLE, LIMITS)() is fitted

    # A part of it may be decoded in time, and all of it not.
    with pytest.raises(InvalidInput) as caught:
        explained_picture(request, call, image, fitted, WHOLE, replace(LIMITS, decode_seconds=1e-9))()
    assert (caught.value.field, caught.value.reason) == ("image.encoded", "DECODING_TOO_SLOW")


def test_of_a_smaller_one_no_more_is_decoded_than_it_shows(embedded: Model) -> None:
    encoded = jpeg("chelsea")
    request = explain_pb2.ExplainRequest(image=image_pb2.Image(encoded=encoded))
    call, fitted = explained(embedded), np.zeros((224, 224, 3), np.uint8)
    expected = np.asarray(Image.fromarray(decode(encoded, 10_000_000)).resize((120, 80), Image.Resampling.BICUBIC))
    image = decode_reduced(encoded, 10_000_000, least=100)
    # What was decoded for the model is enough.
    hasty = replace(LIMITS, decode_seconds=1e-9)
    picture = explained_picture(request, call, image, fitted, (120, 80), hasty)()
    assert np.abs(picture.astype(int) - expected).mean() < 3
    # At an eighth it is not; then as much is decoded as is needed.
    image = decode_reduced(encoded, 10_000_000, least=30)
    assert image.factor == 8
    picture = explained_picture(request, call, image, fitted, (120, 80), LIMITS)()
    half = Image.fromarray(np.asarray(decode_reduced(encoded, 10_000_000, least=80).pixels))
    assert half.size == (226, 150)
    assert np.array_equal(picture, np.asarray(half.resize((120, 80), Image.Resampling.BICUBIC)))
    assert not np.array_equal(picture, expected)
    with pytest.raises(InvalidInput, match="to decode"):
        explained_picture(request, call, image, fitted, (120, 80), hasty)()


def test_of_a_narrow_one_the_longer_side_is_decoded_in_full(embedded: Model) -> None:
    """Of 2310 x 8 at an eighth, which its shorter side would allow, the longer one has less than is shown."""
    file = BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (8, 2310, 3), np.uint8)).save(file, "JPEG")
    encoded = file.getvalue()
    request = explain_pb2.ExplainRequest(image=image_pb2.Image(encoded=encoded))
    image = decode_reduced(encoded, 10_000_000, least=1)
    assert image.factor == 8
    picture = explained_picture(
        request, explained(embedded), image, np.zeros((224, 224, 3), np.uint8), (429, 1), LIMITS
    )()
    quarter = Image.fromarray(np.asarray(decode_reduced(encoded, 10_000_000, least=2).pixels))
    assert quarter.size == (578, 2)
    assert np.array_equal(picture, np.asarray(quarter.resize((429, 1), Image.Resampling.BICUBIC)))


@pytest.mark.parametrize(
    ("size", "count"),
    [
        ((2400, 1600), 5),
        ((20_000, 1500), 1),
        ((1500, 20_000), 1),
        ((12_000, 2000), 53),
        ((30_000, 700), 1),
        ((1, 20_000_000), 1),
    ],
)
def test_a_refusal_says_the_largest_size_that_is_served(embedded: Model, size: tuple[int, int], count: int) -> None:
    call = replace(explained(embedded), methods=(None,) * count, targets=(None,))
    with pytest.raises(InvalidInput) as caught:
        check_heatmap_bytes(call, size, LIMITS)
    (longest,) = map(int, re.findall(r"up to (\d+)", str(caught.value)))
    check_heatmap_bytes(call, with_longer_side(size, longest), LIMITS)
    with pytest.raises(InvalidInput):
        check_heatmap_bytes(call, with_longer_side(size, longest + 1), LIMITS)
