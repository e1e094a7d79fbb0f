"""What a hand would write for the prepared model and three methods: no queries, no programs, no scheduler, no RPC.

The mathematics is that of the service, on the same folded network, with the class read from the forward that is
differentiated. It knows that the network is timm's, of features and a head.
"""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gradserve_server.models.model import Model

Explain = Callable[[Tensor], Tensor]
"""From rows [rows, 3, height, width] to their maps [rows, height, width]."""


def methods(model: Model, batch: int, steps: int) -> dict[str, Explain]:
    """Returns the methods by name.

    Args:
        model: A prepared network of timm's.
        batch: Rows that integrated gradients takes at a time.
        steps: Its steps.
    """
    network = model.folded.module

    def gradient(rows: Tensor, classes: Tensor | None = None) -> Tensor:
        leaf = rows.detach().requires_grad_()
        with torch.enable_grad():
            logits = network(leaf)
            scores = logits.amax(1) if classes is None else logits.gather(1, classes[:, None])
            (found,) = torch.autograd.grad(scores.sum(), leaf)
        return found

    def saliency(rows: Tensor) -> Tensor:
        return gradient(rows).abs().amax(1)

    def grad_cam(rows: Tensor) -> Tensor:
        features = network.forward_features(rows).requires_grad_()
        with torch.enable_grad():
            (found,) = torch.autograd.grad(network.forward_head(features).amax(1).sum(), features)
        cams = (found.mean((2, 3), keepdim=True) * features.detach()).sum(1, keepdim=True).relu()
        return F.interpolate(cams, rows.shape[2:], mode="bilinear", align_corners=False)[:, 0]

    legendre = np.polynomial.legendre.leggauss(steps)
    nodes, weights = (torch.from_numpy(values).float().to(model.device) for values in legendre)
    nodes, weights = (nodes + 1) / 2, weights / 2
    black = torch.from_numpy(model.preprocessing.black).to(model.device)

    def integrated_gradients(rows: Tensor) -> Tensor:
        return torch.stack([integrated(row[None]) for row in rows])

    def integrated(row: Tensor) -> Tensor:
        # The service also asks for the scores at both ends, for the approximation error.
        logits = network(torch.cat([row, black.expand_as(row)]))
        classes = logits[0].argmax().expand(steps)
        points = torch.lerp(black.expand_as(row), row, nodes[:, None, None, None])
        points = points.contiguous(memory_format=model.memory_format)
        found = torch.cat([gradient(*both) for both in zip(points.split(batch), classes.split(batch), strict=True)])
        return ((row - black)[0] * torch.tensordot(weights, found, 1)).sum(0)

    return {"saliency": saliency, "grad_cam": grad_cam, "integrated_gradients": integrated_gradients}
