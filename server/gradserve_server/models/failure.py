"""Why a model cannot be served."""

import torch


class ModelLoadError(Exception):
    """A model could not be loaded. The message says what to do, in one line."""


def one_line(error: object, length: int = 300) -> str:
    """Returns the text of an error as one line of at most `length` characters."""
    text = " ".join(str(error).split())
    return text if len(text) <= length else f"{text[: length - 3]}..."


def lacks_memory(error: Exception) -> bool:
    """Whether an error is a want of memory."""
    # On a CPU PyTorch has no type of its own for it.
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "DefaultCPUAllocator" in str(error)
