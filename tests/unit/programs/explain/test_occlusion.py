"""Occlusion against Captum's."""

import pytest
import torch
from captum.attr import Occlusion as CaptumOcclusion
from tests.driving import answer_to, drive, model_of, relative, subject_of
from torch import Tensor, nn

from gradserve_server.autograd.objective import class_score, ranked_class_score
from gradserve_server.errors import InvalidInput
from gradserve_server.programs.explain.baseline import Baseline, Black, Blurred, Mean, White
from gradserve_server.programs.explain.occlusion import Occlusion
from gradserve_server.rpc.support import supported

SIZE = 32


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 5, stride=2), nn.GELU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(5)
    ).eval()


@pytest.fixture(scope="module")
def model(network):
    network(torch.zeros(1, 3, SIZE, SIZE))
    return model_of(network, size=SIZE, precision="float64")


def image(seed: int = 0, height: int = SIZE) -> Tensor:
    noise = torch.Generator().manual_seed(seed)
    return torch.randn(1, 3, height, SIZE, dtype=torch.float64, generator=noise)


@pytest.mark.parametrize("baseline", [Black(), White(), Mean(), Blurred(3.0)], ids=lambda one: type(one).__name__)
@pytest.mark.parametrize(("window", "stride"), [(8, 8), (9, 4), (32, 32), (7, 5), (5, 3)])
def test_agrees_with_captum(network, model, window: int, stride: int, baseline: Baseline) -> None:
    """Also where the last window is cut off at the edge, and where it is the image."""
    subject = subject_of(image(), class_score(3), model=model)
    expected = CaptumOcclusion(network).attribute(
        subject.rows,
        sliding_window_shapes=(3, window, window),
        strides=(3, stride, stride),
        baselines=baseline.rows(subject),
        target=3,
        perturbations_per_eval=16,
    )[0, 0]
    found = answer_to(model, Occlusion(window, stride, baseline).explain(subject)).values
    # Captum adds up in float32, whatever it is given.
    assert expected.dtype == torch.float32
    torch.testing.assert_close(found.float(), expected, rtol=1e-5, atol=1e-6 * float(expected.abs().max()))


def test_default_window_is_a_seventh_and_stride_half_of_it(model) -> None:
    subject = subject_of(image(), class_score(0), model=model)
    driven = drive(model, Occlusion().explain(subject))
    # ceil(32 / 7) = 5, ceil(5 / 2) = 3: windows begin at 0, 3, ..., 27.
    assert sum(rows for rows, _ in driven.passes) == 1 + 10 * 10
    again = answer_to(model, Occlusion(5, 3).explain(subject)).values
    assert torch.equal(driven.results[0].values, again)


def test_a_linear_score_is_attributed_in_closed_form() -> None:
    """The sum of w (x - baseline) over each window, where windows tile; also when the image is no square."""
    weight = torch.randn(3, 24, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    linear = nn.Sequential(nn.Flatten(), nn.Linear(weight.numel(), 2, bias=False))
    linear.double()[1].weight.data = torch.stack([weight.flatten(), torch.zeros_like(weight.flatten())])
    model = _linear_model(linear, 24, 32)
    rows = torch.randn(1, 3, 24, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    found = answer_to(model, Occlusion(8, 8, Black()).explain(subject_of(rows, class_score(0)))).values
    parts = (weight * (rows[0] + 1)).sum(0).unfold(0, 8, 8).unfold(1, 8, 8).sum((2, 3))
    expected = parts.repeat_interleave(8, 0).repeat_interleave(8, 1)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def _linear_model(module: nn.Module, height: int, width: int):
    from gradserve_server.models.loading import ModelSpec, prepare
    from gradserve_server.models.preprocessing import Preprocessing

    preprocessing = Preprocessing(height=height, width=width, resize=max(height, width))
    spec = ModelSpec(name="net", architecture="test:net", precision="float64", preprocessing=preprocessing)
    return prepare(module, "0" * 64, spec, torch.device("cpu"))


def test_the_prediction_is_settled_on_the_image(network, model) -> None:
    rows = image(4)
    settled = int(network(rows).argmax())
    own = answer_to(model, Occlusion(8, 4).explain(subject_of(rows, ranked_class_score(0), model=model))).values
    named = answer_to(model, Occlusion(8, 4).explain(subject_of(rows, class_score(settled), model=model))).values
    assert torch.equal(own, named)


def test_chunked_and_in_company_as_alone(model) -> None:
    def program(seed: int):
        return Occlusion(8, 4).explain(subject_of(image(seed), ranked_class_score(0), model=model))

    alone = answer_to(model, program(1)).values
    assert relative(answer_to(model, program(1), budget=3).values, alone) < 1e-9
    company = drive(model, program(0), program(1), program(2), budget=16)
    assert max(programs for _, programs in company.passes) > 1
    assert relative(company.results[1].values, alone) < 1e-9


@pytest.mark.parametrize("method", [{"window_px": 0}, {"window_px": -3}, {"stride_px": 0}])
def test_values_out_of_range_are_refused(method) -> None:
    with pytest.raises(InvalidInput) as error:
        Occlusion(**method)
    assert error.value.field == next(iter(method))


@pytest.mark.parametrize("method", [Occlusion(4, 5), Occlusion(stride_px=6), Occlusion(200, 300)])
def test_gaps_between_windows_are_refused(model, method) -> None:
    with pytest.raises(InvalidInput, match="never covered") as error:
        supported(method, model)
    assert error.value.field == "stride_px"


def test_too_many_windows_are_refused() -> None:
    Occlusion(4, 2).check(130, 130)
    with pytest.raises(InvalidInput, match=r"4160 windows; at most 4096"):
        Occlusion(4, 2).check(132, 130)
