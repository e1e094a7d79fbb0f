"""Input times gradient against Captum."""

from captum.attr import InputXGradient as Oracle
from tests.driving import answer_to, model_of, relative, subject_of
from tests.unit.programs.explain.properties import SIZE, check, image, small_network

from gradserve_server.autograd.objective import class_score
from gradserve_server.programs.explain.input_x_gradient import InputXGradient


def test_agrees_with_captum() -> None:
    network = small_network()
    model = model_of(network, size=SIZE, precision="float64")
    expected = Oracle(network).attribute(image().requires_grad_(), target=2)[0].detach()
    found = answer_to(model, InputXGradient().attribute(subject_of(image(), class_score(2))))
    assert relative(found.values, expected) < 1e-9
    reduced = answer_to(model, InputXGradient().explain(subject_of(image(), class_score(2))))
    assert relative(reduced.values, expected.sum(0)) < 1e-9
    assert reduced.approximation_error is None


def test_properties() -> None:
    check(InputXGradient())
