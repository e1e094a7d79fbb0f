"""Captum's NoiseTunnel, fed with the noisy images that a seed draws here."""

from typing import Any

import torch
from captum.attr import NoiseTunnel
from tests.driving import answer_to, model_of, subject_of
from tests.unit.programs.explain.properties import SIZE, image, small_network
from torch import Tensor, nn

from gradserve_server.autograd.objective import class_score
from gradserve_server.programs.explain.method import Subject
from gradserve_server.programs.explain.noise import NoisyMethod, noisy_copies

TARGET = 2


class Fed(NoiseTunnel):
    """Takes its noisy images from `rows` instead of PyTorch's global source."""

    rows: Tensor

    def _add_noise_to_input(self, input: Tensor, stdev: float, nt_samples_partition: int) -> Tensor:
        assert len(self.rows) == nt_samples_partition
        return self.rows.clone()


def subject(seed: int = 5) -> Subject:
    return subject_of(image(), class_score(TARGET), seed)


def noisy_rows(count: int, sigma: float, seed: int = 5) -> Tensor:
    copies = noisy_copies(subject(seed), sigma)
    return torch.cat([next(copies).rows for _ in range(count)])


def by_captum(network: nn.Module, kind: str, inside: Any, count: int, sigma: float, **given: Any) -> Tensor:
    """Returns Captum's [3, height, width]."""
    tunnel = Fed(inside)
    tunnel.rows = noisy_rows(count, sigma)
    found = tunnel.attribute(image().requires_grad_(), nt_type=kind, nt_samples=count, target=TARGET, **given)
    return found[0].detach()


def by_us(method: NoisyMethod, network: nn.Module | None = None, budget: int = 8) -> Tensor:
    model = model_of(network or small_network(), size=SIZE, precision="float64")
    return answer_to(model, method.explain(subject()), budget=budget).values
