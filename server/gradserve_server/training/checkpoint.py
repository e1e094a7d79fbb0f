"""Where training can go on from."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from gradserve_server.errors import InvalidInput
from gradserve_server.files import write_whole

MAGIC = b"gradserve stylizer checkpoint 1\n"


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The whole state of training between two steps. What photographs come next follows from the step.

    Attributes:
        step: Steps taken.
        settings: What the training depends on; it can go on only under the same.
        network: State of the network.
        optimizer: State of the optimiser.
    """

    step: int
    settings: Mapping[str, str]
    network: Mapping[str, Tensor]
    optimizer: Mapping[str, Any]


def save(checkpoint: Checkpoint, path: Path) -> None:
    """Writes a checkpoint: the old one stays until the new one is whole."""
    buffer = BytesIO()
    # vars keeps tensors as they are; dataclasses.asdict would copy them.
    torch.save(
        {name: dict(value) if isinstance(value, Mapping) else value for name, value in vars(checkpoint).items()}, buffer
    )
    content = buffer.getbuffer()

    def write(file: BinaryIO) -> None:
        file.write(MAGIC)
        file.write(hashlib.sha256(content).digest())
        file.write(content)

    write_whole(path, write)


def load(path: Path, settings: Mapping[str, str]) -> Checkpoint:
    """Reads a checkpoint.

    Raises:
        InvalidInput: The file is not a whole checkpoint, or is one of a training under other settings.
    """
    content = path.read_bytes()
    digest, state = content[len(MAGIC) : len(MAGIC) + 32], content[len(MAGIC) + 32 :]
    if not content.startswith(MAGIC) or hashlib.sha256(state).digest() != digest:
        raise InvalidInput(f"{path} is not a whole checkpoint: remove it to begin anew", field="checkpoint")
    checkpoint = Checkpoint(**torch.load(BytesIO(state), weights_only=True, map_location="cpu"))
    for name in sorted({*settings, *checkpoint.settings}):
        before, now = checkpoint.settings.get(name, "none"), settings.get(name, "none")
        if before != now:
            raise InvalidInput(
                f"{path} is of a training with {name} {before}, not {now}: go on with the same settings, or give "
                f"another checkpoint",
                field="checkpoint",
            )
    return checkpoint
