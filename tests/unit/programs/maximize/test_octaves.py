"""Scales of a dream."""

import numpy as np
import pytest
import torch
from PIL import Image
from tests.driving import answer_to, model_of
from tests.unit.programs.maximize.climbing import changed, pixels, recorded, small_net, task

from gradserve_server.autograd.objective import class_score, layer_l2
from gradserve_server.programs.ascent import StopReason
from gradserve_server.programs.maximize.constraint import Constraint, Norm
from gradserve_server.programs.maximize.maximize import maximize
from gradserve_server.programs.maximize.octaves import Octaves, resized


def test_sizes_grow_by_the_scale_to_the_full_size() -> None:
    assert Octaves(4, 1.4).sizes(224, 300) == ((82, 109), (114, 153), (160, 214), (224, 300))
    assert Octaves().sizes(224, 300) == ((224, 300),)


@pytest.mark.parametrize("size", [(9, 7), (20, 33), (16, 16)])
def test_resizing_is_pillows(size: tuple[int, int]) -> None:
    image = pixels(0, size=16, dtype=torch.float32)
    expected = np.stack(
        [
            np.asarray(Image.fromarray(channel).resize(size[::-1], Image.Resampling.BILINEAR))
            for channel in image[0].numpy()
        ]
    )
    np.testing.assert_allclose(resized(image, size)[0], expected, atol=1e-5)


def test_a_ball_is_not_left_by_what_is_enlarged() -> None:
    """A change twice as wide and high is twice as long, where a job ends in a lower octave or as the next begins."""
    model = model_of(small_net().double().eval(), size=16, precision="float64")
    start = pixels(size=64)
    parts = changed(octaves=Octaves(4, 1.8), constraint=Constraint(Norm.L2, 0.5))
    for calls in (3, 5, 6, 8, 11, 16):
        left = iter([False] * calls)
        given = task(class_score(0), parts, image_given=True, ends=lambda left=left: next(left, True))
        found = answer_to(model, maximize(start, given))
        assert found.stop_reason is StopReason.DEADLINE
        assert 0 < np.linalg.norm(found.pixels - found.start) <= 0.5 + 1e-9


def test_a_dream_climbs_at_each_scale_and_ends_at_the_full_size() -> None:
    model = model_of(small_net(), size=48, precision="float64")
    parts = changed(octaves=Octaves(3, 1.5), step_count=4)
    seen = []
    start = pixels(1, size=48)
    given = task(layer_l2("second"), parts, image_given=True, preview_interval_steps=1)
    found = answer_to(model, recorded(maximize(start, given), seen.append))
    assert [tuple(progress.preview.shape[:2]) for progress in seen] == [(21, 21)] * 4 + [(32, 32)] * 4 + [(48, 48)] * 4
    assert [progress.step for progress in seen] == list(range(1, 13))
    assert {progress.step_count for progress in seen} == {12}
    for octave in range(3):
        values = found.values[4 * octave : 4 * octave + 4]
        assert (np.diff(values) > 0).all()
    assert found.pixels.shape == (1, 48, 48, 3)


def test_the_change_is_carried_up_and_the_photograph_stays_sharp() -> None:
    """Where nothing is climbed, enlarging would blur the photograph; carrying the change does not."""
    model = model_of(small_net(), size=48, precision="float64")
    start = pixels(2, size=48)
    parts = changed(octaves=Octaves(3, 1.5), step_count=2)
    found = answer_to(model, maximize(start, task(0.0 * layer_l2("second"), parts, image_given=True)))
    np.testing.assert_allclose(found.pixels, start.permute(0, 2, 3, 1), atol=1e-12)
