"""A device answers as a CPU does: every method, every preset, both ways to stylise."""

import numpy as np
import pytest
from tests.asking import CHEAP, check_map
from tests.conftest import photograph
from tests.paintings import swirls

from gradserve import Client
from gradserve.errors import Unsupported
from gradserve_server.programs.explain import METHODS

pytestmark = pytest.mark.gpu

MORE = {"ablation_cam": {"channel_count": 64}}
"""Two channels can say nothing of an image as small as this."""
DRAWS = {"gradient_shap", "kernel_shap", "rise", "smooth_grad", "smooth_grad_squared", "var_grad"}
"""Methods whose draws are a device's own: a seed does not mean the same map on another."""
CHOOSES = {"xrai"}
"""A method that picks regions one by one, by comparing sums: a last digit can swap two of them."""


@pytest.mark.parametrize("method", sorted(METHODS))
def test_a_method_says_what_it_says_on_a_cpu(on_device: Client, on_cpu: Client, method: str) -> None:
    def asked(client: Client, model: str) -> np.ndarray:
        parameters = {**CHEAP.get(method, {}), **MORE.get(method, {})}
        image = photograph("chelsea")
        found = client.explain(
            image, method=method, model=model, target=285, frame="model_input", overlay=False, seed=1, **parameters
        )
        check_map(found, found.heatmap.shape)
        return found.heatmap

    try:
        expected = asked(on_cpu, "in_float64")
    except Unsupported:
        with pytest.raises(Unsupported):
            asked(on_device, "in_float64")
        return
    found = asked(on_device, "in_float64")
    if method not in DRAWS | CHOOSES:
        # A heatmap travels as float32.
        np.testing.assert_allclose(found, expected, atol=1e-6 * np.ptp(expected), rtol=0)
    if method not in DRAWS:
        single, again = asked(on_cpu, "in_float32"), asked(on_device, "in_float32")
        assert np.corrcoef(single.ravel(), again.ravel())[0, 1] >= 0.99


@pytest.mark.parametrize("preset", ["simonyan", "yosinski", "lucid", "deepdream"])
def test_a_preset_climbs_as_on_a_cpu(on_device: Client, on_cpu: Client, preset: str) -> None:
    def climbed(client: Client) -> np.ndarray:
        job = client.maximize(class_index=285, preset=preset, model="in_float64", size=96, steps=6, seed=3)
        return np.asarray(job.result().values)

    np.testing.assert_allclose(climbed(on_device), climbed(on_cpu), rtol=1e-5)


@pytest.mark.parametrize("preset", ["fgsm", "pgd"])
def test_an_attack_perturbs_as_on_a_cpu(on_device: Client, on_cpu: Client, preset: str) -> None:
    def perturbed(client: Client) -> np.ndarray:
        job = client.maximize(image=photograph("chelsea"), preset=preset, model="in_float64", seed=3)
        return np.asarray(job.result().values)

    np.testing.assert_allclose(perturbed(on_device), perturbed(on_cpu), rtol=1e-5)


@pytest.mark.parametrize("options", [{}, {"optimizer": "adam"}, {"preserve_colors": True, "start": "style_statistics"}])
def test_a_style_transfer_descends_as_on_a_cpu(on_device: Client, on_cpu: Client, options: dict) -> None:
    def descended(client: Client) -> np.ndarray:
        content, style = photograph("chelsea"), swirls(128)
        job = client.stylize(content, style, model="in_float64", size=96, steps=8, seed=3, **options)
        return np.asarray(job.result().losses)

    np.testing.assert_allclose(descended(on_device), descended(on_cpu), rtol=1e-4)


def test_a_stylizer_paints_as_on_a_cpu(on_device: Client, on_cpu: Client) -> None:
    name = on_cpu.list_stylizers()[0].name

    def painted(client: Client) -> np.ndarray:
        return np.asarray(client.stylize(photograph("coffee"), stylizer=name).result().image, np.float64)

    difference = np.abs(painted(on_device) - painted(on_cpu))
    assert difference.mean() <= 0.5, "half a grey level"
    assert difference.max() <= 3
