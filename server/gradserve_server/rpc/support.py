"""What a method can do with a model: asked before a request is served, and told by ListModels."""

from dataclasses import fields, replace

from gradserve_server.errors import InvalidInput, Unsupported
from gradserve_server.models.layers import Layer
from gradserve_server.models.model import Model
from gradserve_server.programs.explain.method import Method


def takes_layers(method: type[Method]) -> bool:
    """Whether a method works on layers."""
    return any(field.name == "layers" for field in fields(method))  # type: ignore[arg-type]  # all are dataclasses


def refusal(method: type[Method], model: Model) -> str:
    """Says why a method cannot serve a model; empty when it can."""
    if method.needs_rectifiers and not model.rectifiers.count:
        return f"{method.name()} changes how gradients pass ReLU and ReLU6, and model {model.name!r} has neither"
    if method.needs_rectifiers and not model.rectifiers.rows_first:
        return (
            f"{method.name()} needs rectifiers that keep images in the first dimension; model {model.name!r} does not"
        )
    if takes_layers(method) and not model.default_layer:
        return f"{method.name()} needs a deep layer of shape [channels, height, width]; model {model.name!r} has none"
    return ""


def supported(method: Method, model: Model) -> Method:
    """Returns the method with its layers filled in.

    Raises:
        Unsupported: The model cannot serve it.
        InvalidInput: It names a layer that does not exist or has no positions.
    """
    for field in fields(method):  # type: ignore[arg-type]  # all are dataclasses
        if isinstance(inner := getattr(method, field.name), Method):
            method = replace(method, **{field.name: supported(inner, model)})  # type: ignore[type-var]  # likewise
    if reason := refusal(type(method), model):
        raise Unsupported(reason, reason="METHOD_UNSUPPORTED", metadata={"method": method.name(), "model": model.name})
    if not takes_layers(type(method)):
        return method
    names: tuple[str, ...] = getattr(method, "layers", ()) or (model.default_layer,)
    for index, name in enumerate(names):
        try:
            _check_positions(model.layer(name), method, model)
        except InvalidInput as error:
            error.field = f"layers[{index}]"
            raise
    return replace(method, layers=names)  # type: ignore[type-var]  # all are dataclasses


def _check_positions(layer: Layer, method: Method, model: Model) -> None:
    if not layer.spatial:
        shape = ", ".join(map(str, layer.shape))
        raise InvalidInput(
            f"layer {layer.name!r} has shape [{shape}]; {method.name()} needs [channels, height, width] with more than "
            f"one position, for example {model.default_layer!r}",
            reason="LAYER_NOT_SPATIAL",
            metadata={"layer": layer.name, "shape": shape, "default_layer": model.default_layer},
        )
