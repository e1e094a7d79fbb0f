"""XRAI against its authors' code, with the same superpixels and the same integrated gradients."""

import numpy as np
import pytest
import torch
from captum.attr import IntegratedGradients as IntegratedGradientsOracle
from saliency.core import xrai
from skimage.morphology import dilation, disk
from tests.driving import answer_to, cells, model_of, relative, subject_of
from tests.unit.programs.explain.authors import TARGET, as_picture, smooth_network
from tests.unit.programs.explain.properties import SIZE, check, image, small_model
from torch import Tensor

from gradserve_server.autograd.objective import class_score
from gradserve_server.errors import InvalidInput
from gradserve_server.programs.explain.baseline import Black
from gradserve_server.programs.explain.transforms import HorizontalFlip, Rotation, Translation
from gradserve_server.programs.explain.trust import under
from gradserve_server.programs.explain.xrai import Xrai, members, ranked


def blobs(count: int, seed: int) -> Tensor:
    """Returns superpixels of odd shapes: the nearest of some random points."""
    points = torch.rand(count, 2, generator=torch.Generator().manual_seed(seed)) * SIZE
    grid = torch.stack(torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij"), -1).float()
    return torch.cdist(grid.view(-1, 2), points).argmin(1).view(SIZE, SIZE).unique(return_inverse=True)[1].int()


SEGMENTS = torch.stack([blobs(4, 0), blobs(9, 1), blobs(20, 2)])


def masks(radius: int) -> list[np.ndarray]:
    found = [labels == index for labels in SEGMENTS.numpy() for index in range(labels.max() + 1)]
    return [dilation(mask, footprint=disk(radius)) for mask in found] if radius else found


@pytest.mark.parametrize("radius", [0, 1, 5])
def test_superpixels_grow_as_scikit_images(radius: int) -> None:
    expected = torch.from_numpy(np.stack(masks(radius))).flatten(1).T
    assert torch.equal(members(SEGMENTS, radius), expected)


def test_agrees_with_its_authors() -> None:
    network, rows = smooth_network(), image()
    inside = IntegratedGradientsOracle(network)
    both = [
        inside.attribute(rows, torch.full_like(rows, colour), target=TARGET, n_steps=20).detach() for colour in (-1, 1)
    ]
    base = as_picture((both[0] + both[1]) / 2)
    expected = xrai.XRAI().GetMask(as_picture(rows), None, segments=masks(5), base_attribution=base)
    model = model_of(network, size=SIZE, precision="float64")
    subject = subject_of(rows, class_score(TARGET), segments=SEGMENTS)
    found = answer_to(model, Xrai(step_count=20).explain(subject))
    assert len(found.values.unique()) > 5
    # Captum rounds the weights of its sum to float32.
    assert relative(found.values, expected) < 2e-7


@pytest.mark.parametrize("seed", range(5))
def test_regions_are_added_as_its_authors_add_them(seed: int) -> None:
    attributions = torch.randn(SIZE, SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    expected, _ = xrai.XRAI._xrai(attributions.numpy(), masks(2))
    found = ranked(attributions.flatten(), members(SEGMENTS, 2)).view(SIZE, SIZE)
    assert relative(found, expected) < 1e-9


def test_what_no_region_adds_keeps_its_own_mean() -> None:
    attributions = torch.arange(100.0, dtype=torch.float64)
    regions = torch.zeros(100, 2, dtype=torch.bool)
    regions[:50, 0], regions[40:90, 1] = True, True
    # The second region adds the higher mean; then the first would add 40 pixels only, too few.
    expected = torch.full((100,), float(torch.cat([attributions[:40], attributions[90:]]).mean()), dtype=torch.float64)
    expected[40:90] = attributions[40:90].mean()
    torch.testing.assert_close(ranked(attributions, regions), expected)


def test_without_segments_it_fails() -> None:
    subject = subject_of(image(), class_score(TARGET), segments=None)
    with pytest.raises(ValueError, match="without segments"):
        answer_to(small_model(), Xrai().explain(subject))


@pytest.mark.parametrize("transform", [HorizontalFlip(), Translation(5, -3), Rotation(90.0), Rotation(10.0)])
def test_superpixels_move_with_the_image_under_a_trust_reports_transforms(transform) -> None:
    """Where both are moved by whole pixels, exactly; under a rotation, as most of each moved pixel."""
    subject = subject_of(image(), class_score(TARGET), segments=SEGMENTS)
    moved = under(transform, subject)
    assert torch.equal(moved.rows, transform.forth(image()))
    for before, after in zip(SEGMENTS, moved.segments, strict=True):
        shares = torch.stack([transform.forth((before == one).double()[None, None])[0, 0] for one in before.unique()])
        most, second = shares.topk(2, dim=0).values
        assert torch.equal(shares.argmax(0)[most > second + 0.5], after[most > second + 0.5].long())
        if transform != Rotation(10.0):
            assert ((most - 1).abs() < 1e-5).all()


def test_properties() -> None:
    assert cells(SIZE, SIZE).amax((1, 2)).tolist() == [3, 15]
    check(Xrai(step_count=5))


@pytest.mark.parametrize(("field", "value"), [("step_count", 0), ("step_count", 1001), ("baselines", (Black(),) * 9)])
def test_limits(field: str, value) -> None:
    with pytest.raises(InvalidInput) as caught:
        Xrai(**{field: value})
    assert caught.value.field == field
