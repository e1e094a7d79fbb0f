"""From noise to an image that the embedded model is sure of, at a size that is quick to climb.

`make maximize-check` does it for ten classes at the model's input size.
"""

import pytest
import torch
from tests.driving import drive

from gradserve_server.autograd.objective import class_score
from gradserve_server.programs.ascent import Normalization, StopReason
from gradserve_server.programs.maximize.maximize import Task, maximize
from gradserve_server.programs.maximize.presets import RECIPES, Preset

GOLDFISH, VOLCANO = 1, 980


@pytest.mark.parametrize("preset", [Preset.SIMONYAN, Preset.YOSINSKI, Preset.LUCID])
def test_the_model_sees_the_class(embedded, preset: Preset) -> None:
    normal = Normalization(embedded.preprocessing.mean, embedded.preprocessing.std)
    blank = torch.tensor(normal.mean)[:, None, None].expand(1, 3, 96, 96).clone()
    tasks = [Task(class_score(index), RECIPES[preset], normal, seed=1) for index in (GOLDFISH, VOLCANO)]
    found = drive(embedded, *(maximize(blank, task) for task in tasks)).results
    for index, result in zip((GOLDFISH, VOLCANO), found, strict=True):
        assert result.stop_reason is StopReason.COMPLETED
        assert float(torch.from_numpy(result.logits[0]).softmax(0)[index]) > 0.9
