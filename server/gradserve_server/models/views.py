"""Views of a network: another network that shares all but what is changed.

The modules on the way from the root to each changed one are copied; all others, and all parameters, are shared. So a
view costs next to nothing, and what it does nobody else sees.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MethodType
from typing import Any
from weakref import WeakKeyDictionary

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
    tree = _TREES.get(module)
    if tree is None or any(id(found) not in tree.parents for found in wanted):
        tree = _TREES[module] = _tree(module)
    copied = tree.with_those_above(id(found) for found in wanted)
    twins: dict[nn.Module, nn.Module] = {}
    copies: dict[nn.Module, nn.Module] = {}

    def twin(original: nn.Module | None) -> nn.Module | None:
        if original is None or id(original) not in copied:
            return original
        if original not in twins:
            copy = twins[original] = copies[original] = _copy(original)
            copy._modules.update({name: twin(child) for name, child in original._modules.items()})
            if original in wanted:
                twins[original] = wanted[original](copy)
        return twins[original]

    whole = twin(module)
    for copy in copies.values():
        _rebind(copy, copies)
    assert whole is not None
    return whole


@dataclass(frozen=True)
class _Tree:
    """How the modules of a network hang together, by their identities: it must not keep them.

    Attributes:
        parents: Where each is registered.
        calling: Those with hooks that are methods of others, which a view may copy; and the network itself.
    """

    parents: Mapping[int, frozenset[int]]
    calling: frozenset[int]

    def with_those_above(self, modules: Iterable[int]) -> set[int]:
        """Returns the modules, those that are always copied, and all that any of them is a part of."""
        found: set[int] = set()
        left = [*modules, *self.calling]
        while left:
            if (module := left.pop()) not in found:
                found.add(module)
                left += self.parents.get(module, ())
        return found


_TREES: WeakKeyDictionary[nn.Module, _Tree] = WeakKeyDictionary()
"""Of networks that views were made of: to look at all modules takes half a millisecond, and passes have views."""

_HOOKS = ("_forward_hooks", "_forward_pre_hooks")


def _tree(module: nn.Module) -> _Tree:
    parents: dict[int, set[int]] = {}
    calling = {id(module)}
    for found in module.modules():
        for child in found.children():
            parents.setdefault(id(child), set()).add(id(found))
        hooks = (hook for name in _HOOKS for hook in found.__dict__[name].values())
        if any(isinstance(hook, MethodType) and hook.__self__ is not found for hook in hooks):
            calling.add(id(found))
    return _Tree({child: frozenset(above) for child, above in parents.items()}, frozenset(calling))


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
