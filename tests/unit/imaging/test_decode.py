"""Decoding has an end. What else it promises is in tests/property/test_decoder.py."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from tests.conftest import jpeg

from gradserve_server.errors import InvalidInput
from gradserve_server.imaging.decode import decode


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
