"""What methods share that look at the score of changed images. They never ask for a gradient."""

from torch import Tensor

from gradserve_server.autograd.objective import Objective
from gradserve_server.autograd.program import Program, ask
from gradserve_server.autograd.query import Query


def scores(rows: Tensor, target: Objective) -> Program[Tensor]:
    """Asks for the target of each row, [rows], without a gradient."""
    answer = yield from ask(Query(rows, target, gradient=False))
    return answer.value


def mixed(image: Tensor, baseline: Tensor, kept: Tensor) -> Tensor:
    """Returns images [masks, 3, height, width], each the `image` where its mask is 1 and the `baseline` where it is 0.

    Args:
        image: [1, 3, height, width].
        baseline: Likewise.
        kept: Masks [masks, height, width] in 0..1.
    """
    kept = kept.to(image).unsqueeze(1)
    return kept * image + (1 - kept) * baseline
