"""Maps point at what the model needs more than maps that know nothing of model and photograph.

`make insertion-check` compares all methods and more finely; see docs/insertion.md.
"""

from statistics import fmean

import pytest
from tests.conftest import PHOTOGRAPHS
from tests.driving import answer_to
from tests.insertion import by_regions, centred_gaussian, insertion_auc, random_maps, subject_of_photograph

from gradserve_server.models.model import Model
from gradserve_server.programs.explain import METHODS
from gradserve_server.programs.explain.method import Subject
from gradserve_server.rpc.support import supported

STEPS = 7
"""Of seven regions each."""
OVER_RANDOM = 0.04
OVER_GAUSSIAN = 0.01


@pytest.fixture(scope="module")
def subjects(embedded: Model) -> list[Subject]:
    return [subject_of_photograph(name, embedded) for name in PHOTOGRAPHS]


@pytest.fixture(scope="module")
def ignorant(embedded: Model, subjects: list[Subject]) -> tuple[float, float]:
    """Mean areas of random maps and of the Gaussian."""
    drawn = [(subject, values) for subject in subjects for values in random_maps(subject, 2)]
    return (
        fmean(insertion_auc(embedded, subject, by_regions(values), STEPS) for subject, values in drawn),
        fmean(insertion_auc(embedded, subject, by_regions(centred_gaussian(subject)), STEPS) for subject in subjects),
    )


@pytest.mark.parametrize("name", ["grad_cam", "layer_cam", "guided_grad_cam"])
def test_maps_beat_random_ones_and_a_gaussian_in_the_middle(
    embedded: Model, subjects: list[Subject], ignorant: tuple[float, float], name: str
) -> None:
    method = supported(METHODS[name](), embedded)
    area = fmean(
        insertion_auc(embedded, subject, by_regions(answer_to(embedded, method.explain(subject)).values), STEPS)
        for subject in subjects
    )
    assert area - ignorant[0] >= OVER_RANDOM
    assert area - ignorant[1] >= OVER_GAUSSIAN
