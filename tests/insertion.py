"""Insertion of maps on photographs, and of maps that know nothing of them.

RISE's curve (Petsiuk et al. 2018), as the trust report has it, in two grains. By pixels, whatever scatters its
strongest pixels over the image reveals noise. By regions, all maps are cut alike: a map is summed over squares as large
as a position of the embedded model's last layer, and these are revealed one after the other (as Samek et al. 2017
perturb them).
"""

import torch
import torch.nn.functional as F
from tests.conftest import photograph
from tests.driving import answer_to, rows_of, subject_of
from torch import Tensor

from gradserve_server.autograd.objective import ranked_class_score
from gradserve_server.models.model import Model
from gradserve_server.programs.explain.method import Attribution, Subject, settle
from gradserve_server.programs.explain.saliency import Saliency
from gradserve_server.programs.explain.trust import TrustOptions, report

REGION_PX = 32
"""Side of a region, 49 of which make up the embedded model's input."""


def subject_of_photograph(name: str, model: Model) -> Subject:
    """Returns a photograph to be explained for what the model predicts; its superpixels are squares."""
    rows = rows_of(photograph(name), model).contiguous(memory_format=torch.channels_last)
    subject = subject_of(rows, ranked_class_score(0), model=model)
    return answer_to(model, settle(subject))


def insertion_auc(model: Model, subject: Subject, values: Tensor, step_count: int) -> float:
    """Returns the area under the insertion curve of the trust report on a map [height, width]."""
    options = TrustOptions(transforms=(), step_count=step_count, sample_count=0)
    # Without transforms and samples the report asks neither the method nor what the model says of the image.
    program = report(subject, Saliency(), Attribution(values), torch.zeros(1), options)
    return answer_to(model, program).insertion_auc


def by_regions(values: Tensor) -> Tensor:
    """Returns a map [height, width] of the means over its regions, each in all pixels of its region."""
    means = F.avg_pool2d(values[None, None], REGION_PX)
    return F.interpolate(means, scale_factor=REGION_PX, mode="nearest")[0, 0]


def random_maps(subject: Subject, count: int) -> list[Tensor]:
    """Returns maps whose pixels are drawn evenly and independently; their regions, too, are in random order."""
    shape = subject.rows.shape[2:]
    return [torch.rand(shape, generator=torch.Generator().manual_seed(seed)) for seed in range(count)]


def centred_gaussian(subject: Subject) -> Tensor:
    """Returns a Gaussian in the middle, half as wide as the image. Its width does not matter: the order counts."""
    axes = [torch.linspace(-1, 1, side) for side in subject.rows.shape[2:]]
    return torch.exp(-2 * (axes[0][:, None] ** 2 + axes[1] ** 2))
