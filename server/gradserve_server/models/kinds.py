"""What modules are, also those of exported programs."""

from torch import nn
from torch.export.unflatten import InterpreterModule


def kind_of(module: nn.Module) -> str:
    """Returns the class name of a module; for one of an exported program, that of the module it was."""
    name = module.type_name() if isinstance(module, InterpreterModule) else None
    return name.rpartition(".")[2] if name else type(module).__name__
