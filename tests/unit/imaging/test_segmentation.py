"""Superpixels, against what the authors of XRAI compute, and by what they promise."""

import numpy as np
import pytest
from PIL import Image
from saliency.core import xrai
from scipy.ndimage import label as connected
from tests.conftest import photograph

from gradserve_server.imaging.segmentation import SCALES, segments, superpixels


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


@pytest.mark.parametrize("shape", [(64, 64), (64, 200), (224, 224)])
@pytest.mark.parametrize("count", [4, 50, 100, 333])
def test_there_are_at_most_as_many_as_asked_for(shape: tuple[int, int], count: int) -> None:
    noise = np.random.default_rng(0)
    photographed = np.asarray(Image.fromarray(photograph("chelsea")).resize(shape[::-1]))
    for pixels in (photographed, np.zeros((*shape, 3), np.uint8), noise.random((*shape, 3), np.float32)):
        (labels,) = superpixels(pixels, count)
        assert labels.shape == shape
        assert labels.dtype == np.int32
        found = np.unique(labels)
        assert np.array_equal(found, np.arange(len(found)))
        assert count / 2 <= len(found) <= count


def test_they_are_connected_and_keep_to_edges() -> None:
    """Of a disc on black, nearly every superpixel lies within the disc or without it, other than cells of a grid."""
    rows, columns = np.indices((128, 128))
    disc = (rows - 60) ** 2 + (columns - 70) ** 2 < 35**2
    (labels,) = superpixels((disc[..., None] * np.array([1.0, 0.4, 0.1])).astype(np.float32), 25)
    grid = (rows * 5 // 128) * 5 + columns * 5 // 128

    def mistaken(parts: np.ndarray) -> int:
        inside = np.bincount(parts.ravel(), disc.ravel())
        return int(np.minimum(inside, np.bincount(parts.ravel()) - inside).sum())

    assert mistaken(labels) < 0.1 * mistaken(grid)
    assert all(connected(labels == index)[1] == 1 for index in range(labels.max() + 1))
