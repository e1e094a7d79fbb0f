"""One pass, shared and alone, whole and in tiles."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from tests.conftest import photograph
from tests.driving import answer_to, drive, relative

from gradserve_server.models.model import Model
from gradserve_server.models.stylizer import EMBEDDED_STYLIZERS, load_stylizer
from gradserve_server.programs.stylize.feed_forward import REACH_PX, STRIDE, Tiling, feed_forward


@pytest.fixture(scope="module")
def stylizer() -> Model:
    return load_stylizer(EMBEDDED_STYLIZERS[0], torch.device("cpu"))


def image(name: str, height: int, width: int) -> torch.Tensor:
    pixels = torch.tensor(photograph(name)[40 : 40 + height, 40 : 40 + width])
    return (pixels.permute(2, 0, 1)[None] / 255).contiguous(memory_format=torch.channels_last)


def statistics(stylizer: Model) -> list[str]:
    return [layer.name for layer in stylizer.layers]


def test_requests_of_one_size_share_a_pass_and_each_gets_what_it_would_get_alone(stylizer: Model) -> None:
    chelsea, coffee, other = image("chelsea", 64, 50), image("coffee", 64, 50), image("coffee", 50, 64)
    driven = drive(stylizer, *(feed_forward(each, statistics(stylizer)) for each in (chelsea, coffee, other)))
    assert driven.passes == [(2, 2), (1, 1)]
    for given, found in zip((chelsea, coffee, other), driven.results, strict=True):
        assert found.shape == (*given.shape[2:], 3)
        assert found.min() >= 0
        assert found.max() <= 1
        alone = answer_to(stylizer, feed_forward(given, statistics(stylizer)))
        assert relative(found, alone) < 1e-4
    assert not any(module._forward_hooks for module in stylizer.module.modules())


def test_it_is_the_networks_answer(stylizer: Model) -> None:
    given = image("astronaut", 40, 44)
    with torch.no_grad():
        expected = (stylizer.module(255 * given) / 255).clamp(0, 1)[0].permute(1, 2, 0)
    assert relative(answer_to(stylizer, feed_forward(given, statistics(stylizer))), expected) < 1e-5


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 40), (16, 17)])
def test_small_images_keep_their_size(stylizer: Model, height: int, width: int) -> None:
    found = answer_to(stylizer, feed_forward(image("coffee", height, width), statistics(stylizer)))
    assert found.shape == (height, width, 3)


def test_no_seam_shows_between_tiles(stylizer: Model) -> None:
    height, width, side = 150, 331, 164
    given = image("coffee", height, width)
    tiling = Tiling(max_pixels=120 * 120, side_px=side)
    driven = drive(stylizer, feed_forward(given, statistics(stylizer), tiling))
    (tiled,) = driven.results
    assert tiled.shape == (height, width, 3)
    assert [rows for rows, _ in driven.passes] == [1, 5]
    # The same statistics on the whole image: one tile as large as it.
    (whole,) = drive(stylizer, feed_forward(given, statistics(stylizer), Tiling(120 * 120, 400))).results
    assert np.abs(tiled - whole).max() < 1e-3

    # What is avoided: tiles that each use their own statistics differ where they meet, even with the overlap.
    with torch.no_grad():
        own = [stylizer.module(255 * given[..., start : start + side]) / 255 for start in (0, side - 2 * REACH_PX)]
    edge = side - REACH_PX
    left, right = own[0][0, :, :, edge], own[1][0, :, :, edge - (side - 2 * REACH_PX)]
    assert float((left.clamp(0, 1) - right.clamp(0, 1)).abs().mean()) > 0.01


def test_the_reach_is_that_of_the_network(stylizer: Model) -> None:
    network = deepcopy(stylizer.module).double()
    given, changed_rows = 255 * image("coffee", 164, 16).double(), 164 - REACH_PX - 5 * STRIDE
    changed = given.clone()
    changed[:, :, :changed_rows] = 0
    taken: dict[str, torch.Tensor] = {}
    for name in statistics(stylizer):
        # Hands out the first image's statistics again for the second.
        network.get_submodule(name).register_forward_hook(lambda _m, _a, out, name=name: taken.setdefault(name, out))
    with torch.no_grad():
        differs = (network(given) - network(changed)).abs().amax((0, 1, 3)) > 1e-9
    reached = int(differs.nonzero().max()) - (changed_rows - 1)
    assert REACH_PX - STRIDE < reached <= REACH_PX
