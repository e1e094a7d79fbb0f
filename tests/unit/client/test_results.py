"""Results as data, as files and in a notebook."""

import json
from base64 import b64decode
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import PIL.Image
import pytest

from gradserve import ClassScore, Explanation, MaximizeResult, Metadata, Perturbation, TrustReport

METADATA = Metadata("net", "ab12", "cpu", "float32", 7, 0.001, 0.02, 1, 4.0, 2.0)
SCORE = ClassScore(967, "espresso <cup>", 0.931, 11.5)
PICTURE = PIL.Image.new("RGB", (6, 4), (200, 10, 10))
EXPLANATION = Explanation(
    heatmap=np.arange(24, dtype=np.float32).reshape(4, 6),
    overlay=PICTURE,
    method="grad_cam",
    target=SCORE,
    description="espresso <cup>",
    layers=("bn2",),
    approximation_error=None,
    predictions=(SCORE, ClassScore(504, "cup", 0.05, 3.0)),
    trust=TrustReport("consistent", "Held under all.", (), 0.7, None, None, None, None),
    metadata=METADATA,
)


def test_to_dict_is_json() -> None:
    found = json.loads(json.dumps(EXPLANATION.to_dict()))
    assert found["predictions"][0] == {"index": 967, "label": "espresso <cup>", "probability": 0.931, "logit": 11.5}
    assert found["trust"]["verdict"] == "consistent"
    assert found["metadata"]["seed"] == 7
    assert found["layers"] == ["bn2"]
    assert not {"heatmap", "overlay"} & set(found)
    assert found == json.loads(json.dumps(replace(EXPLANATION, overlay=None).to_dict()))


def test_to_dict_with_arrays() -> None:
    found = json.loads(json.dumps(EXPLANATION.to_dict(arrays=True)))
    np.testing.assert_array_equal(np.array(found["heatmap"], np.float32), EXPLANATION.heatmap)


def test_to_dict_of_results_with_pictures() -> None:
    result = MaximizeResult(
        images=(PICTURE,),
        pixels=(np.zeros((4, 6, 3), np.float32),),
        values=np.array([1.5, 2.5], np.float32),
        predictions=(SCORE,),
        stop_reason="completed",
        perturbation=Perturbation(SCORE, SCORE, False, 0.1, 0.2, PICTURE),
        metadata=METADATA,
    )
    found = json.loads(json.dumps(result.to_dict()))
    assert found["perturbation"]["linf_norm"] == 0.1
    assert not {"images", "pixels", "values", "picture"} & (set(found) | set(found["perturbation"]))
    assert json.loads(json.dumps(result.to_dict(arrays=True)))["values"] == [1.5, 2.5]


def test_a_notebook_shows_the_overlay_with_what_it_is() -> None:
    figure = ElementTree.fromstring(EXPLANATION._repr_html_())
    assert "".join(figure.itertext()) == "grad_cam of espresso <cup>: 93.1%Held under all."
    kind, data = figure.find("img").get("src").split(",")
    assert kind == "data:image/png;base64"
    for shown in (b64decode(data), EXPLANATION._repr_png_()):
        np.testing.assert_array_equal(np.asarray(PIL.Image.open(BytesIO(shown))), np.asarray(PICTURE))
    without = replace(EXPLANATION, overlay=None)
    assert without._repr_html_() is without._repr_png_() is None


def test_saved_as_what_the_name_says(tmp_path: Path) -> None:
    EXPLANATION.save(tmp_path / "map.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "map.npy"), EXPLANATION.heatmap)
    EXPLANATION.save(tmp_path / "overlay.webp")
    with PIL.Image.open(tmp_path / "overlay.webp") as saved:
        assert (saved.format, saved.size) == ("WEBP", (6, 4))
    with pytest.raises(ValueError, match="overlay=True"):
        replace(EXPLANATION, overlay=None).save(tmp_path / "overlay.png")
