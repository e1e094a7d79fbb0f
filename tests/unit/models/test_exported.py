"""Exported programs: the same network as a state dict and as a `.pt2` is explained alike, and nothing in one is run."""

import hashlib
import json
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.conftest import photograph
from tests.driving import answer_to, relative, rows_of, subject_of
from tests.repository import put
from tests.unit.models.test_weights import Malicious, saved
from torch import Tensor, nn
from torch.nn import functional as F

from gradserve_server.autograd.objective import class_score
from gradserve_server.models.exported import inspected
from gradserve_server.models.loading import ModelLoadError, ModelSpec, load, prepare
from gradserve_server.models.model import Model
from gradserve_server.models.preprocessing import Preprocessing
from gradserve_server.programs.explain import METHODS
from gradserve_server.rpc.support import refusal, supported

CPU = torch.device("cpu")
SIZE = 32
PREPROCESSING = Preprocessing(SIZE, SIZE, SIZE)
NAMED = (
    *("saliency", "deconvnet", "guided_backprop", "grad_cam", "guided_grad_cam", "layer_cam", "score_cam"),
    *("integrated_gradients", "input_x_gradient", "deep_lift", "lrp", "occlusion"),
)


class Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.norm(self.conv(x)), inplace=True)


class Network(nn.Module):
    """All kinds of rectifiers, as modules, functions, in place and bounded, and a module that runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU6(inplace=True))
        self.pool = nn.MaxPool2d(2)
        self.blocks = nn.Sequential(Block(8), Block(8))
        self.act = nn.ReLU()
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.pool(self.stem(x)))
        x = self.act(x.clamp(min=0) - 0.1)
        return self.head(self.act(x).mean((2, 3)))


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    module = Network()
    for submodule in module.modules():
        if isinstance(submodule, nn.BatchNorm2d):
            nn.init.uniform_(submodule.weight, 0.5, 1.5)
            nn.init.normal_(submodule.running_mean, std=0.1)
    return module.eval()


def exported(module: nn.Module, rows: Any = None) -> bytes:
    file = BytesIO()
    dynamic = None if rows is None else ({0: rows},)
    program = torch.export.export(module, (torch.zeros(2, 3, SIZE, SIZE),), dynamic_shapes=dynamic)
    torch.export.save(program, file)
    return file.getvalue()


@pytest.fixture(scope="module")
def program(network: nn.Module) -> bytes:
    return exported(network, torch.export.Dim("rows"))


def loaded(folder: Path, content: bytes) -> Model:
    sha256 = put(folder / "weights.pt2", content)
    spec = ModelSpec("net", "torch.export", folder / "weights.pt2", sha256, class_count=5, preprocessing=PREPROCESSING)
    return load(spec, CPU)


@pytest.fixture(scope="module")
def models(network: nn.Module, program: bytes, tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, Model]:
    plain = prepare(network, "0" * 64, ModelSpec("net", "test:net", preprocessing=PREPROCESSING), CPU)
    return plain, loaded(tmp_path_factory.mktemp("exported"), program)


def test_an_exported_program_has_the_layers_of_its_network(models: tuple[Model, Model], program: bytes) -> None:
    plain, model = models
    assert model.version == hashlib.sha256(program).hexdigest()
    assert model.layers == plain.layers
    assert model.default_layer == plain.default_layer == "blocks"
    assert model.rectifiers == plain.rectifiers
    assert model.operations == plain.operations
    assert [refusal(METHODS[name], model) for name in sorted(METHODS)] == [
        refusal(METHODS[name], plain) for name in sorted(METHODS)
    ]


@pytest.mark.parametrize("name", NAMED)
def test_both_are_explained_alike(models: tuple[Model, Model], name: str) -> None:
    def explained(model: Model) -> Any:
        rows = rows_of(photograph("chelsea"), model)
        method = supported(METHODS[name](), model)
        subject = subject_of(rows, class_score(3), model=model)
        return answer_to(model, method.explain(subject))

    plain, found = (explained(model) for model in models)
    assert relative(found.values, plain.values) < 1e-4


def rewritten(program: bytes, change: Callable[[str, bytes], bytes], extra: dict[str, bytes] | None = None) -> bytes:
    file = BytesIO()
    with zipfile.ZipFile(BytesIO(program)) as archive, zipfile.ZipFile(file, "w") as written:
        for path in archive.namelist():
            written.writestr(path, change(path.partition("/")[2], archive.read(path)))
        root = archive.namelist()[0].partition("/")[0]
        for member, content in (extra or {}).items():
            written.writestr(f"{root}/{member}", content)
    return file.getvalue()


def edited(program: bytes, member: str, edit: Callable[[Any], None]) -> bytes:
    def change(name: str, content: bytes) -> bytes:
        if name != member:
            return content
        parsed = json.loads(content)
        edit(parsed)
        return json.dumps(parsed).encode()

    return rewritten(program, change)


def refused(content: bytes, folder: Path) -> str:
    with pytest.raises(ModelLoadError) as caught:
        loaded(folder, content)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_pytorch_would_run_is_refused_and_does_not_run(program: bytes, tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    touch = f"__import__('pathlib').Path({str(proof)!r}).touch()"
    pickled = saved(Malicious(proof))

    def inputs(name: str, content: bytes) -> bytes:
        return pickled if name == "data/sample_inputs/model.pt" else content

    def expression(parsed: Any) -> None:
        parsed["graph_module"]["graph"]["tensor_values"]["x"]["sizes"][0]["as_expr"]["expr_str"] = touch

    def calling(operator: str) -> Callable[[Any], None]:
        def change(parsed: Any) -> None:
            parsed["graph_module"]["graph"]["nodes"][0]["target"] = operator

        return change

    def weight(parsed: Any) -> None:
        next(iter(parsed["config"].values()))["use_pickle"] = True

    for content, words in (
        (rewritten(program, inputs), "sample inputs"),
        (edited(program, "models/model.json", expression), "no arithmetic"),
        (edited(program, "models/model.json", calling("torch.os.system")), "torch.os.system"),
        # Operators of ATen, too, but of files, and of the state of the thread.
        *(
            (edited(program, "models/model.json", calling(operator)), operator)
            for operator in (
                "torch.ops.aten.from_file.default",
                "torch.ops.aten.save.default",
                "torch.ops.aten.set_grad_enabled.default",
            )
        ),
        (edited(program, "data/weights/model_weights_config.json", weight), "pickle"),
        (rewritten(program, lambda _, content: content, {"data/constants/custom_obj_0": pickled}), "custom_obj_0"),
        (rewritten(program, lambda _, content: content, {"data/aotinductor/model/x.so": b""}), "aotinductor"),
    ):
        assert words in refused(content, tmp_path)
        assert not proof.exists()
    # The first two do harm in PyTorch's own reader, so that their refusal shows something.
    for harmful in (rewritten(program, inputs), edited(program, "models/model.json", expression)):
        with pytest.raises(Exception):  # noqa: B017  # whatever it raises, after the harm
            torch.export.load(BytesIO(harmful))
        assert proof.exists()
        proof.unlink()


def test_what_is_inspected_is_what_is_read(program: bytes) -> None:
    with zipfile.ZipFile(inspected(program, "net.pt2")) as clean, zipfile.ZipFile(BytesIO(program)) as given:
        assert {path: clean.read(path) for path in clean.namelist()} == {
            path: given.read(path) for path in given.namelist()
        }


def test_mistakes_say_what_to_do(network: nn.Module, program: bytes, tmp_path: Path) -> None:
    assert "dynamic_shapes" in refused(exported(Network().eval()), tmp_path)
    assert "complete" in refused(program[: len(program) // 2], tmp_path)
    assert "torch.export.save" in refused(saved(network.state_dict()), tmp_path)
    training = Network().train()
    assert "eval()" in refused(exported(training, torch.export.Dim("rows")), tmp_path)
    put(tmp_path / "weights.pt2", program)
    spec = ModelSpec("net", "torch.export", tmp_path / "weights.pt2", preprocessing=PREPROCESSING)
    with pytest.raises(ModelLoadError, match="sha256"):
        load(spec, CPU)
    sha256 = hashlib.sha256(program).hexdigest()
    with pytest.raises(ModelLoadError, match="32"):
        load(ModelSpec("net", "torch.export", tmp_path / "weights.pt2", sha256, preprocessing=Preprocessing()), CPU)
