"""The processes that train together: one, or as many as torchrun started."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist


@dataclass(frozen=True)
class Group:
    """A process's place among those that train together.

    Attributes:
        rank: Number of this process, from 0. The first alone writes files.
        size: Number of processes.
        device: What this process computes on.
    """

    rank: int
    size: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0


@contextmanager
def joined(device: str) -> Iterator[Group]:
    """Joins the group that torchrun describes in the environment; without torchrun, a group of one.

    Args:
        device: `cpu`, `cuda`, `cuda:N`, or `auto` for a GPU if there is one. Under torchrun each process takes the GPU
            of its number on the machine.
    """
    kind = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Group(0, 1, torch.device(kind))
        return
    chosen = torch.device("cpu" if kind == "cpu" else f"cuda:{os.environ['LOCAL_RANK']}")
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    dist.init_process_group("gloo" if chosen.type == "cpu" else "nccl")
    try:
        yield Group(dist.get_rank(), size, chosen)
    finally:
        dist.destroy_process_group()
