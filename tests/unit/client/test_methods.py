"""The generated methods: as good as their names, with the server's own defaults."""

from dataclasses import fields

import numpy as np
import pytest

from gradserve import methods
from gradserve.images import to_message
from gradserve.method import Method
from gradserve.requests import METHODS, assign, explain_request
from gradserve.v1 import explain_pb2
from gradserve_server.programs.explain import METHODS as PROGRAMS
from gradserve_server.rpc.parameters import method as served_method

PIXELS = np.zeros((4, 4, 3), np.uint8)
KINDS = {kind.name: kind for kind in vars(methods).values() if isinstance(kind, type) and kind.__base__ is Method}


def asked(*wanted) -> list[explain_pb2.Method]:
    arguments = dict.fromkeys(("model", "top_k", "seed", "prediction_count", "max_side"))
    return list(explain_request(PIXELS, wanted, [], frame="original", overlay=False, trust=False, **arguments).methods)


def test_every_method_has_a_class() -> None:
    assert list(KINDS) == list(METHODS)


@pytest.mark.parametrize("name", METHODS)
def test_defaults_are_the_servers(name: str) -> None:
    by_class, by_name = asked(KINDS[name](), name)
    assert by_class == by_name
    # Said aloud, the defaults are what the server takes unsaid.
    message = getattr(explain_pb2.Method(), name)
    for field in fields(KINDS[name]):
        value = getattr(KINDS[name](), field.name)
        if value is not None and value != ():
            assign(message, field.name, value)
    said = served_method(explain_pb2.Method(**{name: message}), lambda image: np.zeros((1, 3, 4, 4), np.float32))
    unsaid = PROGRAMS[name]()
    for field in fields(PROGRAMS[name]):
        ours, theirs = getattr(said, field.name), getattr(unsaid, field.name)
        assert np.float32(ours) == np.float32(theirs) if isinstance(theirs, float) else ours == theirs, field.name


def test_what_differs_is_sent() -> None:
    first, second = asked(
        methods.IntegratedGradients(step_count=64, baselines=["white", ("image", PIXELS)]),
        ("integrated_gradients", {"step_count": 64, "baselines": ["white", ("image", PIXELS)]}),
    )
    assert first == second
    assert first.integrated_gradients.step_count == 64
    assert first.integrated_gradients.baselines[1].image == to_message(PIXELS)


def test_a_method_inside_a_method() -> None:
    (found,) = asked(methods.SmoothGrad(around=methods.InputXGradient(reduction="sum_abs"), noise_sigma=0.0))
    assert found.smooth_grad.around.input_x_gradient.reduction == explain_pb2.CHANNEL_REDUCTION_SUM_ABS
    assert found.smooth_grad.HasField("noise_sigma")
    assert not found.smooth_grad.HasField("noisy_sample_count")
