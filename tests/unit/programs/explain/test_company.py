"""32 programs of mixed methods, targets and images together: in float64 each is as alone, to 1e-9."""

import torch
from tests.conftest import FOUNDING, PHOTOGRAPHS, photograph
from tests.driving import answer_to, drive, model_of, relative, rows_of, subject_of
from torchvision import models

from gradserve_server.autograd.objective import class_score, ranked_class_score
from gradserve_server.programs.explain import METHODS
from gradserve_server.rpc.support import supported

COUNT = 32


def test_32_programs_together_answer_as_alone() -> None:
    torch.manual_seed(0)
    model = model_of(models.resnet18(weights=None, num_classes=10), size=64, precision="float64")
    images = [rows_of(photograph(name), model) for name in PHOTOGRAPHS]

    def program(index: int):
        method = supported(METHODS[FOUNDING[index % len(FOUNDING)]](), model)
        target = ranked_class_score(0) if index % 3 == 0 else class_score(index * 7 % 10)
        return method.explain(subject_of(images[index % len(images)].clone(), target, model=model))

    company = drive(model, *(program(index) for index in range(COUNT)))
    assert len(company.passes) <= COUNT / 2
    compared = 0
    for index, found in enumerate(company.results):
        alone = answer_to(model, program(index)).values
        if alone.any():
            assert relative(found.values, alone) < 1e-9
            compared += 1
        else:
            # The rectified Grad-CAM of a random network may be empty; then it is so in company too.
            assert not found.values.any()
    assert compared > COUNT / 2
