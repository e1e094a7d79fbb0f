"""Methods of many images, as a caller meets them: parameters in parameters, superpixels, errors of the sum."""

from typing import Any

import numpy as np
from tests.conftest import FOUNDING, jpeg, photograph

from gradserve import Client

FEWER: dict[str, dict[str, Any]] = {
    **{name: {"step_count": 3} for name in ("integrated_gradients", "blur_ig", "guided_ig", "xrai")},
    **{name: {"noisy_sample_count": 3} for name in ("smooth_grad", "smooth_grad_squared", "var_grad", "gradient_shap")},
}


def test_a_method_inside_a_method_with_baselines(client: Client) -> None:
    inside = ("integrated_gradients", {"step_count": 4, "baselines": ["white", ("blurred", {"sigma_px": 5.0})]})
    given = {"method": "smooth_grad", "noisy_sample_count": 2, "around": inside, "overlay": False}
    first, again, other = (client.explain(jpeg("coffee"), seed=seed, **given).heatmap for seed in (1, 1, 2))
    assert np.abs(first - again).max() < 1e-2 * np.ptp(first)
    assert np.abs(first - other).max() > 5e-2 * np.ptp(first)


def test_what_equals_its_baseline_is_given_nothing(client: Client) -> None:
    """Exactly: black and white are the model's, and the caller's baseline is read as the image explained is."""
    cup = photograph("coffee")[:100, :150]
    images = {"black": np.zeros_like(cup), "white": np.full_like(cup, 255), "cup": cup}
    baselines = {"black": "black", "white": "white", "cup": ("image", cup)}
    methods = [
        (name, {"baselines": [baseline], **fewer})
        for name, fewer in (("integrated_gradients", {"step_count": 2}), ("deep_lift", {}))
        for baseline in baselines.values()
    ]
    for name, image in images.items():
        found = client.explain_many(image, methods=methods, model="in_float64", overlay=False)
        assert [one.heatmap.any() for one in found] == [baseline != name for baseline in baselines] * 2


def test_the_error_of_the_sum_travels(client: Client) -> None:
    found = client.explain(jpeg("chelsea"), method="integrated_gradients", step_count=16, overlay=False)
    error = found.approximation_error
    assert error is not None
    assert 0 < error < 2
    assert client.explain(jpeg("chelsea"), method="saliency", overlay=False).approximation_error is None


def test_xrai_shows_regions_where_the_cats_face_is(client: Client) -> None:
    """The nose, around row 240, column 265 of 300 x 451, is in the strongest tenth of the pixels that were seen."""
    heatmap = client.explain(jpeg("chelsea"), method="xrai", step_count=8, overlay=False).heatmap
    seen = heatmap[:, 80:370]
    assert heatmap[230:250, 255:275].mean() > np.percentile(seen, 90)
    # Regions: few values, not one for each pixel.
    assert len(np.unique(np.round(seen, 5))) < seen.size / 20


def test_superpixels_of_different_methods_in_one_request(client: Client) -> None:
    """The map of Kernel SHAP is even within a superpixel; there are as many values as segments at most."""
    shap = {"sample_count": 32, "segmentation": "superpixels"}
    methods = [("kernel_shap", {**shap, "segment_count": count}) for count in (4, 16)]
    maps = client.explain_many(
        jpeg("coffee"), methods=[*methods, ("xrai", {"step_count": 2})], overlay=False, frame="model_input", seed=0
    )
    few, many, regions = (len(np.unique(one.heatmap)) for one in maps)
    assert 1 < few <= 4 < many <= 16
    assert regions > 4


def test_methods_of_one_and_of_many_images_in_one_request_share_passes(client: Client) -> None:
    methods = [*((name, {}) for name in FOUNDING), *FEWER.items()]
    many = client.explain_many(jpeg("coffee"), methods=methods, overlay=False, seed=3)
    assert [one.method for one in many] == [name for name, _ in methods]
    alone = sum(
        client.explain(jpeg("coffee"), method=name, overlay=False, seed=3, **few).metadata.pass_count
        for name, few in methods
    )
    assert many[0].metadata.pass_count < alone / 2
