"""What an overlay lies on, where the model's input came of an image decoded smaller than it is."""

from dataclasses import replace

import numpy as np
import pytest
from tests.conftest import jpeg

from gradserve.v1 import explain_pb2, image_pb2
from gradserve_server.config import Settings
from gradserve_server.errors import InvalidInput
from gradserve_server.imaging.decode import decode, decode_reduced
from gradserve_server.imaging.overlay import OverlayOptions
from gradserve_server.models.model import Model
from gradserve_server.rpc.requests import ExplainCall, Frame, explained_picture

LIMITS = Settings()


def test_it_is_the_whole_image_and_an_error_names_its_field(embedded: Model) -> None:
    encoded = jpeg("chelsea")
    request = explain_pb2.ExplainRequest(image=image_pb2.Image(encoded=encoded))
    call = ExplainCall(embedded, (), (), Frame.ORIGINAL, OverlayOptions(), None, 0, 5)
    image = decode_reduced(encoded, 10_000_000, least=100)
    assert image.factor == 2
    fitted = np.zeros((224, 224, 3), np.uint8)
    picture = explained_picture(request, call, image, fitted, LIMITS)
    assert np.array_equal(picture, decode(encoded, 10_000_000))
    for without in (replace(call, overlay=None), replace(call, frame=Frame.MODEL_INPUT)):
        assert explained_picture(request, without, image, fitted, LIMITS) is fitted

    # A part of it may be decoded in time, and all of it not.
    with pytest.raises(InvalidInput) as caught:
        explained_picture(request, call, image, fitted, replace(LIMITS, decode_seconds=1e-9))
    assert (caught.value.field, caught.value.reason) == ("image.encoded", "DECODING_TOO_SLOW")
