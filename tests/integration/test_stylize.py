"""Stylize over a real channel: events, results, refusals, ends."""

import asyncio

import grpc
import numpy as np
import pytest
from PIL import Image
from tests.conftest import jpeg, photograph
from tests.serving import sample

from gradserve import Client, Progress, StylizeResult, aio
from gradserve.cli import main
from gradserve.errors import DeadlineExceeded, GradserveError, InvalidRequest, NotFound, Unsupported
from gradserve.v1 import explainer_service_pb2_grpc, stylize_pb2
from gradserve_server.app import Server

CAT, CUP = jpeg("chelsea"), jpeg("coffee")
# Small and quick: the network of ten classes in float64.
SMALL = {"model": "in_float64", "size": 48, "seed": 3}


def test_progress_comes_first_and_the_result_last(client: Client) -> None:
    events = list(client.stylize(CAT, CUP, steps=9, preview_interval_steps=4, every_event=True, **SMALL))
    *progress, result = events
    assert isinstance(result, StylizeResult)
    assert all(isinstance(event, Progress) for event in progress)
    steps = [event.step for event in progress]
    assert steps == sorted(set(steps))
    assert steps[-1] == 9
    assert {event.step_count for event in progress} == {9}
    assert {event.step for event in progress if event.preview} == {4, 8}
    assert all(event.preview.size == (48, 32) for event in progress if event.preview)
    for event in progress:
        assert event.value == pytest.approx(result.losses[event.step - 1], rel=1e-6)
    assert result.image.size == (48, 32)
    assert result.stop_reason == "completed"
    assert len(result.losses) == 9
    assert result.losses[-1] < result.losses[0]
    assert result.loss_terms.style > 0
    assert result.metadata.seed == 3
    # Content and style, which are alike in shape; nine steps; the terms at the end.
    assert result.metadata.pass_count == 11
    assert result.metadata.model == "in_float64"


def test_the_embedded_network_stylises_at_its_defaults(client: Client) -> None:
    result = client.stylize(CAT, CUP, size=96, steps=15).result()
    assert result.image.size == (96, 64)
    assert result.losses[-1] < 0.5 * result.losses[0]


def test_the_seed_reported_reproduces_the_answer(client: Client) -> None:
    given = {**SMALL, "seed": None, "start": "noise", "steps": 4}
    first = client.stylize(CAT, CUP, **given).result()
    again = client.stylize(CAT, CUP, **{**given, "seed": first.metadata.seed}).result()
    np.testing.assert_allclose(np.asarray(again.image, float), np.asarray(first.image, float), atol=1)
    other = client.stylize(CAT, CUP, **{**given, "seed": first.metadata.seed + 1}).result()
    assert np.abs(np.asarray(other.image, float) - np.asarray(first.image, float)).mean() > 5


def test_styles_layers_and_weights_reach_the_program(client: Client, tmp_path) -> None:
    def first_loss(style: object, **given: object) -> float:
        bare = {"content_weight": 0.0, "total_variation_weight": 0.0, "steps": 1}
        return float(client.stylize(CAT, style, **{**SMALL, **bare, **given}).result().losses[0])

    cup, rocket = tmp_path / "cup.jpg", tmp_path / "rocket.jpg"
    cup.write_bytes(CUP)
    rocket.write_bytes(jpeg("rocket"))
    one, both = first_loss(CUP), first_loss([CUP, jpeg("rocket")])
    assert first_loss(CUP, style_weight=60.0) == pytest.approx(2 * one, rel=1e-5)
    assert first_loss({cup: 2.0, rocket: 1e-6}) == pytest.approx(one, rel=1e-3)
    assert first_loss([(CUP, 5.0), (rocket, 5.0)]) == pytest.approx(both, rel=1e-5)
    assert both != pytest.approx(one, rel=1e-2)
    shallow, deep = first_loss(CUP, style_layers="layer1"), first_loss(CUP, style_layers=["layer2"])
    mixed = first_loss(CUP, style_layers={"layer1": 3.0, "layer2": 1.0})
    assert mixed == pytest.approx((3 * shallow + deep) / 4, rel=1e-5)
    # From the content itself the content term is nothing, the total variation something.
    assert first_loss(CUP, content_weight=100.0, content_layers="layer1") == pytest.approx(one, rel=1e-5)
    assert first_loss(CUP, total_variation_weight=1.0) > one + 0.01


def test_the_terms_of_the_loss_are_told_apart(client: Client) -> None:
    """A style that hardly counts leaves the photograph as it is: all of its content, nothing of the style."""
    weights = {"content_weight": 1.0, "style_weight": 1e-6, "total_variation_weight": 0.0}
    result = client.stylize(CAT, CUP, steps=1, start="content", **weights, **SMALL).result()
    terms, pixels = result.loss_terms, np.asarray(result.image) / 255
    down, across = (np.abs(np.diff(pixels, axis=axis)).sum() for axis in (0, 1))
    assert terms.content == pytest.approx(0, abs=1e-6)
    assert terms.style == pytest.approx(result.losses[0] / 1e-6, rel=1e-3)
    assert terms.total_variation == pytest.approx((down + across) / (48 * 32), rel=1e-3)
    # Of its own style it has everything.
    assert client.stylize(CAT, CAT, steps=1, start="content", **weights, **SMALL).result().loss_terms.style < 1e-6


def test_outside_the_mask_the_photograph_stays(client: Client) -> None:
    cat = photograph("chelsea")[100:148, 100:172]
    mask = np.zeros((24, 36, 3), np.uint8)
    mask[:, :20] = 255
    given = {"model": "in_float64", "steps": 12, "optimizer": "adam", "pyramid_levels": 1}
    result = client.stylize(cat, CUP, mask=mask, style_weight=1000.0, **given).result()
    change = np.abs(np.asarray(result.image, float) - cat)
    assert change[:, 44:].max() == 0
    assert change[:, :36].mean() > 3


def test_colours_are_kept(client: Client) -> None:
    given = {**SMALL, "steps": 12, "optimizer": "adam"}
    plain, kept = (client.stylize(CAT, CUP, **given, preserve_colors=wish).result().image for wish in (None, True))
    small = np.asarray(Image.open(_file(CAT)).resize((48, 32), Image.Resampling.BICUBIC), float)

    def chroma_change(image: Image.Image) -> float:
        pixels = np.asarray(image, float)
        weights = np.array([0.299, 0.587, 0.114])
        return float(np.abs((pixels - (pixels @ weights)[..., None]) - (small - (small @ weights)[..., None])).mean())

    assert chroma_change(kept) < 1
    assert chroma_change(plain) > 3


def _file(data: bytes) -> object:
    from io import BytesIO

    return BytesIO(data)


@pytest.mark.parametrize(
    ("shape", "size", "expected"),
    [
        ((16, 16), None, (16, 16)),
        ((16, 160), None, (160, 16)),
        ((400, 60), None, (60, 400)),
        ((50, 50), 16, (16, 16)),
        ((20, 20), 64, (64, 64)),
        ((33, 47), None, (47, 33)),
    ],
)
def test_sizes_that_work(client: Client, shape: tuple[int, int], size: int | None, expected: tuple[int, int]) -> None:
    content = photograph("rocket")[: shape[0], : shape[1]]
    result = client.stylize(content, CUP, steps=2, size=size).result()
    assert result.image.size == expected


PIXELS = photograph("rocket")


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"content": b"no image"}, "content.encoded"),
        ({"content": PIXELS[:8, :8], "size": None}, "content"),
        ({"content": PIXELS[:20, :600], "size": 64}, "size_px"),
        ({"size": 15}, "size_px"),
        ({"size": 1025}, "size_px"),
        ({"seed": -1}, "seed"),
        ({"preview_interval_steps": -1}, "preview_interval_steps"),
        ({"result_before_deadline": -1.0}, "result_before_deadline"),
        ({"style": []}, "optimization.styles"),
        ({"style": [CUP] * 17}, "optimization.styles"),
        ({"style": [CUP, b"no image"]}, "optimization.styles[1].image.encoded"),
        ({"style": [CUP, PIXELS[:8, :]]}, "optimization.styles[1].image"),
        ({"style": [(CUP, 0.0)]}, "optimization.styles[0].weight"),
        ({"style": [(CUP, -1.0)]}, "optimization.styles[0].weight"),
        ({"style": [(CUP, float("nan"))]}, "optimization.styles[0].weight"),
        ({"content_layers": "layr2"}, "optimization.content_layers[0].layer"),
        ({"style_layers": ["layer1", "layer9"]}, "optimization.style_layers[1].layer"),
        ({"style_layers": ["layer1", "layer1"]}, "optimization.style_layers[1].layer"),
        ({"style_layers": {"layer1": 0.0}}, "optimization.style_layers[0].weight"),
        ({"style_layers": ""}, "optimization.style_layers[0].layer"),
        ({"content_weight": -1.0}, "optimization.content_weight"),
        ({"style_weight": 0.0}, "optimization.style_weight"),
        ({"style_weight": float("inf")}, "optimization.style_weight"),
        ({"total_variation_weight": -0.1}, "optimization.total_variation_weight"),
        ({"steps": 0}, "optimization.step_count"),
        ({"steps": 2049}, "optimization.step_count"),
        ({"start": 99}, "optimization.start"),
        ({"optimizer": 99}, "optimization.optimizer"),
        ({"pyramid_levels": 0}, "optimization.pyramid_levels"),
        ({"pyramid_levels": 7}, "optimization.pyramid_levels"),
        ({"pyramid_levels": 3}, "optimization.pyramid_levels"),
        ({"pyramid_levels": 2, "steps": 1, "size": 100}, "optimization.pyramid_levels"),
        ({"mask": PIXELS[:100, :100]}, "optimization.mask"),
        ({"mask": np.zeros((300, 451, 3), np.uint8)}, "optimization.mask"),
        ({"mask": b"no image"}, "optimization.mask.encoded"),
    ],
)
def test_what_is_wrong_is_named(client: Client, server: Server, arguments: dict, field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        client.stylize(**{"content": CAT, "style": CUP, "steps": 2, **SMALL, **arguments}).result()
    assert [violation.field for violation in caught.value.field_violations] == [field]
    assert server.worker.live == 0


def test_a_layer_that_does_not_exist_has_neighbours(client: Client) -> None:
    with pytest.raises(InvalidRequest, match=r"nearest: layer\d, layer\d, layer\d"):
        client.stylize(CAT, CUP, style_layers="layer9", **SMALL).result()


def test_a_photograph_is_made_as_large_as_is_served(client: Client) -> None:
    result = client.stylize(_black(2400, 1600), CUP, model="in_float64", steps=1).result()
    assert result.image.size == (1024, 683)


def test_a_photograph_of_48_megapixels_is_refused_before_any_work(client: Client, server: Server) -> None:
    with pytest.raises(InvalidRequest, match=r"8000 x 6000 .* at most 4000000"):
        client.stylize(_black(8000, 6000), CUP, model="in_float64").result()
    assert client.stylize(_black(2400, 1600), CUP, steps=1, **SMALL).result().image.size == (48, 32)
    assert server.worker.live == 0


def _black(width: int, height: int) -> Image.Image:
    return Image.new("RGB", (width, height))


def test_what_a_model_cannot_is_said(client: Client) -> None:
    with pytest.raises(Unsupported, match="feature maps") as caught:
        client.stylize(CAT, CUP, content_layers="fc", **SMALL).result()
    assert caught.value.field_violations[0].field == "optimization.content_layers[0].layer"
    with pytest.raises(Unsupported, match="give both content_layers and style_layers"):
        client.stylize(CAT, CUP, model="of_fixed_size", size=224).result()
    patches = {"model": "of_fixed_size", "content_layers": "patch_embed.proj", "style_layers": "patch_embed.proj"}
    with pytest.raises(Unsupported, match="224 x 224"):
        client.stylize(CAT, CUP, size=64, **patches).result()


def test_there_are_no_stylizers_yet(client: Client, address: str) -> None:
    with pytest.raises(NotFound, match="no stylizer 'night'; nearest: none") as caught:
        client.stylize(CAT, stylizer="night").result()
    assert caught.value.field_violations[0].field == "feed_forward.stylizer"
    with grpc.insecure_channel(address) as channel:
        call = explainer_service_pb2_grpc.ExplainerServiceStub(channel).Stylize(stylize_pb2.StylizeRequest())
        with pytest.raises(grpc.RpcError) as refused:
            next(call)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "optimization, feed_forward" in refused.value.details()


def test_arguments_that_do_not_go_together_are_refused_by_the_client(client: Client) -> None:
    with pytest.raises(TypeError, match="either"):
        client.stylize(CAT)
    with pytest.raises(TypeError, match="either"):
        client.stylize(CAT, CUP, stylizer="night")
    with pytest.raises(TypeError, match="takes no style_weight"):
        client.stylize(CAT, stylizer="night", style_weight=3.0)
    with pytest.raises(ValueError, match="lbfgs, adam"):
        client.stylize(CAT, CUP, optimizer="sgd")


def test_the_best_image_comes_before_the_deadline(client: Client) -> None:
    given = {**SMALL, "steps": 2000, "size": 128, "pyramid_levels": 1, "optimizer": "adam"}
    result = client.stylize(CAT, CUP, timeout=2.5, result_before_deadline=1.5, **given).result()
    assert result.stop_reason == "deadline"
    assert 0 < len(result.losses) < 2000
    with pytest.raises(DeadlineExceeded):
        client.stylize(CAT, CUP, timeout=0.5, **given).result()


async def test_a_cancelled_call_leaves_at_its_next_step(server: Server, address: str) -> None:
    async with aio.Client(address) as client:
        # More than the usual deadline leaves time for, so that all are let in.
        long = {**SMALL, "steps": 2000, "timeout": 3600}
        running = [client.stylize(CAT, CUP, **{**long, "seed": seed}) for seed in range(3)]
        kept = client.stylize(CAT, CUP, steps=10, **SMALL)
        for call in running:
            assert isinstance(await anext(call), Progress)
        running[0].cancel()
        running[1].cancel()
        async with running[2]:
            pass
        assert (await kept.result()).stop_reason == "completed"
        for _ in range(100):
            if server.worker.live == 0:
                break
            await asyncio.sleep(0.02)
        before = sample(server, "gradserve_pass_rows_count")
        await asyncio.sleep(0.3)
        with pytest.raises(GradserveError):
            await running[0].result()
    assert server.worker.live == 0
    assert sample(server, "gradserve_pass_rows_count") == before


async def test_callers_share_steps_with_each_other_and_with_explain(server: Server, address: str) -> None:
    """Images of 64 x 64 are what the model's own input is, so all rows agree."""
    square = photograph("chelsea")[:256, :256]
    async with aio.Client(address) as client:
        given = {"model": "in_float64", "size": 64, "steps": 12, "pyramid_levels": 1}
        alone = await client.stylize(square, square[::-1].copy(), seed=1, **given).result()
        jobs = [client.stylize(square, square[::-1].copy(), seed=seed, **given).result() for seed in (1, 2, 3)]
        explained = [client.explain(CAT, method="saliency", model="in_float64", overlay=False) for _ in range(4)]
        *together, _, _, _, _ = await asyncio.gather(*jobs, *explained)
    np.testing.assert_allclose(together[0].losses, alone.losses, rtol=1e-5)
    assert max(result.metadata.mean_pass_programs for result in together) > 2


def test_the_command_saves_the_image(address: str, tmp_path, capsys: pytest.CaptureFixture) -> None:
    content, style, output = (tmp_path / name for name in ("cat.jpg", "cup.jpg", "out.png"))
    content.write_bytes(CAT)
    style.write_bytes(CUP)
    arguments = ["--address", address, "stylize", str(content), "--output", str(output)]
    styles = ["--style", str(style), "--style", f"{style}=2.5", "--preserve-colors", "--set", "optimizer=adam"]
    assert main([*arguments, *styles, "--size", "32", "--steps", "3", "--model", "in_float64"]) == 0
    printed = capsys.readouterr().out
    assert "completed after 3 steps" in printed
    with Image.open(output) as saved:
        assert saved.size == (32, 21)
    assert main([*arguments, "--stylizer", "night"]) == 1
    assert "no stylizer 'night'" in capsys.readouterr().err
    assert main(arguments) == 2


def test_the_limits_are_listed(client: Client) -> None:
    limits = client.list_models()[0].limits
    assert limits["stylize_side_px"] == 1024
    assert limits["stylizer_pixels"] == 24_000_000


class TestTrainedNetworks:
    def test_they_are_listed_apart_from_the_models(self, client: Client) -> None:
        names = {stylizer.name for stylizer in client.list_stylizers()}
        assert names == {"stained_glass", "brush_strokes"}
        assert not names & {model.name for model in client.list_models()}

    def test_one_pass_gives_the_style(self, server: Server, client: Client) -> None:
        content = photograph("chelsea")
        before = sample(server, "gradserve_pass_rows_count")
        result = client.stylize(content, stylizer="stained_glass", size=128).result()
        assert sample(server, "gradserve_pass_rows_count") == before + 1
        assert result.image.size == (128, round(128 * content.shape[0] / content.shape[1]))
        assert result.stop_reason == "completed"
        assert result.metadata.model == "stained_glass"
        assert len(result.losses) == 0
        small = np.asarray(Image.fromarray(content).resize(result.image.size, Image.Resampling.BICUBIC), np.float64)
        changed = np.asarray(result.image, np.float64)
        # Another picture, of the same thing.
        assert np.abs(changed - small).mean() > 15
        assert np.corrcoef(changed.mean(2).ravel(), small.mean(2).ravel())[0, 1] > 0.5

    async def test_callers_with_images_of_one_size_share_a_pass(self, server: Server, address: str) -> None:
        content = photograph("chelsea")
        async with aio.Client(address) as client:
            one = await client.stylize(content, stylizer="brush_strokes", size=96).result()
            calls = [client.stylize(content, stylizer="brush_strokes", size=96).result() for _ in range(6)]
            results = await asyncio.gather(*calls)
        assert max(result.metadata.mean_pass_programs for result in results) > 1
        for result in results:
            assert np.abs(np.asarray(result.image, int) - np.asarray(one.image, int)).max() <= 1

    def test_what_is_too_large_is_refused_by_its_field(self, client: Client) -> None:
        with pytest.raises(InvalidRequest) as caught:
            client.stylize(CAT, stylizer="stained_glass", size=20_000).result()
        assert caught.value.field_violations[0].field == "size_px"
        assert "24000000" in str(caught.value)
        # From its size alone: made, it would have gigabytes.
        with pytest.raises(InvalidRequest, match="32768 x 32768"):
            client.stylize(PIXELS[:16, :16], stylizer="stained_glass", size=32_768).result()

    def test_an_unknown_one_is_not_found_and_the_nearest_is_named(self, client: Client) -> None:
        with pytest.raises(NotFound) as caught:
            client.stylize(CAT, stylizer="stained_glas").result()
        assert "stained_glass" in str(caught.value)
