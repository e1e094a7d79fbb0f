"""What a method can do with a model: asked before a request is served, and told by ListModels."""

from dataclasses import fields, replace

from gradserve_server.errors import InvalidInput, RequestError, Unsupported
from gradserve_server.models.layers import Layer
from gradserve_server.models.model import Model
from gradserve_server.programs.explain.method import Method

POSITIONS = "[channels, height, width], [height, width, channels] or tokens"


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
    if method.propagates and model.operations.others:
        others = ", ".join(model.operations.others)
        return (
            f"{method.name()} has rules for linear operations, elementwise activations and maximum pooling only; model "
            f"{model.name!r} also uses {others}"
        )
    if method.propagates and model.arithmetic.inside is not None:
        # Its rules divide by small sums, of which sixteen bits leave nothing.
        return f"{method.name()} needs float32 or more; model {model.name!r} computes in {model.precision}"
    if method.needs_zero_kept and model.operations.shifting:
        shifting = ", ".join(model.operations.shifting)
        return f"{method.name()} needs activations that are 0 at 0; model {model.name!r} uses {shifting}"
    if method.propagates and not model.operations.rows_first:
        return (
            f"{method.name()} needs activations that keep images in the first dimension; model {model.name!r} does not"
        )
    if method.needs_attention and model.attention.obstacle:
        return (
            f"{method.name()} follows attention through all blocks, which must be over all tokens of the image; model "
            f"{model.name!r} has no such attention: {model.attention.obstacle}"
        )
    if takes_layers(method) and not model.default_layer:
        return f"{method.name()} needs a deep layer with positions ({POSITIONS}); model {model.name!r} has none"
    return ""


def supported(method: Method, model: Model) -> Method:
    """Returns the method with its layers filled in.

    Raises:
        Unsupported: The model cannot serve it.
        InvalidInput: It names a layer that does not exist or has no positions, or a parameter does not fit the size
            of the model's input.
    """
    for field in fields(method):  # type: ignore[arg-type]  # all are dataclasses
        if isinstance(inner := getattr(method, field.name), Method):
            try:
                method = replace(method, **{field.name: supported(inner, model)})  # type: ignore[type-var]  # likewise
            except RequestError as error:
                raise error.within(f"{field.name}.{inner.name()}") from error.__cause__
    if reason := refusal(type(method), model):
        raise Unsupported(reason, reason="METHOD_UNSUPPORTED", metadata={"method": method.name(), "model": model.name})
    method.check(model.preprocessing.height, model.preprocessing.width)
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
            f"layer {layer.name!r} has shape [{shape}]; {method.name()} needs more than one position of the image "
            f"({POSITIONS}), for example {model.default_layer!r}",
            reason="LAYER_NOT_SPATIAL",
            metadata={"layer": layer.name, "shape": shape, "default_layer": model.default_layer},
        )
