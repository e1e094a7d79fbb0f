"""However many steps a path has, no more of it is in memory at once."""

import weakref
from typing import Any

import pytest
import torch
from tests.conftest import photograph
from tests.driving import answer_to, model_of, rows_of, subject_of
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gradserve_server.autograd.objective import class_score
from gradserve_server.programs.explain.blur_ig import BlurIg
from gradserve_server.programs.explain.integrated_gradients import IntegratedGradients
from gradserve_server.programs.explain.method import Method

SIZE = 32
ROW_BYTES = 3 * SIZE * SIZE * 4


class Peak(TorchDispatchMode):
    """The most bytes of tensors alive at once, of those that operations made while it was on: backward, too."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0
        self._alive = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(made):
            if not isinstance(leaf, torch.Tensor) or leaf.layout is not torch.strided:
                # Weights that are laid out are the network's, and tell nothing of their memory.
                continue
            if (storage := leaf.untyped_storage())._cdata not in self._known:
                self._known.add(storage._cdata)
                self._alive += storage.nbytes()
                weakref.finalize(storage, self._forget, storage._cdata, storage.nbytes())
        self.bytes = max(self.bytes, self._alive)
        return made

    def _forget(self, key: int, size: int) -> None:
        self._known.remove(key)
        self._alive -= size


def peak_bytes(method: Method) -> int:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model = model_of(network, size=SIZE)
    subject = subject_of(rows_of(photograph("chelsea"), model), class_score(3), model=model)
    with Peak() as peak:
        answer_to(model, method.explain(subject), budget=8)
    assert peak.bytes > 32 * ROW_BYTES, "a block of rows and its gradients are seen"
    return peak.bytes


@pytest.mark.parametrize("method", [IntegratedGradients, BlurIg])
def test_more_steps_take_no_more_memory(method: type[Method]) -> None:
    few, many = (peak_bytes(method(step_count=count)) for count in (64, 256))
    assert many - few < ROW_BYTES
