"""The trust report over the wire."""

import numpy as np
import pytest
from scipy import stats
from tests.conftest import jpeg, photograph

from gradserve import Client


def test_a_report_says_whether_to_believe(client: Client) -> None:
    trust = client.explain(jpeg("coffee"), trust=True, overlay=False).trust
    assert trust.verdict in ("consistent", "doubtful")
    assert len(trust.consistencies) == 7
    assert trust.consistencies[0].transform == "horizontal_flip"
    assert trust.consistencies[0].prediction.label == "espresso"
    assert 0 < trust.deletion_auc < trust.insertion_auc < 1
    assert trust.sensitivity_max > 0
    assert 0 <= trust.infidelity <= 1
    assert trust.completeness_error is None
    assert "7 transforms" in trust.summary


def test_a_report_follows_the_class_explained_and_its_map(client: Client) -> None:
    """The image has the size of the model's input: flipped, it can be asked about by itself."""
    pixels = photograph("coffee")[100:164, 200:264]
    given = {"model": "in_float64", "target": 8, "method": "integrated_gradients", "step_count": 2, "overlay": False}
    options = {"transforms": [{"horizontal_flip": {}}], "step_count": 0, "sample_count": 0}
    upright, flipped = client.explain(pixels, trust=options, **given), client.explain(pixels[:, ::-1], **given)
    (found,) = upright.trust.consistencies
    assert found.prediction.index == flipped.predictions[0].index != 8
    assert found.target_probability == pytest.approx(flipped.target.probability, rel=1e-6)

    # Maps are compared without their borders.
    maps = [heatmap[1:-1, 1:-1] for heatmap in (upright.heatmap, flipped.heatmap[:, ::-1])]
    assert found.rank_correlation == pytest.approx(stats.spearmanr(*maps, axis=None).statistic, abs=1e-5)
    one, other = (values > np.quantile(values, 0.8) for values in maps)
    assert found.top_area_overlap == pytest.approx((one & other).sum() / (one | other).sum(), abs=1e-3)
    assert upright.trust.completeness_error == upright.approximation_error > 0


def test_the_caller_chooses_what_to_check(client: Client) -> None:
    transforms = [{"rotation": {"degrees": 25.0}}, {"translation": {"x_px": 40, "y_px": -10}}]
    options = {"transforms": transforms, "step_count": 0, "sample_count": 0}
    trust = client.explain(jpeg("coffee"), trust=options, overlay=False).trust
    assert [one.transform for one in trust.consistencies] == ["rotation degrees=25", "translation x_px=40 y_px=-10"]
    assert trust.insertion_auc is None
    assert trust.infidelity is None


def test_reports_of_several_methods_and_targets_share_passes(client: Client) -> None:
    options = {"step_count": 0, "sample_count": 0}
    explained = client.explain_many(
        jpeg("coffee"), methods=["saliency", "guided_backprop"], top_k=2, trust=options, overlay=False
    )
    assert [one.target.label for one in explained] == ["espresso", "cup"] * 2
    assert all(len(one.trust.consistencies) == 7 for one in explained)
    # 4 explanations x 7 transforms, and the image itself: not a pass each.
    assert explained[0].metadata.pass_count <= 4 * 7 / 2
    alone = client.explain(jpeg("coffee"), method="saliency", trust=options, overlay=False).trust
    for one, other in zip(explained[0].trust.consistencies, alone.consistencies, strict=True):
        assert one.rank_correlation == pytest.approx(other.rank_correlation, abs=0.02)
