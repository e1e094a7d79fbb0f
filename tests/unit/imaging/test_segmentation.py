"""Superpixels, against what the authors of XRAI compute."""

import numpy as np
import pytest
from PIL import Image
from saliency.core import xrai
from tests.conftest import photograph

from gradserve_server.imaging.segmentation import SCALES, segments


def test_they_are_those_of_xrais_authors() -> None:
    pixels = np.asarray(Image.fromarray(photograph("coffee")).resize((224, 224)))
    # One mask for each superpixel, scale by scale.
    theirs = xrai._get_segments_felzenszwalb(pixels.astype(np.float64), dilation_rad=0)
    ours = [labels == index for labels in segments(pixels) for index in range(labels.max() + 1)]
    assert len(ours) == len(theirs)
    assert all(np.array_equal(*pair) for pair in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("shape", [(64, 96, 3), (300, 300, 3)])
@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_any_size_and_type(shape: tuple[int, int, int], kind: type) -> None:
    """Half black, half white: the border between them is one between superpixels, at every scale."""
    pixels = np.zeros(shape, kind)
    pixels[:, shape[1] // 2 :] = 255 if kind is np.uint8 else 1
    found = segments(pixels)
    assert found.shape == (len(SCALES), *shape[:2])
    assert found.dtype == np.int32
    for labels in found:
        assert labels.min() == 0
        assert not set(labels[:, : shape[1] // 2 - 2].flat) & set(labels[:, shape[1] // 2 + 2 :].flat)


def test_an_even_image_is_one_superpixel() -> None:
    assert not segments(np.full((224, 224, 3), 7, np.uint8)).any()
