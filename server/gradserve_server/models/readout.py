"""What a model's answer depends on, asked by one number."""

import torch
from torch import Tensor, nn

from gradserve_server.models.kinds import kind_of


def noise(sample: Tensor) -> Tensor:
    """Returns rows of noise of the sample's shape that a gradient can be taken of; always the same ones."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(sample.shape, generator=generator).to(sample).requires_grad_()


def readout(module: nn.Module, rows: Tensor) -> Tensor:
    """Runs `module` with a graph and returns a number that depends on all that its answer does.

    It adds up, at random, all that linear layers read of single vectors, as well as the logits: a classifier whose
    weights are all 0, as torchvision's are before training, lets no gradient pass.
    """
    vectors: list[Tensor] = []

    def read(_module: nn.Module, inputs: tuple[object, ...]) -> None:
        vectors.extend(tensor for tensor in inputs if isinstance(tensor, Tensor) and tensor.ndim == 2)

    handles = [
        submodule.register_forward_pre_hook(read) for submodule in module.modules() if kind_of(submodule) == "Linear"
    ]
    try:
        with torch.enable_grad():
            vectors.append(module(rows))
            everything = torch.cat([vector.flatten() for vector in vectors])
            generator = torch.Generator().manual_seed(1)
            return everything @ torch.randn(everything.shape, generator=generator).to(everything)
    finally:
        for handle in handles:
            handle.remove()
