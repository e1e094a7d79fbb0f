"""Files of weights: what is read, what is refused, and that what is refused does not run."""

import hashlib
import pickle
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from io import BytesIO
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save
from tests.conftest import jpeg
from tests.repository import SIZE, network, put
from torch import nn

from gradserve_server.models.architectures import EMBEDDED, build
from gradserve_server.models.loading import ModelLoadError, ModelSpec, load
from gradserve_server.models.preprocessing import Preprocessing
from gradserve_server.models.specification import Allowed, spec_of
from gradserve_server.models.weights import fill

CPU = torch.device("cpu")
SPEC = ModelSpec(
    name="net", architecture="timm:test_resnet", class_count=4, preprocessing=Preprocessing(SIZE, SIZE, SIZE)
)


class Malicious:
    """Touches a file when it is unpickled."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self.proof,)


def saved(value: object) -> bytes:
    file = BytesIO()
    torch.save(value, file)
    return file.getvalue()


def spec(folder: Path, name: str, content: bytes, pinned: bool = False) -> ModelSpec:
    digest = put(folder / name, content)
    return replace(SPEC, weights=folder / name, sha256=digest if pinned else "")


def refused(wanted: ModelSpec) -> str:
    with pytest.raises(ModelLoadError) as caught:
        load(wanted, CPU)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pth", "weights.pt"])
@pytest.mark.parametrize("pickled", [partial(pickle.dumps, protocol=2), saved], ids=["bare", "torch"])
def test_a_malicious_pickle_is_refused_and_does_not_run(tmp_path: Path, name: str, pickled) -> None:
    proof = tmp_path / "proof"
    pickle.loads(pickle.dumps(Malicious(proof)))
    assert proof.exists(), "the pickle does no harm, so that its refusal would show nothing"
    proof.unlink()
    wanted = spec(tmp_path, name, pickled({"state_dict": Malicious(proof)}), pinned=True)
    assert name in refused(wanted)
    assert not proof.exists()


def test_a_state_dict_is_read_when_pinned(tmp_path: Path) -> None:
    module = network(0)
    state = module.state_dict()
    images = torch.randn(2, 3, SIZE, SIZE)
    for content in (state, {"epoch": 7, "state_dict": {f"module.{key}": value for key, value in state.items()}}):
        wanted = spec(tmp_path, "weights.pth", saved(content), pinned=True)
        model = load(wanted, CPU)
        torch.testing.assert_close(model.module(images), module(images), rtol=0, atol=1e-4)
        assert model.version == hashlib.sha256((tmp_path / "weights.pth").read_bytes()).hexdigest()
        assert "sha256" in refused(replace(wanted, sha256=""))


def test_what_is_damaged_says_so(tmp_path: Path) -> None:
    state = network(0).state_dict()
    whole = save(state)
    assert "complete" in refused(spec(tmp_path, "weights.safetensors", whole[: len(whole) // 2]))
    assert "complete" in refused(spec(tmp_path, "weights.safetensors", b""))
    assert "complete" in refused(spec(tmp_path, "weights.pth", saved(state)[:5000], pinned=True))
    assert "no file that torch.save made" in refused(spec(tmp_path, "weights.pth", jpeg("coffee"), pinned=True))
    digest = hashlib.sha256(whole).hexdigest()
    wrong = refused(replace(spec(tmp_path, "weights.safetensors", whole), sha256="0" * 64))
    assert digest in wrong
    assert "0" * 64 in wrong
    assert "No such file" in refused(replace(SPEC, weights=tmp_path / "none.safetensors"))
    not_a_number = {key: value * float("nan") if value.is_floating_point() else value for key, value in state.items()}
    assert "finite" in refused(spec(tmp_path, "weights.safetensors", save(not_a_number)))


def test_what_does_not_fit_says_what(tmp_path: Path) -> None:
    state = network(0).state_dict()
    fitting = spec(tmp_path, "weights.safetensors", save(state))
    message = refused(replace(fitting, class_count=5))
    assert "class_count" in message
    assert "[4, " in message
    labels = tmp_path / "labels.txt"
    labels.write_text("a\nb\nc\n")
    assert "3 labels" in refused(replace(fitting, labels=labels))
    assert "nearest: layer4" in refused(replace(fitting, default_layer="layer44"))
    assert "float32, float64" in refused(replace(fitting, precision="float16"))
    assert "sideways" in refused(replace(fitting, options={"sideways": 1}))
    fewer = {key: value for key, value in state.items() if key != "conv1.0.weight"}
    assert "conv1.0.weight" in refused(spec(tmp_path, "weights.safetensors", save(fewer)))
    assert "extra.weight" in refused(
        spec(tmp_path, "weights.safetensors", save(state | {"extra.weight": torch.ones(1)}))
    )
    quantised = state | {"conv1.0.weight": state["conv1.0.weight"].to(torch.int8)}
    assert "quantised" in refused(spec(tmp_path, "weights.safetensors", save(quantised)))
    half = {key: value.half() if value.is_floating_point() else value for key, value in state.items()}
    assert load(spec(tmp_path, "weights.safetensors", save(half)), CPU).precision == "float32"


def test_densenets_are_read_as_torchvision_wrote_them_and_as_it_has_them(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = torchvision.models.densenet121(weights=None, num_classes=3).eval()
    older = {
        re.sub(r"(norm|relu|conv)([12])\.", r"\1.\2.", name): value for name, value in network.state_dict().items()
    }
    assert older.keys() != network.state_dict().keys()
    for state in (older, network.state_dict()):
        made = torchvision.models.densenet121(weights=None, num_classes=3)
        fill(made, state, "net", "torchvision:densenet121")
        assert all(torch.equal(value, network.state_dict()[name]) for name, value in made.state_dict().items())


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_networks_of_pixels_between_minus_one_and_one_get_them(name: str) -> None:
    """torchvision sees to that only where it loads the weights itself."""
    assert build(f"torchvision:{name}", 3, {"init_weights": False}).transform_input
    assert not build(f"torchvision:{name}", 3, {"init_weights": False, "transform_input": False}).transform_input


def test_a_torchscript_program_is_refused(tmp_path: Path) -> None:
    file = BytesIO()
    with pytest.warns(FutureWarning):
        torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)), file)
    assert "TorchScript" in refused(spec(tmp_path, "weights.pt", file.getvalue(), pinned=True))


def test_a_python_factory(tmp_path: Path) -> None:
    # `timm.models.resnet:resnet18` takes num_classes, as any factory must.
    torch.manual_seed(0)
    import timm

    module = timm.create_model("resnet18", num_classes=4)
    wanted = replace(
        spec(tmp_path, "w.safetensors", save(module.state_dict())), architecture="python:timm.models:resnet18"
    )
    assert load(wanted, CPU).class_count == 4
    assert "nowhere" in refused(replace(wanted, architecture="python:timm.models:nowhere"))


def test_the_embedded_architecture_takes_weights_of_ones_own(tmp_path: Path) -> None:
    mine = build(EMBEDDED, 4, {})
    table = {"name": "net", "architecture": EMBEDDED, "weights": "mine.safetensors", "class_count": 4}
    digest = put(tmp_path / "mine.safetensors", save(mine.state_dict()))
    model = load(spec_of(table, tmp_path, Allowed()), CPU)
    assert (model.version, model.class_count) == (digest, 4)
    assert torch.equal(model.module.state_dict()["classifier.weight"], mine.state_dict()["classifier.weight"])
    assert "give `weights` of your own" in refused(spec_of({"name": "net", "class_count": 4}, tmp_path, Allowed()))
