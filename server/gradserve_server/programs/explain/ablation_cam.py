"""Ablation-CAM (Desai and Ramaswamy 2020, section 3)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from gradserve_server.autograd.query import Query
from gradserve_server.programs.explain.channel_cam import ChannelCam
from gradserve_server.programs.explain.method import Subject


@dataclass(frozen=True)
class AblationCam(ChannelCam):
    """Activations weighted by how much the target's score drops when each channel is 0.

    The paper divides the drops by the score (equation 3), which scales the whole map, and turns its sign where the
    score is negative: so it is left out.
    """

    def query(self, subject: Subject, layer: str, output: Tensor, channels: Tensor) -> Query:
        """Goes on from the layer's output with each channel 0 at all positions."""
        count = len(channels)
        # Where in the output each channel's positions are, however the layer arranges them.
        places = torch.arange(output.numel(), device=output.device).view(output.shape)
        ablated = subject.as_grid(layer, places)[0][channels].flatten(1)
        values = output.reshape(1, -1).repeat(count, 1).scatter_(1, ablated, 0).view(count, *output.shape[1:])
        rows = subject.rows.expand(count, -1, -1, -1)
        return Query(rows, subject.target, gradient=False, replace={layer: values})

    def weights(self, scores: Tensor, score: Tensor) -> Tensor:
        """Returns the drops."""
        return score - scores
