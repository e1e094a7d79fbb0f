"""Equal arrays of a tenant are one tensor, for as long as somebody uses it."""

import numpy as np
import pytest
from tests.driving import model_of
from torch import nn

from gradserve_server.models.model import Model
from gradserve_server.scheduling.inputs import Inputs


@pytest.fixture(scope="module")
def model() -> Model:
    return model_of(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2)), size=16)


def array(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random((1, 3, 16, 16), dtype=np.float32)


def test_equal_arrays_are_one_tensor_and_others_are_not(model: Model) -> None:
    inputs = Inputs()
    first = inputs.tensor(array(0), model, "")
    assert inputs.tensor(array(0), model, "") is first
    np.testing.assert_array_equal(first.numpy(), array(0))
    # Where the samples are the same, too.
    changed = array(0)
    changed[0, 0, 0, 1] += 1
    other = inputs.tensor(changed, model, "")
    assert other is not first
    np.testing.assert_array_equal(other.numpy(), changed)


def test_tenants_and_models_share_none(model: Model) -> None:
    inputs = Inputs()
    first = inputs.tensor(array(0), model, "one")
    assert inputs.tensor(array(0), model, "another") is not first
    twin = model_of(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2)), size=16)
    assert inputs.tensor(array(0), twin, "one") is not first


def test_nothing_is_kept_that_nobody_uses(model: Model) -> None:
    inputs = Inputs()
    first = inputs.tensor(array(0), model, "")
    del first
    for seed in range(1, 10):
        inputs.tensor(array(seed), model, "")
    # Of the last one, which was not looked at again.
    assert len(inputs._known) == 1


def test_whole_numbers_stay_whole(model: Model) -> None:
    tensor = Inputs().tensor(np.arange(12).reshape(2, 6), model, "")
    assert not tensor.is_floating_point()
    assert tensor.tolist() == np.arange(12).reshape(2, 6).tolist()
