"""The transformer network against the published one, composed here of torch's functions, and its files."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tests.driving import relative

from gradserve_server.errors import NotFound
from gradserve_server.models.loading import ModelLoadError
from gradserve_server.models.repository import Repository
from gradserve_server.models.stylizer import EMBEDDED_STYLIZERS, StylizerSpec, load_stylizer, read_stylizer_specs
from gradserve_server.models.transformer_network import TransformerNetwork

CPU = torch.device("cpu")
State = dict[str, torch.Tensor]


def published(state: State, images: torch.Tensor) -> torch.Tensor:
    """The network of the PyTorch examples, by the names of its checkpoints."""

    def convolved(values: torch.Tensor, name: str, stride: int = 1) -> torch.Tensor:
        weight, bias = state[f"{name}.conv2d.weight"], state[f"{name}.conv2d.bias"]
        around = [weight.shape[-1] // 2] * 4
        return F.conv2d(F.pad(values, around, mode="reflect"), weight, bias, stride)

    def normal(values: torch.Tensor, name: str) -> torch.Tensor:
        return F.instance_norm(values, weight=state[f"{name}.weight"], bias=state[f"{name}.bias"])

    values = images
    for number, stride in ((1, 1), (2, 2), (3, 2)):
        values = F.relu(normal(convolved(values, f"conv{number}", stride), f"in{number}"))
    for number in range(1, 6):
        changed = F.relu(normal(convolved(values, f"res{number}.conv1"), f"res{number}.in1"))
        values = values + normal(convolved(changed, f"res{number}.conv2"), f"res{number}.in2")
    for number in (1, 2):
        larger = F.interpolate(values, scale_factor=2, mode="nearest")
        values = F.relu(normal(convolved(larger, f"deconv{number}"), f"in{number + 3}"))
    return convolved(values, "deconv3")


def network(channels: int = 4) -> TransformerNetwork:
    """A network none of whose parameters is trivial."""
    generator = torch.Generator().manual_seed(5)
    made = TransformerNetwork(channels)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    return made


def images(height: int, width: int, rows: int = 1) -> torch.Tensor:
    return 255 * torch.rand(rows, 3, height, width, generator=torch.Generator().manual_seed(height))


def test_it_has_the_parameters_of_the_published_network() -> None:
    assert sum(parameter.numel() for parameter in TransformerNetwork().parameters()) == 1_679_235


def test_it_computes_what_the_published_network_does() -> None:
    made = network().double()
    given = images(24, 32, rows=2).double()
    with torch.no_grad():
        assert relative(made(given), published(made.state_dict(), given)) < 1e-12


@pytest.mark.parametrize(("height", "width"), [(5, 5), (17, 30), (31, 18)])
def test_an_image_of_any_size_keeps_it(height: int, width: int) -> None:
    made, given = network().double(), images(height, width).double()
    with torch.no_grad():
        found = made(given)
    assert found.shape == (1, 3, height, width)
    torch.testing.assert_close(found, published(made.state_dict(), given)[..., :height, :width])


def test_old_checkpoints_and_half_precision_load(tmp_path: Path) -> None:
    made = network(8)
    state = {name: value.half() for name, value in made.state_dict().items()}
    state |= {"in1.running_mean": torch.zeros(8), "res1.in2.running_var": torch.ones(32)}
    save_file(state, tmp_path / "old.safetensors")
    loaded = load_stylizer(StylizerSpec("old", tmp_path / "old.safetensors"), CPU)
    assert loaded.is_stylizer
    given = images(20, 20)
    with torch.no_grad():
        assert loaded.module(given).dtype == torch.float32
        assert relative(loaded.module(given), made(given)) < 2e-2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda state: {key: value for key, value in state.items() if key != "res3.in1.weight"},
            "lacks res3.in1.weight",
        ),
        (lambda state: state | {"in6.weight": torch.zeros(4)}, "also has in6.weight"),
        (
            lambda state: state | {"deconv1.conv2d.weight": torch.zeros(16, 8, 3, 3)},
            r"deconv1.conv2d.weight is \[16, 8",
        ),
        (
            lambda state: {f"net.{key}": value for key, value in state.items()},
            r"lacks conv1.conv2d.weight and \d+ more",
        ),
        (lambda state: state | {"in1.bias": torch.full((4,), torch.nan)}, "not finite: in1.bias"),
    ],
)
def test_another_layout_is_refused_in_one_line(change: object, said: str, tmp_path: Path) -> None:
    save_file(change(network().state_dict()), tmp_path / "x.safetensors")  # type: ignore[operator]
    with pytest.raises(ModelLoadError, match=said) as caught:
        load_stylizer(StylizerSpec("x", tmp_path / "x.safetensors"), CPU)
    assert "\n" not in str(caught.value)


def test_files_that_are_not_those_said_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"nothing")
    for spec, said in (
        (StylizerSpec("x", tmp_path / "x.safetensors"), "not a safetensors file"),
        (StylizerSpec("x", tmp_path / "x.safetensors", "0" * 64), "have SHA-256"),
        (StylizerSpec("x", tmp_path / "y.safetensors"), "y.safetensors"),
    ):
        with pytest.raises(ModelLoadError, match=said):
            load_stylizer(spec, CPU)


def test_tables_name_stylizers(tmp_path: Path) -> None:
    catalogue = tmp_path / "models.toml"
    catalogue.write_text('[[stylizer]]\nname = "mine"\nweights = "mine.safetensors"\nsha256 = "ab"\n')
    assert read_stylizer_specs(catalogue)[0] == StylizerSpec("mine", tmp_path / "mine.safetensors", "ab")
    assert read_stylizer_specs(catalogue)[1:] == read_stylizer_specs(None)
    for wrong, said in (
        ('name = "mine"', "no weights"),
        ('name = "mine"\nweights = "x"\nstyle = "y"', "unknown setting 'style'"),
        ('name = "mine"\nweights = 3', "weights must be a string"),
    ):
        catalogue.write_text(f"[[stylizer]]\n{wrong}\n")
        with pytest.raises(ModelLoadError, match=said):
            read_stylizer_specs(catalogue)


def test_stylizers_are_found_by_name_or_the_nearest_are_named() -> None:
    loaded = tuple(load_stylizer(spec, CPU) for spec in EMBEDDED_STYLIZERS)
    repository = Repository((), loaded)
    for stylizer in loaded:
        assert repository.get_stylizer(stylizer.name) is stylizer
    with pytest.raises(NotFound, match="nearest: stained_glass"):
        repository.get_stylizer("staned_glas")
