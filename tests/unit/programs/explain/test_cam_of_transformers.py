"""Class activation maps of transformers against pytorch-grad-cam, which is told the grid by hand."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass

import pytest
import pytorch_grad_cam as library
import timm
import torch
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from tests.driving import answer_to, model_of, relative, subject_of
from torch import Tensor, nn
from torchvision.models import SwinTransformer, VisionTransformer

from gradserve_server.autograd.objective import class_score
from gradserve_server.programs.explain import METHODS
from gradserve_server.programs.explain.cam import CamMethod, CamNormalization
from gradserve_server.rpc.support import refusal, supported

SIZE, TARGET = 64, 2
ORACLES = {
    "grad_cam": library.GradCAM,
    "hires_cam": library.HiResCAM,
    "layer_cam": library.LayerCAM,
    "xgrad_cam": library.XGradCAM,
}
NAMES = sorted(name for name, method in METHODS.items() if issubclass(method, CamMethod))


@dataclass(frozen=True)
class Case:
    """A network, the layer that is expected by default, and how a person would tell the library of its grid."""

    network: Callable[[], nn.Module]
    layer: str
    reshape: Callable[[Tensor], Tensor]


def torchvision_vit() -> nn.Module:
    network = VisionTransformer(
        image_size=SIZE, patch_size=16, num_layers=3, num_heads=2, hidden_dim=32, mlp_dim=64, num_classes=5
    )
    # Zero before training.
    nn.init.normal_(network.heads.head.weight)
    return network


def torchvision_swin() -> nn.Module:
    return SwinTransformer([4, 4], 16, [1, 2], [2, 4], [4, 4], num_classes=5)


def timm_vit(**options) -> nn.Module:
    return timm.create_model(
        "vit_tiny_patch16_224", img_size=SIZE, depth=3, embed_dim=32, num_heads=2, num_classes=5, **options
    )


def timm_swin() -> nn.Module:
    return timm.create_model(
        "swin_tiny_patch4_window7_224", img_size=SIZE, window_size=4, depths=(1, 2), num_heads=(2, 4), embed_dim=16,
        num_classes=5,
    )  # fmt: skip


def last(output: Tensor) -> Tensor:
    return output.permute(0, 3, 1, 2)


def tokens(extra: int) -> Callable[[Tensor], Tensor]:
    return lambda output: output[:, extra:].reshape(output.shape[0], 4, 4, -1).permute(0, 3, 1, 2)


CASES = {
    "torchvision ViT": Case(torchvision_vit, "encoder.layers.encoder_layer_2.ln_1", tokens(1)),
    "torchvision Swin": Case(torchvision_swin, "permute", lambda output: output),
    "timm ViT": Case(timm_vit, "blocks.2.norm1", tokens(1)),
    "timm ViT with registers": Case(lambda: timm_vit(reg_tokens=4), "blocks.2.norm1", tokens(5)),
    "timm Swin": Case(timm_swin, "norm", last),
}


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture(scope="module")
def network(case: Case) -> nn.Module:
    torch.manual_seed(1)
    return case.network().eval()


@pytest.fixture(scope="module")
def model(network: nn.Module):
    return model_of(deepcopy(network), size=SIZE)


def image(dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(3)).to(dtype)


def map_of(model, method: CamMethod, rows: Tensor, target: int = TARGET) -> Tensor:
    program = supported(method, model).explain(subject_of(rows, class_score(target), model=model))
    return answer_to(model, program).values


def test_the_default_layer_is_the_one_practitioners_use(case: Case, model) -> None:
    assert model.default_layer == case.layer


@pytest.mark.parametrize("name", NAMES)
def test_every_map_shows_something(model, name: str) -> None:
    assert not refusal(METHODS[name], model)
    for target in range(5):
        if map_of(model, METHODS[name](), image(), target).any():
            break
    else:
        pytest.fail("the map is empty for every class")
    signed = map_of(model, METHODS[name](relu=False), image(), target)
    assert signed.max() > signed.min()


@pytest.mark.parametrize("name", ORACLES)
def test_maps_are_those_of_pytorch_grad_cam_told_the_grid(case: Case, network, model, name: str) -> None:
    twin = deepcopy(network).requires_grad_()
    layer = twin.get_submodule(case.layer)
    with ORACLES[name](model=twin, target_layers=[layer], reshape_transform=case.reshape) as cam:
        for target in range(5):
            expected = cam(input_tensor=image(), targets=[ClassifierOutputTarget(target)])[0]
            if expected.any():
                break
    method = METHODS[name](normalization=CamNormalization.MIN_MAX)
    assert relative(map_of(model, method, image(), target), expected) < 1e-4


def test_a_cell_of_the_map_is_where_its_patch_is() -> None:
    """A bright patch in a corner, through a network of patches alone: the map lights up there and nowhere else."""
    torch.manual_seed(0)
    network = timm_vit(global_pool="avg", fc_norm=False)
    for block in network.blocks:
        # No mixing of positions.
        nn.init.zeros_(block.attn.proj.weight)
        nn.init.zeros_(block.attn.proj.bias)
    network.pos_embed.data.zero_()
    model = model_of(network, size=SIZE)
    black = torch.zeros(1, 3, SIZE, SIZE)
    for row, column in ((0, 0), (0, 3), (2, 1)):
        spot = black.clone()
        spot[:, :, row * 16 : row * 16 + 16, column * 16 : column * 16 + 16] = torch.randn(3, 16, 16)
        maps = [map_of(model, METHODS["hires_cam"](("blocks.1",), relu=False), rows) for rows in (spot, black)]
        brightest = int((maps[0] - maps[1]).abs().argmax())
        assert (brightest // SIZE // 16, brightest % SIZE // 16) == (row, column)


def test_a_channel_is_ablated_at_the_positions_only(network: nn.Module, model) -> None:
    """By a hook that knows nothing of grids but what a person would tell it."""
    layer = model.layer(model.default_layer)
    extra = layer.grid.extra_tokens
    channel = -3 if len(layer.shape) == 3 and layer.kind == "Permute" else -1
    twin = deepcopy(network)

    def ablate(_module: nn.Module, _inputs: tuple, output: Tensor) -> Tensor:
        changed = output.clone()
        changed[:, extra:].select(channel, index).zero_()
        return changed

    with torch.no_grad():
        clean = twin(image())[0, TARGET]
        activations: list[Tensor] = []
        handle = twin.get_submodule(layer.name).register_forward_hook(lambda *call: activations.append(call[2].clone()))
        twin(image())
        handle.remove()
        grid = layer.as_grid(activations[0])[0]
        expected = torch.zeros(grid.shape[1:])
        for index in range(len(grid)):
            handle = twin.get_submodule(layer.name).register_forward_hook(ablate)
            expected += (clean - twin(image())[0, TARGET]) * grid[index]
            handle.remove()
    method = METHODS["ablation_cam"](relu=False)
    assert relative(map_of(model, method, image()), method.interpolation(expected, like=image())) < 1e-4
