"""Targets other than a class: contrasts and units."""

import numpy as np
import pytest
from tests.conftest import jpeg

from gradserve import Client, InvalidRequest

SIGNED = {"method": "saliency", "reduction": "sum", "overlay": False, "frame": "model_input"}
UNIT = {"unit": {"layer": "blocks.5", "channel": 3}}


def test_a_contrast_is_the_difference_of_two_classes(client: Client) -> None:
    """The signed gradient is linear in the objective."""
    contrast = {"contrast": {"explained": {"class_label": "espresso"}, "against": {"class_index": 968}}}
    this, that = (client.explain(jpeg("coffee"), target=target, **SIGNED).heatmap for target in ("espresso", "cup"))
    found = client.explain(jpeg("coffee"), target=contrast, **SIGNED)
    assert found.description == "espresso, not cup"
    assert found.target.label == "espresso"
    assert np.abs(found.heatmap - (this - that)).max() < 1e-2 * np.ptp(this - that)


def test_a_contrast_without_classes_is_the_prediction_against_the_runner_up(client: Client) -> None:
    found = client.explain(jpeg("chelsea"), target={"contrast": {}}, **SIGNED)
    first, second = found.predictions[:2]
    assert found.description == f"{first.label}, not {second.label}"


def test_a_class_is_never_told_from_itself(client: Client) -> None:
    """Whichever rank the one has that is given: the other is the most probable of all others."""
    first, second = client.explain(jpeg("chelsea"), **SIGNED).predictions[:2]
    for side, given, description in (
        ("explained", first, f"{first.label}, not {second.label}"),
        ("explained", second, f"{second.label}, not {first.label}"),
        ("against", first, f"{second.label}, not {first.label}"),
        ("against", second, f"{first.label}, not {second.label}"),
    ):
        target = {"contrast": {side: {"class_index": given.index}}}
        found = client.explain(jpeg("chelsea"), target=target, **SIGNED)
        assert found.description == description
        assert np.ptp(found.heatmap) > 0


def test_targets_are_counted_before_they_are_looked_at(client: Client) -> None:
    for targets in ([{"top_k": 20}] * 50_000, [{"unit": {"layer": "blocks.9"}}] * 50_000):
        with pytest.raises(InvalidRequest, match="50000 are too many") as caught:
            client.explain_many(jpeg("coffee"), methods=["saliency"], targets=targets)
        assert [violation.field for violation in caught.value.field_violations] == ["targets"]


def test_a_unit_is_explained_by_gradients_and_by_earlier_layers(client: Client) -> None:
    found = client.explain_many(
        jpeg("coffee"), methods=["saliency", ("grad_cam", {"layers": ["blocks.3"]})], targets=[UNIT], overlay=False
    )
    assert [one.target for one in found] == [None, None]
    assert found[0].description == "channel 3 of blocks.5"
    assert all(np.ptp(one.heatmap) > 0 for one in found)


def test_a_unit_at_a_position(client: Client) -> None:
    """What one position of a shallow layer responds to lies around it, and all positions together are the unit."""
    positions = [{"unit": {"layer": "conv_stem", "channel": 3, "y": y, "x": x}} for y, x in ((10, 90), (100, 20))]
    found = client.explain_many(
        jpeg("coffee"), methods=["saliency"], targets=positions, overlay=False, frame="model_input"
    )
    assert [one.description for one in found] == [
        "channel 3 of conv_stem at row 10, column 90", "channel 3 of conv_stem at row 100, column 20",
    ]  # fmt: skip
    for one, (y, x) in zip(found, ((10, 90), (100, 20)), strict=True):
        # A kernel of 3, a stride of 2.
        rows, columns = np.nonzero(one.heatmap)
        assert (rows.min(), rows.max(), columns.min(), columns.max()) == (2 * y, 2 * y + 2, 2 * x, 2 * x + 2)


def test_a_unit_at_a_position_is_another_in_the_mirror(client: Client) -> None:
    at = {"unit": {"layer": "blocks.5", "channel": 3, "y": 1, "x": 2}}
    smoothed = ("hires_cam", {"layers": ["blocks.3"], "augmentation_smoothing": True})
    with pytest.raises(InvalidRequest, match="mirrored") as caught:
        client.explain_many(jpeg("coffee"), methods=[smoothed], targets=[at], overlay=False)
    assert [violation.field for violation in caught.value.field_violations] == ["targets[0].unit.x"]
    (found,) = client.explain_many(jpeg("coffee"), methods=[smoothed], targets=[UNIT], overlay=False)
    assert np.ptp(found.heatmap) > 0


def test_a_unit_of_a_transformer(client: Client) -> None:
    at, mean = {"layer": "blocks.3", "channel": 190, "y": 5, "x": 7}, {"layer": "blocks.3", "channel": 190}
    found = client.explain_many(
        jpeg("coffee"),
        methods=["saliency"],
        targets=[{"unit": at}, {"unit": mean}],
        model="of_fixed_size",
        overlay=False,
    )
    assert all(np.ptp(one.heatmap) > 0 for one in found)
    assert not np.allclose(found[0].heatmap, found[1].heatmap)
    for wrong, field in (({"channel": 192}, "channel"), ({"y": 14}, "y"), ({"x": -1}, "x"), ({"x": None}, "x")):
        refused(client, {"unit": {**at, **wrong}}, f"targets[0].unit.{field}", method="saliency", model="of_fixed_size")


def refused(client: Client, target: dict, field: str, **arguments) -> None:
    with pytest.raises(InvalidRequest) as caught:
        client.explain(jpeg("coffee"), target=target, **arguments)
    assert [violation.field for violation in caught.value.field_violations] == [field]


def test_bad_targets(client: Client) -> None:
    same = {"explained": {"class_index": 1}, "against": {"class_index": 1}}
    refused(client, {"contrast": same}, "targets[0].contrast.against")
    refused(client, {"contrast": {"against": {"class_label": "expresso"}}}, "targets[0].contrast.against.class_label")
    refused(client, {"unit": {"layer": "blocks.9"}}, "targets[0].unit.layer", method="saliency")
    refused(client, {"unit": {"layer": "blocks.5", "channel": 5000}}, "targets[0].unit.channel", method="saliency")
    refused(client, UNIT, "targets[0].unit.layer", method="grad_cam")
