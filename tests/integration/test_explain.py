"""Explain, as a caller meets it: real server, real channel, real weights, real photographs."""

import io
import re
from typing import Any

import numpy as np
import PIL.ExifTags
import PIL.Image
import pytest
from tests.conftest import FOUNDING, jpeg, photograph
from tests.serving import served

import gradserve
from gradserve import Client, InvalidRequest, aio


def centre_of_mass(heatmap: np.ndarray) -> tuple[float, float]:
    weights = np.maximum(heatmap, 0)
    rows, columns = np.indices(heatmap.shape)
    return float((rows * weights).sum() / weights.sum()), float((columns * weights).sum() / weights.sum())


@pytest.mark.parametrize(("name", "label"), [("chelsea", "Egyptian cat"), ("coffee", "espresso")])
def test_the_embedded_model_knows_the_photographs(client: Client, name: str, label: str) -> None:
    explanation = client.explain(jpeg(name))
    assert explanation.target.label == label
    assert explanation.predictions[0] == explanation.target
    assert explanation.heatmap.dtype == np.float32
    assert explanation.heatmap.shape == photograph(name).shape[:2]


def test_grad_cam_shows_the_cats_face(client: Client) -> None:
    """The face is in the middle of chelsea, 300 x 451, around row 150, column 220."""
    heatmap = client.explain(jpeg("chelsea"), method="grad_cam").heatmap
    row, column = centre_of_mass(heatmap)
    assert 90 < row < 230
    assert 130 < column < 310


def test_grad_cam_shows_the_cup(client: Client) -> None:
    """The cup of coffee, 400 x 600, is around row 180, column 300."""
    row, column = centre_of_mass(client.explain(jpeg("coffee"), method="grad_cam").heatmap)
    assert 100 < row < 280
    assert 200 < column < 400


def test_what_the_crop_left_out_is_exactly_zero(client: Client) -> None:
    heatmap = client.explain(jpeg("chelsea"), method="saliency").heatmap
    # 300 of 451 columns were seen: from 75.5 to 375.5.
    assert not heatmap[:, :75].any()
    assert not heatmap[:, 377:].any()
    assert (heatmap[:, 80:370] > 0).mean() > 0.99


def test_frames(client: Client) -> None:
    model_input = client.explain(jpeg("coffee"), frame="model_input")
    assert model_input.heatmap.shape == (224, 224)
    assert model_input.overlay.size == (224, 224)
    assert client.explain(jpeg("coffee"), frame="original").overlay.size == (600, 400)


def test_maps_of_a_large_photograph_are_no_larger_than_is_asked_for(client: Client) -> None:
    file = io.BytesIO()
    PIL.Image.fromarray(photograph("coffee")).resize((2400, 1600)).save(file, "JPEG", quality=75)
    methods = ["grad_cam", "saliency", "layer_cam", "hires_cam", "xgrad_cam"]
    with pytest.raises(InvalidRequest, match="max_side") as caught:
        client.explain_many(file.getvalue(), methods=methods)
    assert (caught.value.reason, caught.value.field_violations[0].field) == ("ANSWER_TOO_LARGE", "max_side_px")
    # As large as the refusal says, and no larger.
    (longest,) = map(int, re.findall(r"up to (\d+)", str(caught.value)))
    assert client.explain_many(file.getvalue(), methods=methods, max_side=longest, overlay=False)
    with pytest.raises(InvalidRequest):
        client.explain_many(file.getvalue(), methods=methods, max_side=longest + 3, overlay=False)

    whole, smaller = (client.explain(file.getvalue(), max_side=side) for side in (None, 600))
    assert (whole.heatmap.shape, whole.overlay.size) == ((1600, 2400), (2400, 1600))
    assert (smaller.heatmap.shape, smaller.overlay.size) == ((400, 600), (600, 400))
    expected = whole.heatmap.reshape(400, 4, 600, 4).mean((1, 3))
    assert np.abs(smaller.heatmap - expected).max() < 0.05 * whole.heatmap.max()
    shown = np.asarray(whole.overlay.resize((600, 400), PIL.Image.Resampling.BICUBIC)).astype(int)
    assert np.abs(np.asarray(smaller.overlay) - shown).mean() < 2
    # Nothing is enlarged.
    assert client.explain(jpeg("coffee"), max_side=5000).heatmap.shape == (400, 600)


async def test_what_lies_on_its_side_and_what_was_never_a_file_is_made_smaller_upright(
    client: Client, address: str
) -> None:
    upright = PIL.Image.fromarray(photograph("coffee")).resize((2400, 1600))
    exif = PIL.Image.Exif()
    exif[PIL.ExifTags.Base.Orientation] = 6
    file, turned = io.BytesIO(), io.BytesIO()
    upright.save(file, "JPEG", quality=90)
    upright.transpose(PIL.Image.Transpose.ROTATE_90).save(turned, "JPEG", quality=90, exif=exif)
    pixels = np.asarray(upright.resize((360, 240)), np.float32) / 255
    async with aio.Client(address) as asynchronous:
        found = [await asynchronous.explain(image, max_side=300) for image in (turned.getvalue(), pixels)]
    expected = client.explain(file.getvalue(), max_side=300)
    for one in found:
        assert one.heatmap.shape == (200, 300)
        assert np.abs(one.heatmap - expected.heatmap).max() < 0.15 * expected.heatmap.max()
        assert np.abs(np.asarray(one.overlay).astype(int) - np.asarray(expected.overlay)).mean() < 8


@pytest.mark.parametrize(
    ("given", "said"), [({"max_side": 0}, "at least 1"), ({"frame": "model_input"}, "MODEL_INPUT")]
)
def test_a_longest_side_that_cannot_be_is_refused(client: Client, given: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidRequest, match=said) as caught:
        client.explain(jpeg("coffee"), **{"max_side": 100, **given})
    assert caught.value.field_violations[0].field == "max_side_px"


def test_a_large_jpeg_that_is_decoded_smaller_is_explained_as_the_whole(client: Client) -> None:
    file = io.BytesIO()
    PIL.Image.fromarray(photograph("coffee")).resize((2251, 1501)).save(file, "JPEG", quality=75)
    with served(pass_rows=1, image_oversampling=0) as server, Client(f"127.0.0.1:{server.port}") as decoding_all:
        for frame, shape in (("original", (1501, 2251)), ("model_input", (224, 224))):
            found, expected = (
                each.explain(file.getvalue(), method="grad_cam", frame=frame) for each in (client, decoding_all)
            )
            assert found.heatmap.shape == expected.heatmap.shape == shape
            assert found.target.label == expected.target.label
            assert found.target.probability == pytest.approx(expected.target.probability, abs=0.01)
            assert 0 < np.abs(found.heatmap - expected.heatmap).max() < 0.02 * expected.heatmap.max()
            pictures = [np.asarray(each.overlay).astype(int) for each in (found, expected)]
            assert np.abs(pictures[0] - pictures[1]).mean() < 1
            # On the original an overlay lies on all of its pixels. Beside what the model saw nothing does.
            assert np.array_equal(pictures[0][:, :100], pictures[1][:, :100]) == (frame == "original")


def test_lines_lie_where_the_model_saw_and_a_legend_below(client: Client) -> None:
    """Chelsea is 451 x 300, and the model saw its columns 75 to 375."""
    plain, lined = (
        np.asarray(client.explain(jpeg("chelsea"), method="saliency", seed=0, overlay=given).overlay).astype(int)
        for given in ({}, {"contour_percent": 20, "legend": True})
    )
    assert plain.shape == (300, 451, 3)
    assert lined.shape[0] > 300
    assert lined.shape[1] == 451
    rows, columns = np.nonzero((lined[:300] != plain).any(2))
    assert columns.min() >= 73
    assert 250 < np.ptp(columns) <= 305
    assert np.ptp(rows) > 250


def test_outlines_replace_the_pixels(client: Client) -> None:
    overlay = np.asarray(client.explain(jpeg("coffee"), overlay={"type": "outlines"}).overlay)
    coloured = np.ptp(overlay, axis=2) > 0
    assert 0 < coloured.mean() < 0.05


def test_several_methods_and_targets_in_one_request(client: Client) -> None:
    """They answer as one by one, and share one pass."""
    targets = ["tabby", 282]
    many = client.explain_many(jpeg("chelsea"), methods=FOUNDING, targets=targets, overlay=False)
    assert [(one.method, one.target.index) for one in many] == [
        (method, index) for method in FOUNDING for index in (281, 282)
    ]
    assert many[0].metadata.pass_count == 1
    for one in many:
        alone = client.explain(jpeg("chelsea"), method=one.method, target=one.target.index, overlay=False)
        spread = np.ptp(alone.heatmap)
        assert np.abs(one.heatmap - alone.heatmap).max() < 1e-2 * spread


def test_top_k(client: Client) -> None:
    explained = client.explain_many(jpeg("chelsea"), methods=["grad_cam"], top_k=3, overlay=False)
    assert [one.target for one in explained] == list(explained[0].predictions[:3])
    assert explained[0].target.probability > explained[1].target.probability > explained[2].target.probability


@pytest.mark.parametrize(("count", "listed"), [(1, 1), (7, 7), (100, 10)])
def test_as_many_predictions_as_are_asked_for_and_there_are(client: Client, count: int, listed: int) -> None:
    found = client.explain(jpeg("chelsea"), model="in_float64", prediction_count=count, overlay=False).predictions
    assert len({score.index for score in found}) == len(found) == listed
    assert [score.probability for score in found] == sorted((score.probability for score in found), reverse=True)


def test_targets_differ(client: Client) -> None:
    cat, cup = (client.explain(jpeg("coffee"), method="grad_cam", target=target) for target in ("Egyptian cat", "cup"))
    assert np.abs(cat.heatmap - cup.heatmap).max() > 0.1 * np.ptp(cup.heatmap)


def test_the_layer_is_the_callers(client: Client) -> None:
    deep, shallow = client.explain(jpeg("coffee")), client.explain(jpeg("coffee"), layer="blocks.2")
    assert (deep.layers, shallow.layers) == (("bn2",), ("blocks.2",))
    assert np.abs(deep.heatmap - shallow.heatmap).max() > 0


def test_metadata(client: Client) -> None:
    facts = client.explain(jpeg("coffee"), seed=7).metadata
    assert facts.model == "efficientnet_lite0"
    assert len(facts.model_version) == 64
    assert (facts.device, facts.precision, facts.seed, facts.pass_count) == ("cpu", "float32", 7, 1)
    assert facts.mean_pass_rows >= 1
    assert facts.compute_seconds > 0


def test_metadata_counts_rows_and_programs(client: Client) -> None:
    """The image, its baseline, and sixteen steps between them."""
    given = {"method": "integrated_gradients", "step_count": 16, "model": "in_float64", "overlay": False}
    facts = client.explain(jpeg("coffee"), **given).metadata
    assert facts.mean_pass_programs == 1
    assert facts.mean_pass_rows > 1
    assert facts.pass_count * facts.mean_pass_rows == pytest.approx(2 + 16)


@pytest.mark.parametrize("name", ["PNG", "JPEG", "WEBP"])
def test_overlay_formats(client: Client, name: str) -> None:
    explanation = client.explain(jpeg("coffee"), overlay={"format": name.lower(), "background": "original"})
    assert explanation.overlay.format == name
    original = np.asarray(PIL.Image.open(io.BytesIO(jpeg("coffee")))).astype(float)
    overlay = np.asarray(explanation.overlay).astype(float)
    # Where nothing is attributed the photograph is as it was (up to the files' loss), elsewhere it is coloured.
    difference = np.abs(overlay - original).mean(2)
    assert np.median(difference[:, :100]) < (0.1 if name == "PNG" else 6)
    assert difference.max() > 60


def test_overlay_options(client: Client) -> None:
    def overlay(**options) -> np.ndarray:
        return np.asarray(client.explain(jpeg("coffee"), overlay=options).overlay).astype(int)

    plain = overlay()
    assert np.ptp(plain[:, :80], axis=2).max() == 0, "the default background is grey"
    assert np.abs(overlay(color_map="viridis") - plain).max() > 60
    assert np.ptp(overlay(opacity=0.0), axis=2).max() <= 1
    assert overlay(background="mask_black")[:, :80].max() == 0
    assert np.abs(overlay(clip_percent_lowerbound=95.0) - plain).max() > 30


def test_an_explanation_saves_and_shows_itself(client: Client, tmp_path) -> None:
    explanation = client.explain(jpeg("coffee"))
    explanation.save(tmp_path / "out.png")
    explanation.save(tmp_path / "out.npy")
    with PIL.Image.open(tmp_path / "out.png") as saved:
        assert saved.size == (600, 400)
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), explanation.heatmap)
    assert PIL.Image.open(io.BytesIO(explanation._repr_png_())).size == (600, 400)
    with pytest.raises(ValueError, match="overlay=True"):
        client.explain(jpeg("coffee"), overlay=False).save(tmp_path / "none.png")


def test_images_in_every_form_python_holds_them(client: Client, tmp_path) -> None:
    """A path, bytes, a PIL image, an array of bytes and one of floats of the same pixels give the same answer."""
    pixels = photograph("coffee")
    path = tmp_path / "coffee.png"
    PIL.Image.fromarray(pixels).save(path)
    forms = [
        path,
        str(path),
        path.read_bytes(),
        PIL.Image.fromarray(pixels),
        pixels,
    ]
    heatmaps = [client.explain(form, overlay=False).heatmap for form in forms]
    for heatmap in heatmaps[1:]:
        np.testing.assert_allclose(heatmap, heatmaps[0], atol=1e-5)
    small = pixels[:200, :300].astype(np.float32) / 255
    exact = client.explain(small, overlay=False).heatmap
    rounded = client.explain(pixels[:200, :300], overlay=False).heatmap
    # Only the rounding after the resize differs.
    assert np.abs(exact - rounded).max() < 0.05 * np.ptp(rounded)


def test_importing_the_client_does_not_import_torch() -> None:
    import subprocess
    import sys

    code = "import gradserve, gradserve.aio, gradserve.cli, sys; print(sorted({'torch', 'timm'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_exported_names() -> None:
    for name in gradserve.__all__:
        assert hasattr(gradserve, name)


def test_attention_of_a_transformer_is_the_same_for_every_target(client: Client) -> None:
    found = client.explain_many(
        jpeg("chelsea"),
        methods=[("attention_rollout", {"interpolation": "nearest"}), ("attention_rollout", {"head_fusion": "max"})],
        targets=[1, 2],
        model="of_fixed_size",
        frame="model_input",
    )
    first, second, fused, _ = (one.heatmap for one in found)
    assert np.array_equal(first, second)
    assert not np.array_equal(first, fused)
    patches = first.reshape(14, 16, 14, 16)
    assert (patches == patches[:, :1, :, :1]).all()
    assert 0 < patches[:, 0, :, 0].sum() < 1
    assert found[0].overlay is not None
