"""Attention rollout against attention that hooks read, rolled out by NumPy in float64."""

from copy import deepcopy

import numpy as np
import pytest
import timm
import torch
from tests.driving import answer_to, drive, model_of, relative, subject_of
from tests.unit.programs.explain.properties import SIZE, check, gradient_of, image
from torch import Tensor, nn
from torchvision.models import ConvNeXt, SwinTransformer, VisionTransformer
from torchvision.models.convnext import CNBlockConfig

from gradserve_server.autograd.objective import class_score
from gradserve_server.errors import InvalidInput, Unsupported
from gradserve_server.programs.explain.attention_rollout import AttentionRollout, HeadFusion
from gradserve_server.programs.explain.explanation import explain
from gradserve_server.programs.explain.interpolation import Interpolation
from gradserve_server.programs.explain.occlusion import Occlusion
from gradserve_server.programs.explain.saliency import Saliency
from gradserve_server.rpc.support import refusal, supported

DEPTH, HEADS = 3, 2
OPTIONS = [(fusion, ratio) for fusion in HeadFusion for ratio in (0.0, 0.6)]


def timm_vit(name: str = "vit_tiny_patch16_224", **options) -> nn.Module:
    options = {"patch_size": 8, "img_size": SIZE, "depth": DEPTH, "embed_dim": 32, "num_heads": HEADS, **options}
    return decided(timm.create_model(name, num_classes=5, **options))


def torchvision_vit() -> nn.Module:
    network = VisionTransformer(SIZE, 8, DEPTH, HEADS, 32, 64, num_classes=5)
    nn.init.normal_(network.heads.head.weight)
    return decided(network)


def decided(network: nn.Module) -> nn.Module:
    """Returns the network in float64, attending to some tokens more than to others as trained ones do."""
    for name, parameter in network.named_parameters():
        if name.endswith(("qkv.weight", "in_proj_weight")):
            nn.init.normal_(parameter, std=0.5)
        elif "pos_embed" in name:
            nn.init.normal_(parameter)
    return network.double().eval().requires_grad_(False)


def unfused() -> nn.Module:
    network = timm_vit()
    for block in network.blocks:
        block.attn.fused_attn = False
    return network


# The network, its tokens before the image's, and those of all its tokens that its classifier reads.
POSITIONS = range(16)
CASES = {
    "torchvision": (torchvision_vit, 1, [0]),
    "timm": (timm_vit, 1, [0]),
    "timm, softmax by hand": (unfused, 1, [0]),
    "timm, registers": (lambda: timm_vit(reg_tokens=4), 5, [0]),
    "timm, distilled": (lambda: timm_vit("deit_tiny_distilled_patch16_224"), 2, [0, 1]),
    "timm, mean of positions": (lambda: timm_vit(global_pool="avg"), 1, [1 + one for one in POSITIONS]),
    "timm, register and no class token": (
        lambda: timm_vit(global_pool="avg", class_token=False, reg_tokens=1), 1, [1 + one for one in POSITIONS],
    ),
    "timm, positions only": (lambda: timm_vit(global_pool="avg", class_token=False), 0, list(POSITIONS)),
}  # fmt: skip


def attention_by_hooks(network: nn.Module, rows: Tensor) -> list[np.ndarray]:
    """Returns the attention of each block, [heads, tokens, tokens], read off the modules of a copy."""
    twin, found = deepcopy(network), []

    def of_qkv(attention: nn.Module, output: Tensor) -> None:
        query, key, _ = output[0].view(-1, 3, HEADS, attention.head_dim).permute(1, 2, 0, 3).numpy()
        scores = np.exp(np.einsum("hqd,hkd->hqk", query, key) / np.sqrt(attention.head_dim))
        found.append(scores / scores.sum(-1, keepdims=True))

    for module in twin.modules():
        if isinstance(module, nn.MultiheadAttention):
            forward = module.forward

            def watched(*args, forward=forward, **kwargs):
                output, weights = forward(*args, **{**kwargs, "need_weights": True, "average_attn_weights": False})
                found.append(weights[0].numpy())
                return output, weights

            module.forward = watched
        elif hasattr(module, "qkv"):
            module.qkv.register_forward_hook(lambda _module, _args, output, attention=module: of_qkv(attention, output))
    twin(rows)
    assert len(found) == DEPTH
    return found


def rolled_out(attention: list[np.ndarray], fusion: HeadFusion, ratio: float) -> np.ndarray:
    flow = np.eye(attention[0].shape[-1])
    for heads in attention:
        matrix = {HeadFusion.MEAN: np.mean, HeadFusion.MAX: np.max, HeadFusion.MIN: np.min}[fusion](heads, axis=0)
        order = np.argsort(matrix.ravel())
        matrix.ravel()[order[: int(ratio * matrix.size)]] = 0
        mixed = 0.5 * matrix + 0.5 * np.eye(len(matrix))
        flow = np.matmul(mixed / mixed.sum(-1, keepdims=True), flow)
    return flow


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest):
    torch.manual_seed(2)
    make, extra, read = CASES[request.param]
    network = make()
    return network, model_of(deepcopy(network), size=SIZE, precision="float64"), extra, read


@pytest.mark.parametrize(("fusion", "ratio"), OPTIONS)
def test_agrees_with_hooks_and_numpy(case, fusion: HeadFusion, ratio: float) -> None:
    network, model, extra, read = case
    rows = image()
    flow = rolled_out(attention_by_hooks(network, rows), fusion, ratio)
    expected = flow[read].mean(0)[extra:].reshape(4, 4).repeat(8, 0).repeat(8, 1)
    method = supported(AttentionRollout(fusion, ratio, Interpolation.NEAREST), model)
    found = answer_to(model, method.explain(subject_of(rows, class_score(0), model=model))).values
    assert relative(found, expected) < 1e-9
    assert expected.max() > 2 * expected.min(), "attention that is the same everywhere shows nothing"


def test_a_patch_that_all_look_at_lights_up_where_it_is() -> None:
    """Keys of one embedding alone: all tokens attend to the patch of the brightest colour."""
    torch.manual_seed(0)
    model = model_of(timm_vit(depth=1), size=SIZE, precision="float64")
    attention = model.module.blocks[0].attn
    nn.init.zeros_(attention.qkv.weight)
    attention.qkv.bias.data[:32] = 1
    attention.qkv.weight.data[32:64] = 10
    model.module.blocks[0].norm1.weight.data = torch.arange(32.0).double()
    model.module.pos_embed.data.zero_()
    for row, column in ((0, 0), (1, 3), (2, 1)):
        rows = torch.zeros(1, 3, SIZE, SIZE, dtype=torch.float64)
        rows[:, :, row * 8 : row * 8 + 8, column * 8 : column * 8 + 8] = torch.randn(3, 8, 8, dtype=torch.float64)
        cells = [
            answer_to(model, AttentionRollout().explain(subject_of(sign * rows, class_score(0), model=model))).values[
                4::8, 4::8
            ]
            for sign in (1, -1)
        ]
        # Of a patch and its negative, one is looked at more than grey patches, the other less.
        different = (cells[0] - cells[1]).abs()
        assert divmod(int(different.argmax()), 4) == (row, column)


def test_attention_and_gradients_of_one_image_share_a_forward() -> None:
    torch.manual_seed(2)
    network = torchvision_vit()
    model = model_of(deepcopy(network), size=SIZE, precision="float64")
    rows, pixel = image(), torch.zeros(1, 3, 1, 1, dtype=torch.float64)
    methods = [Saliency(), AttentionRollout(), AttentionRollout(HeadFusion.MIN)]
    program = explain(
        rows, pixel, pixel, methods=methods, targets=[class_score(1)], seed=0,
        as_grid=lambda _layer, output: output, as_map=model.attention.as_map,
    )  # fmt: skip
    company = drive(model, program)
    assert company.passes == [(1, 1)]
    gradient, *rollouts = (found.values for found in company.results[0].maps)
    assert relative(gradient, gradient_of(network, rows, 1)[0].abs().amax(0)) < 1e-9
    for method, found in zip(methods[1:], rollouts, strict=True):
        alone = answer_to(model, method.explain(subject_of(rows, class_score(1), model=model))).values
        assert relative(found, alone) < 1e-9


def test_rows_that_ask_for_no_attention_share_the_pass() -> None:
    torch.manual_seed(2)
    model = model_of(timm_vit(), size=SIZE, precision="float64")

    def programs():
        subjects = [subject_of(image(seed), class_score(1), model=model) for seed in range(4)]
        methods = (Occlusion(window_px=16), AttentionRollout(), AttentionRollout(HeadFusion.MIN), AttentionRollout())
        return [method.explain(subject) for method, subject in zip(methods, subjects, strict=True)]

    company = drive(model, *programs(), budget=5)
    assert max(count for _, count in company.passes) > 2
    for index, found in enumerate(company.results):
        assert relative(found.values, answer_to(model, programs()[index]).values) < 1e-9


@pytest.mark.parametrize("name", ["timm", "torchvision"])
def test_properties(name: str) -> None:
    torch.manual_seed(2)
    network = CASES[name][0]()
    check(AttentionRollout(HeadFusion.MAX, 0.5), network=network)


def swin_of_timm() -> nn.Module:
    return timm.create_model(
        "swin_tiny_patch4_window7_224", img_size=64, window_size=4, depths=(1, 2), num_heads=(2, 4), embed_dim=16
    )


REFUSED = {
    "over windows": [lambda: SwinTransformer([4, 4], 16, [1, 2], [2, 4], [4, 4]), swin_of_timm],
    "it has no attention": [lambda: ConvNeXt([CNBlockConfig(8, 16, 1), CNBlockConfig(16, None, 1)])],
    "other tokens in some places": [lambda: timm_vit(global_pool="map", class_token=False, img_size=64)],
}


@pytest.mark.parametrize(
    ("reason", "make"), [(reason, make) for reason, networks in REFUSED.items() for make in networks]
)
def test_networks_without_attention_over_all_tokens_are_refused(reason: str, make) -> None:
    model = model_of(make(), size=64, precision="float64" if "places" in reason else "float32")
    assert reason in refusal(AttentionRollout, model)
    with pytest.raises(Unsupported, match=reason):
        supported(AttentionRollout(), model)


@pytest.mark.parametrize("ratio", [-0.1, 1.0, float("nan")])
def test_limits(ratio: float) -> None:
    with pytest.raises(InvalidInput) as caught:
        AttentionRollout(discard_ratio=ratio)
    assert caught.value.field == "discard_ratio"


def test_of_fused_weights_rows_add_up_to_one() -> None:
    torch.manual_seed(2)
    model = model_of(timm_vit(global_pool="avg", class_token=False), size=SIZE, precision="float64")
    method = AttentionRollout(HeadFusion.MAX, 0.3, Interpolation.NEAREST)
    found = answer_to(model, method.explain(subject_of(image(), class_score(0), model=model))).values
    assert float(found[4::8, 4::8].sum()) == pytest.approx(1, abs=1e-12)
    assert (found >= 0).all()
