"""Networks by name, and what each expects of an image by default."""

from collections.abc import Callable, Mapping
from importlib import import_module
from math import floor
from pathlib import Path
from typing import Any

import timm
import torchvision
from torch import nn

from gradserve_server.errors import nearest
from gradserve_server.models.failure import ModelLoadError, one_line
from gradserve_server.models.preprocessing import Preprocessing

EMBEDDED = "embedded:efficientnet_lite0"
EXPORTED = "torch.export"

_NAMES: dict[str, Callable[[], list[str]]] = {
    "torchvision": lambda: torchvision.models.list_models(module=torchvision.models),
    "timm": timm.list_models,
}
_FIT = {"center": "crop", "squash": "squash", "border": "pad"}
"""How timm names what becomes of an image's proportions."""


def check_architecture(architecture: str) -> None:
    """Checks that there is such an architecture, as far as can be said without making it.

    Raises:
        ModelLoadError: There is none; the three nearest are named.
    """
    library, _, name = architecture.partition(":")
    if architecture != EMBEDDED and library not in _NAMES and library != "python":
        raise ModelLoadError(
            f"architecture {architecture!r} is unknown: use {EMBEDDED}, torchvision:NAME, timm:NAME, "
            "python:package.module:factory, or weights that are a .pt2 program"
        )
    if library in _NAMES and (base := name.split(".")[0]) not in (known := _NAMES[library]()):
        near = ", ".join(nearest(base, known))
        raise ModelLoadError(f"architecture {architecture!r} is unknown; nearest: {near or 'none'}")


def build(architecture: str, class_count: int, options: Mapping[str, Any]) -> nn.Module:
    """Makes a network with weights that are still to be loaded.

    Args:
        architecture: `torchvision:NAME`, `timm:NAME`, `python:package.module:factory` or the embedded one. A factory of
            the last but one is called as timm's are: with `num_classes` and the options.
        class_count: Number of classes.
        options: Further arguments of the factory.

    Raises:
        ModelLoadError: There is no such architecture, or it has no such option.
    """
    library, _, name = architecture.partition(":")
    given = {"num_classes": class_count, **options}
    try:
        match library:
            case "embedded":
                module = timm.create_model("tf_efficientnet_lite0", pretrained=False, **given)
            case "torchvision":
                if name in ("googlenet", "inception_v3"):
                    # As torchvision has it with its own weights, which saw pixels in -1..1: what differs is no entry.
                    given = {"transform_input": True, **given}
                module = torchvision.models.get_model(name, weights=None, **given)
            case "timm":
                module = timm.create_model(name, pretrained=False, **given)
            case "python":
                module = _factory(name)(**given)
            case _:
                raise ValueError("no such library")
    except Exception as error:
        # Factories are other people's code: whatever they raise means that this network cannot be had.
        raise ModelLoadError(f"architecture {architecture!r} with {given} cannot be made: {one_line(error)}") from error
    if not isinstance(module, nn.Module):
        raise ModelLoadError(f"architecture {architecture!r} is no torch.nn.Module but a {type(module).__name__}")
    return module


def default_preprocessing(architecture: str, weights: Path | str | None = None) -> Preprocessing:
    """Returns what an architecture expects of an image, as its library says; ImageNet's where nobody says.

    Args:
        architecture: As of `build`.
        weights: Weights of torchvision's by name, or a file, which says nothing.
    """
    library, _, name = architecture.partition(":")
    if architecture == EMBEDDED:
        # The shorter side is the input itself, without the margin of evaluation protocols: an explanation should see as
        # much of the photograph as the network can.
        return Preprocessing(resize=224, interpolation="bicubic", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    if library == "torchvision":
        return _of_torchvision(name, weights if isinstance(weights, str) else "DEFAULT")
    if library == "timm" and (config := timm.models.get_pretrained_cfg(name)) is not None:
        return _of_timm(config)
    return Preprocessing()


def _of_torchvision(name: str, weights: str) -> Preprocessing:
    members = torchvision.models.get_model_weights(name)
    if weights not in members.__members__ and weights != "DEFAULT":
        known = ", ".join(members.__members__)
        raise ValueError(f"torchvision has no weights {weights!r} of {name}; known: {known}")
    transforms = getattr(members, weights).transforms()
    (crop,), (resize,) = transforms.crop_size, transforms.resize_size
    return Preprocessing(
        height=crop,
        width=crop,
        resize=max(resize, crop),
        interpolation=transforms.interpolation.value,
        mean=tuple(transforms.mean),
        std=tuple(transforms.std),
    )


def _of_timm(config: Any) -> Preprocessing:
    height, width = config.input_size[1:]
    return Preprocessing(
        height=height,
        width=width,
        resize=max(height, width, floor(min(height, width) / config.crop_pct)),
        fit=_FIT.get(config.crop_mode, "crop"),  # type: ignore[arg-type]  # the values are
        interpolation=config.interpolation if config.interpolation in ("bilinear", "bicubic") else "bicubic",
        mean=tuple(config.mean),
        std=tuple(config.std),
    )


def _factory(path: str) -> Any:
    module, _, name = path.partition(":")
    if not name:
        raise ValueError("write python:package.module:factory")
    return getattr(import_module(module), name)
