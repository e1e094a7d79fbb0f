"""Methods of explanation: one method, one file. `METHODS` finds them by themselves."""

from collections.abc import Mapping
from importlib import import_module
from inspect import getmembers, isabstract, isclass
from pkgutil import iter_modules

from gradserve_server.programs.explain.method import Method


def _methods() -> Mapping[str, type[Method]]:
    modules = [import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__)]
    found = [
        member
        for module in modules
        for _, member in getmembers(module, isclass)
        if issubclass(member, Method) and not isabstract(member) and member.__module__ == module.__name__
    ]
    return {method.name(): method for method in found}


METHODS = _methods()
"""All methods by name."""
