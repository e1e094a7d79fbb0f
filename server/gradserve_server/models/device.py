"""Devices by their names."""

import torch

from gradserve_server.models.failure import ModelLoadError


def device_of(name: str) -> torch.device:
    """Returns the device called `name`: `cpu`, `cuda:0`, or `auto` for a GPU if there is one.

    Raises:
        ModelLoadError: There is no such device on this machine.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    try:
        found = torch.device(("cuda:0" if gpus else "cpu") if name == "auto" else name)
    except RuntimeError as error:
        raise ModelLoadError(f"no device {name!r}: use cpu, cuda:0 or auto") from error
    if found.type == "cpu" or (found.type == "cuda" and (found.index or 0) < gpus):
        return found
    here = f"cuda:0 to cuda:{gpus - 1}" if gpus > 1 else "cuda:0" if gpus else "no GPU that torch can use"
    raise ModelLoadError(f"no device {name!r}: there is {here}; use cpu{', cuda:0' if gpus else ''} or auto")
