"""Training a stylizer, one step after the other."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import cos, pi
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from gradserve_server.models.memory_format import memory_format
from gradserve_server.models.transformer_network import FULL_CHANNELS, TransformerNetwork
from gradserve_server.training.checkpoint import Checkpoint
from gradserve_server.training.group import Group
from gradserve_server.training.perceptual import PerceptualLoss, Terms
from gradserve_server.training.photographs import Photographs

OUTPUT_SCALE = 40.0
"""The last convolution answers in 0..255, from values about 1. Its weights begin larger by so much, and move so much
faster; else a short training would spend itself on reaching the range."""

LAST_RATE = 0.1
"""The learning rate falls along half a cosine to this part of it."""


@dataclass(frozen=True)
class Plan:
    """How to train.

    Attributes:
        steps: Number of steps, >= 1.
        batch_size: Photographs of a step in each process, >= 1.
        learning_rate: Step size of Adam at the start, > 0.
        width: Channels, as a part of those of the network as published, > 0.
        seed: Seed of the network's first parameters.
        mixed: Whether to compute in bfloat16 where that is safe; parameters and losses stay in float32.
    """

    steps: int
    batch_size: int
    learning_rate: float
    width: float
    seed: int
    mixed: bool = False


class Trainer:
    """A stylizer in training.

    Args:
        plan: How to train.
        loss: What to make small.
        photographs: What to train on.
        group: The processes that share each step: together they do what one would do with all of their photographs.
    """

    def __init__(self, plan: Plan, loss: PerceptualLoss, photographs: Photographs, group: Group) -> None:
        self._plan = plan
        self._loss = loss
        self._photographs = photographs
        self._group = group
        self.step = 0
        """Steps taken."""
        self.network = begun(plan).to(device=group.device, memory_format=memory_format(group.device))  # type: ignore[call-overload]  # torch's stub lacks it
        last = list(self.network.deconv3.parameters())
        rest = [parameter for name, parameter in self.network.named_parameters() if not name.startswith("deconv3.")]
        self._optimizer = torch.optim.Adam([{"params": rest}, {"params": last}])
        self._replica: nn.Module = DistributedDataParallel(self.network) if group.size > 1 else self.network

    def advance(self) -> Terms:
        """Takes a step and returns the terms of its loss, those of this process's photographs."""
        plan, group = self._plan, self._group
        start = (self.step * group.size + group.rank) * plan.batch_size
        photographs = as_images(self._photographs.draw(start, plan.batch_size), group.device)
        for parameters, scale in zip(self._optimizer.param_groups, (1.0, OUTPUT_SCALE), strict=True):
            parameters["lr"] = scale * self._rate()
        self._optimizer.zero_grad(set_to_none=True)
        with torch.autocast(group.device.type, torch.bfloat16, enabled=plan.mixed):
            pictures = self._replica(255 * photographs)
        terms = self._loss(pictures.float() / 255, photographs)
        terms.total.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        self.step += 1
        return terms

    def checkpoint(self, settings: Mapping[str, str]) -> Checkpoint:
        """Returns the whole state, under the settings it can go on with."""
        return Checkpoint(self.step, settings, self.network.state_dict(), self._optimizer.state_dict())

    def restore(self, checkpoint: Checkpoint) -> None:
        """Goes on from a checkpoint."""
        self.network.load_state_dict(checkpoint.network)
        self._optimizer.load_state_dict(dict(checkpoint.optimizer))
        self.step = checkpoint.step

    def stylized(self, photographs: Tensor) -> Tensor:
        """Returns pictures of photographs [rows, 3, height, width], both in 0..1."""
        with torch.no_grad():
            pictures: Tensor = self.network(255 * photographs) / 255
        return pictures.clamp(0, 1)

    def _rate(self) -> float:
        done = self.step / self._plan.steps
        return self._plan.learning_rate * (LAST_RATE + (1 - LAST_RATE) * (1 + cos(pi * done)) / 2)


def as_images(pixels: npt.NDArray[Any], device: torch.device) -> Tensor:
    """Returns pixels uint8 [rows, height, width, 3] as images [rows, 3, height, width] in 0..1 on a device."""
    images = torch.tensor(pixels, device=device).permute(0, 3, 1, 2)
    return (images.float() / 255).contiguous(memory_format=memory_format(images.device))


def begun(plan: Plan) -> TransformerNetwork:
    """Returns the network as it is before the first step."""
    with torch.random.fork_rng():
        torch.manual_seed(plan.seed)
        network = TransformerNetwork(max(1, round(plan.width * FULL_CHANNELS)))
    with torch.no_grad():
        network.deconv3.conv2d.weight.mul_(OUTPUT_SCALE)
        # The middle of the range.
        nn.init.constant_(network.get_parameter("deconv3.conv2d.bias"), 255 / 2)
    return network
