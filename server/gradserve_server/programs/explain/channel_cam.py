"""Class activation maps that ask what each channel does to the target's score, without gradients."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gradserve_server.autograd.program import Program, ask
from gradserve_server.autograd.query import FORWARD_COST, Query
from gradserve_server.errors import InvalidInput
from gradserve_server.programs.explain.cam import CamMethod
from gradserve_server.programs.explain.limits import BLOCK
from gradserve_server.programs.explain.method import InputSize, Subject


@dataclass(frozen=True)
class ChannelCam(CamMethod):
    """Activations weighted by what a change of each channel does to the target's score.

    Attributes:
        channel_count: Number of channels of each layer to ask about, >= 0: those with the largest mean activation;
            0 for all. The others have no part in the map.
    """

    channel_count: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.channel_count < 0:
            raise InvalidInput(f"must not be negative: {self.channel_count}", field="channel_count")

    def cost(self, size: InputSize) -> float:
        """Returns a forward a channel."""
        channels = (min(self.channel_count or count, count) for count in map(size.channels, self.layers))
        return self.repeats * sum(channels) * FORWARD_COST

    @abstractmethod
    def query(self, subject: Subject, layer: str, output: Tensor, channels: Tensor) -> Query:
        """Asks for the score with each of some channels changed.

        Args:
            subject: What is explained.
            layer: Name of the layer.
            output: The layer's output for the subject, [1, ...].
            channels: Indices of channels, [rows].

        Returns:
            A query that values the target, one row for each channel.
        """

    @abstractmethod
    def weights(self, scores: Tensor, score: Tensor) -> Tensor:
        """Returns the channels' weights, given the scores with each changed, [channels], and unchanged, []."""

    def cams(self, subject: Subject) -> Program[Sequence[Tensor]]:
        """Asks for the layers' activations, then for the scores, in blocks of channels."""
        answer = yield from ask(
            Query(subject.rows, subject.target, gradient=False, capture=self.layers, logits=subject.target.ranked)
        )
        if subject.target.ranked:
            subject = replace(subject, target=subject.target.settled(answer.logits[0]))
        cams = []
        for layer in self.layers:
            output = answer.activations[layer]
            grid = subject.as_grid(layer, output)[0]
            channels = self._most_active(grid)
            scores = []
            for block in torch.split(channels, BLOCK):
                changed = yield from ask(self.query(subject, layer, output, block))
                scores.append(changed.value)
            weights = self.weights(torch.cat(scores), answer.value[0])
            cams.append(torch.tensordot(weights, grid[channels], dims=1))
        return cams

    def _most_active(self, grid: Tensor) -> Tensor:
        count = min(self.channel_count or len(grid), len(grid))
        return grid.mean((1, 2)).topk(count).indices.sort().values
