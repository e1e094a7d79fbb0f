"""Answers that are kept, over a real channel."""

import numpy as np
import pytest
from tests.conftest import jpeg
from tests.serving import served

from gradserve import Client
from gradserve.errors import InvalidRequest


@pytest.fixture(scope="module")
def caching():
    with served(answer_cache_bytes=8 << 20, pass_rows=4) as server:
        yield server


@pytest.fixture
def client(caching):
    with Client(f"127.0.0.1:{caching.port}") as client:
        yield client


def passes(server) -> float:
    return server.metrics.registry.get_sample_value("gradserve_pass_rows_count")


def test_the_same_request_costs_no_pass(caching, client) -> None:
    first = client.explain(jpeg("coffee"), method="smooth_grad", noisy_sample_count=4, seed=3)
    before = passes(caching)
    second = client.explain(jpeg("coffee"), method="smooth_grad", noisy_sample_count=4, seed=3)
    assert passes(caching) == before
    assert (first.metadata.cached, second.metadata.cached) == (False, True)
    assert np.array_equal(first.heatmap, second.heatmap)
    assert second.overlay is not None
    assert second.metadata.pass_count == first.metadata.pass_count


@pytest.mark.parametrize("change", [{"seed": 4}, {"noisy_sample_count": 5}, {"frame": "model_input"}, {"target": 7}])
def test_another_request_has_its_own_answer(client, change) -> None:
    asked = {"method": "smooth_grad", "noisy_sample_count": 4, "seed": 3}
    client.explain(jpeg("coffee"), **asked)
    assert not client.explain(jpeg("coffee"), **asked | change).metadata.cached
    assert not client.explain(jpeg("rocket"), **asked | change).metadata.cached


def test_a_refusal_is_not_kept(client) -> None:
    for _ in range(2):
        with pytest.raises(InvalidRequest, match="class_index"):
            client.explain(jpeg("coffee"), target=1000)


def test_nothing_is_kept_unless_told_to(address: str) -> None:
    with Client(address) as client:
        answers = [client.explain(jpeg("coffee"), method="saliency", seed=1) for _ in range(2)]
    assert [answer.metadata.cached for answer in answers] == [False, False]
