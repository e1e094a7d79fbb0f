"""Views of a network: another network that shares all but what is changed.

The modules on the way from the root to each changed one are copied; all others, and all parameters, are shared. So a
view costs next to nothing, and what it does nobody else sees.
"""

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

Change = Callable[[nn.Module], nn.Module]
"""Called with a copy of a module, that may be written to; what it returns takes the module's place."""


def view(module: nn.Module, changes: Mapping[str, Change]) -> nn.Module:
    """Returns a view of `module` with the submodules named in `changes` changed.

    A module below a changed one can be changed as well, if the change returns the copy it was given.
    """
    if not changes:
        return module
    whole = _copy(module)
    copies = {"": whole}
    for name in sorted(changes):
        path = ""
        for part in name.split("."):
            parent, path = copies[path], f"{path}.{part}".lstrip(".")
            if path not in copies:
                copies[path] = _copy(parent.get_submodule(part))
                parent._modules[part] = copies[path]
        parent._modules[part] = copies[path] = changes[name](copies[path])
    return whole


def _copy(module: nn.Module) -> nn.Module:
    """Returns a module that shares everything with `module` but can be given other children, parameters and hooks."""
    twin: nn.Module = object.__new__(type(module))
    state: dict[str, Any] = dict(module.__dict__)
    for name in (
        "_modules",
        "_parameters",
        "_forward_hooks",
        "_forward_hooks_with_kwargs",
        "_forward_hooks_always_called",
    ):
        state[name] = state[name].copy()
    twin.__dict__.update(state)
    return twin
