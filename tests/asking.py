"""Every method with parameters that make it cheap, and what must be true of every answer."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gradserve import Client, Explanation
from gradserve.errors import Unsupported
from gradserve.images import ImageLike
from gradserve.results import Model

CHEAP: Mapping[str, Mapping[str, Any]] = {
    # Not rectified: a few channels can all count against the class.
    "ablation_cam": {"channel_count": 2, "relu": False},
    "blur_ig": {"step_count": 2},
    "gradient_shap": {"noisy_sample_count": 2},
    "guided_ig": {"step_count": 2},
    "integrated_gradients": {"step_count": 2},
    "kernel_shap": {"sample_count": 8, "segment_count": 4},
    "occlusion": {"window_px": 60, "stride_px": 60},
    "rise": {"mask_count": 4, "grid_size": 4},
    "score_cam": {"channel_count": 2},
    "smooth_grad": {"noisy_sample_count": 2},
    "smooth_grad_squared": {"noisy_sample_count": 2},
    "var_grad": {"noisy_sample_count": 2},
    "xrai": {"step_count": 1},
}
"""Few steps, masks and channels; a method that is not here is asked with its defaults."""


def ask_every_method(client: Client, image: ImageLike, model: Model) -> dict[str, str]:
    """Asks a model for every method that the server knows, by name, and returns the refusals: empty where served.

    Raises:
        AssertionError: An answer is not a map of the model's input, or a refusal is not what ListModels says.
    """
    served = [method.name for method in model.methods if method.supported]
    for explanation in _explained(client, image, model, served):
        check_map(explanation, model.input_size)
    for method in model.methods:
        if not method.supported:
            _check_refusal(client, image, model, method.name, method.refusal)
    return {method.name: method.refusal for method in model.methods}


def check_map(explanation: Explanation, size: tuple[int, int]) -> None:
    """Asserts that a map covers the model's input, is finite, and says something."""
    heatmap, place = explanation.heatmap, f"{explanation.method} of {explanation.metadata.model}"
    assert heatmap.shape == size, f"{place} has shape {heatmap.shape}"
    assert np.isfinite(heatmap).all(), f"{place} is not finite"
    assert np.ptp(heatmap) > 0, f"{place} is {heatmap.flat[0]} everywhere"


def _explained(client: Client, image: ImageLike, model: Model, names: Sequence[str]) -> list[Explanation]:
    methods = [(name, CHEAP.get(name, {})) for name in names]
    limit = model.limits["methods"]
    found = []
    for start in range(0, len(methods), limit):
        found += client.explain_many(
            image,
            methods=methods[start : start + limit],
            model=model.name,
            frame="model_input",
            overlay=False,
            seed=0,
            timeout=600.0,
        )
    assert [explanation.method for explanation in found] == list(names)
    return found


def _check_refusal(client: Client, image: ImageLike, model: Model, name: str, reason: str) -> None:
    try:
        client.explain(image, method=name, model=model.name, overlay=False)
    except Unsupported as error:
        assert error.code.name == "FAILED_PRECONDITION"
        assert error.reason == "METHOD_UNSUPPORTED"
        assert reason
        assert error.message == reason, f"ListModels says {reason!r}, Explain {error.message!r}"
    else:
        raise AssertionError(f"{name} of {model.name} was served though ListModels says: {reason}")
