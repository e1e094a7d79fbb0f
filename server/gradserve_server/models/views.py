"""Views of a network: another network that shares all but what is changed.

The modules on the way from the root to each changed one are copied; all others, and all parameters, are shared. So a
view costs next to nothing, and what it does nobody else sees.
"""

from collections.abc import Callable, Mapping
from types import MethodType
from typing import Any

from torch import nn

Change = Callable[[nn.Module], nn.Module]
"""Called with a copy of a module, that may be written to; what it returns takes the module's place."""


def view(module: nn.Module, changes: Mapping[str, Change]) -> nn.Module:
    """Returns a view of `module` with the submodules named in `changes` changed, wherever else they are registered.

    A module below a changed one can be changed as well, if the change returns the copy it was given, or goes by what
    that has below it.
    """
    if not changes:
        return module
    wanted = {module.get_submodule(name): change for name, change in changes.items()}
    twins: dict[nn.Module, nn.Module] = {}
    copies: dict[nn.Module, nn.Module] = {}

    def twin(original: nn.Module) -> nn.Module:
        if original not in twins:
            below = {name: None if child is None else twin(child) for name, child in original._modules.items()}
            changed = any(below[name] is not child for name, child in original._modules.items())
            twins[original] = original
            if changed or original in wanted or original is module or _calls_others(original):
                copy = twins[original] = copies[original] = _copy(original)
                copy._modules.update(below)
                if original in wanted:
                    twins[original] = wanted[original](copy)
        return twins[original]

    whole = twin(module)
    for copy in copies.values():
        _rebind(copy, copies)
    return whole


_HOOKS = ("_forward_hooks", "_forward_pre_hooks")


def _calls_others(module: nn.Module) -> bool:
    """Whether it has hooks that are methods of another module, which may be a copy in a view."""
    hooks = (hook for name in _HOOKS for hook in module.__dict__[name].values())
    return any(isinstance(hook, MethodType) and hook.__self__ is not module for hook in hooks)


def _rebind(copy: nn.Module, copies: Mapping[nn.Module, nn.Module]) -> None:
    """Has what a copy keeps of methods of modules that were copied be methods of the copies."""
    for values in (copy.__dict__, *(copy.__dict__[name] for name in _HOOKS)):
        for name, value in values.items():
            if isinstance(value, MethodType) and isinstance(value.__self__, nn.Module):
                values[name] = MethodType(value.__func__, copies.get(value.__self__, value.__self__))


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
        "_forward_pre_hooks",
        "_forward_pre_hooks_with_kwargs",
    ):
        state[name] = state[name].copy()
    twin.__dict__.update(state)
    return twin
