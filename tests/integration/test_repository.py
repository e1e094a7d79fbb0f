"""A server of a repository folder: versions, hot reload, and what happens when something is broken."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import softmax
from tests.conftest import photograph
from tests.driving import relative
from tests.repository import CONFIG, PREPROCESSING, network, put, put_version
from tests.serving import sample, served

from gradserve import Client, NotFound
from gradserve.results import Model
from gradserve_server.app import Server
from gradserve_server.imaging.geometry import fit, model_input
from gradserve_server.models.failure import ModelLoadError

IMAGES = [photograph(name) for name in ("chelsea", "coffee", "astronaut", "rocket")]
IN_DOUBLE = f'precision = "float64"\n{CONFIG}'


@contextmanager
def following(folder: Path, **settings: object) -> Iterator[tuple[Server, Client]]:
    with (
        served(**{"models": folder, "poll_seconds": 0.05, "pass_rows": 4} | settings) as server,
        Client(f"127.0.0.1:{server.port}", timeout=60) as client,
    ):
        yield server, client


def eventually(client: Client, holds: Callable[[dict[tuple[str, int], Model]], object]) -> dict[tuple[str, int], Model]:
    """Waits until the models listed, by name and version, are as wanted."""
    for _ in range(3000):
        listed = {(model.name, model.version_number): model for model in client.list_models()}
        if holds(listed):
            return listed
        time.sleep(0.02)
    raise AssertionError(f"never came: {[(key, model.state, model.state_message) for key, model in listed.items()]}")


def plain_saliency(seed: int, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the gradient's largest absolute value over channels, and the logits, of a plain network."""
    fitted, _ = fit(pixels, PREPROCESSING)
    rows = torch.from_numpy(model_input(fitted, PREPROCESSING)).double().requires_grad_()
    logits = network(seed).double()(rows)
    logits.max().backward()
    return rows.grad[0].abs().amax(0).numpy(), logits.detach()[0].numpy()


def test_a_swap_under_load_loses_and_mixes_nothing(tmp_path: Path) -> None:
    model = tmp_path / "net"
    put(model / "config.toml", IN_DOUBLE)
    seed_of = {put_version(model, 1, seed=1): 1}
    expected = {}
    with following(tmp_path) as (server, client), ThreadPoolExecutor(6) as threads:
        over, answered = False, set()

        def ask(first: int) -> list[tuple[int, object]]:
            answers, index = [], first
            while not over:
                index = (index + 1) % len(IMAGES)
                method = "smooth_grad" if first == 0 else "saliency"
                answer = client.explain(IMAGES[index], method=method, frame="model_input", overlay=False, seed=0)
                answers.append((index, answer))
                answered.add(answer.metadata.model_version)
            return answers

        asking = [threads.submit(ask, first) for first in range(6)]
        for number in (2, 3, 4):
            sha256 = put_version(model, number, seed=number)
            seed_of[sha256] = number
            listed = eventually(client, lambda listed, sha256=sha256: [m.version for m in listed.values()] == [sha256])
            assert list(listed) == [("net", number)]
            while sha256 not in answered and not any(thread.done() for thread in asking):
                time.sleep(0.02)
        over = True
        answers = [answer for thread in asking for answer in thread.result()]
        assert sample(server, "gradserve_model_loads_total", model="net", outcome="loaded") == 4
        assert sample(server, "gradserve_model_info", model="net", version=sha256, precision="float64") == 1
        shown = [one for one in next(iter(server.metrics.model_info.collect())).samples if one.labels["model"] == "net"]
        assert len(shown) == 1
    assert {answer.metadata.model_version for _, answer in answers} == set(seed_of)
    for index, answer in answers:
        seed = seed_of[answer.metadata.model_version]
        if (seed, index) not in expected:
            expected[seed, index] = plain_saliency(seed, IMAGES[index])
        heatmap, logits = expected[seed, index]
        found = sorted(answer.predictions, key=lambda score: score.index)
        assert np.allclose([score.logit for score in found], logits, atol=1e-6)
        assert np.allclose([score.probability for score in found], softmax(logits), atol=1e-6)
        if answer.method == "saliency":
            assert relative(np.array(answer.heatmap), heatmap) < 1e-5


def test_a_broken_version_leaves_the_old_one_serving(tmp_path: Path) -> None:
    model = tmp_path / "net"
    put(model / "config.toml", CONFIG)
    good = put_version(model, 1, seed=1)
    with following(tmp_path) as (server, client):
        put(model / "2" / "weights.safetensors", b"not weights at all")
        listed = eventually(client, lambda listed: listed.get(("net", 2)) and listed["net", 2].state == "failed")
        assert "safetensors" in listed["net", 2].state_message
        assert listed["net", 1].state == "ready"
        assert client.explain(IMAGES[0]).metadata.model_version == good
        assert sample(server, "gradserve_model_loads_total", model="net", outcome="failed") == 1
        assert sample(server, "gradserve_model_state", model="net", number="2", state="failed") == 1
        with pytest.raises(NotFound, match="version '2' of model 'net' could not be loaded; ListModels says why"):
            client.explain(IMAGES[0], model="net@2")

        # The serving version's own file is replaced by a broken one: what was loaded serves on.
        put(model / "1" / "weights.safetensors", b"broken as well")
        listed = eventually(client, lambda listed: listed["net", 1].state_message)
        assert listed["net", 1].state == "ready"
        assert client.explain(IMAGES[0]).metadata.model_version == good

        put(model / "config.toml", f"clas_count = 4\n{CONFIG}")
        listed = eventually(client, lambda listed: "clas_count" in str([m.state_message for m in listed.values()]))
        assert client.explain(IMAGES[0]).metadata.model_version == good

        put(model / "config.toml", CONFIG)
        mended = put_version(model, 2, seed=2)
        listed = eventually(client, lambda listed: list(listed) == [("net", 2)])
        assert client.explain(IMAGES[0]).metadata.model_version == mended

        # The volume goes away.
        (tmp_path / "net").rename(tmp_path.with_name("away"))
        for _ in range(1000):
            if sample(server, "gradserve_model_repository_failures_total"):
                break
            time.sleep(0.02)
        else:
            pytest.fail("nobody noticed")
        assert client.explain(IMAGES[0]).metadata.model_version == mended


def test_versions_side_by_side_and_models_that_come_and_go(tmp_path: Path) -> None:
    put(tmp_path / "net" / "config.toml", f'versions = "all"\n{CONFIG}')
    put(tmp_path / "net" / "labels.txt", "cat\ncup\nperson\nrocket\n")
    versions = {number: put_version(tmp_path / "net", number, seed=number) for number in (1, 2)}
    with following(tmp_path) as (_, client):
        for name, number in (
            *(("", 2), ("net", 2), ("net@1", 1), ("net@2", 2)),
            *((f"net@sha256:{versions[number][:8]}", number) for number in (1, 2)),
        ):
            answer = client.explain(IMAGES[0], model=name)
            assert answer.metadata.model_version == versions[number]
            assert answer.predictions[0].label in ("cat", "cup", "person", "rocket")
        for name in ("net@3", "net@sha256:0123", "net@sha256:00000000"):
            with pytest.raises(NotFound, match="net@2, net@1"):
                client.explain(IMAGES[0], model=name)

        put(tmp_path / "a_new_one" / "config.toml", f"limits = {{ targets = 2 }}\n{CONFIG}")
        put_version(tmp_path / "a_new_one", 7, seed=7)
        listed = eventually(client, lambda listed: listed.get(("a_new_one", 7)) and listed["a_new_one", 7].layers)
        assert listed["a_new_one", 7].limits["targets"] == 2
        assert listed["net", 2].limits["targets"] == 20
        # What comes later does not become the default by its name.
        assert client.explain(IMAGES[0]).metadata.model == "net"

        put(tmp_path / "net" / "config.toml", f"versions = [1]\n{CONFIG}")
        eventually(client, lambda listed: list(listed) == [("net", 1), ("a_new_one", 7)])
        (tmp_path / "net" / "config.toml").unlink()
        eventually(client, lambda listed: list(listed) == [("a_new_one", 7)])
        assert client.explain(IMAGES[0]).metadata.model == "a_new_one"


def test_idle_models_make_room(tmp_path: Path) -> None:
    for name, extra in (("first", "pin = true"), ("second", ""), ("third", "")):
        put(tmp_path / name / "config.toml", f"{extra}\n{CONFIG}")
        put_version(tmp_path / name, 1, seed=1)
    size = sum(tensor.nbytes for tensor in network(1).state_dict().values())
    # Nor do they need looks at the folder to come back.
    with following(tmp_path, model_bytes=int(2.5 * size), poll_seconds=0) as (server, client):
        assert {name: model.state for (name, _), model in eventually(client, bool).items()} == {
            "first": "ready",
            "second": "unloaded",
            "third": "ready",
        }
        # The client comes back, as the hint says.
        assert client.explain(IMAGES[0], model="second").metadata.model == "second"
        listed = eventually(client, lambda listed: listed["third", 1].state == "unloaded")
        assert listed["first", 1].state == listed["second", 1].state == "ready"
        assert sample(server, "gradserve_model_loads_total", model="third", outcome="unloaded") == 1


def test_no_other_model_answers_for_the_default(tmp_path: Path) -> None:
    for name in ("a", "net"):
        put(tmp_path / name / "config.toml", CONFIG)
        put_version(tmp_path / name, 1, seed=1)
    misspelt = served(models=tmp_path, default_model="nett")
    with pytest.raises(ModelLoadError, match="default_model 'nett' is no model; nearest: net"), misspelt:
        pass
    with following(tmp_path, default_model="net") as (_, client):
        assert client.explain(IMAGES[0]).metadata.model == "net"
        (tmp_path / "net" / "config.toml").unlink()
        eventually(client, lambda listed: list(listed) == [("a", 1)])
        with pytest.raises(NotFound, match="no model 'net'"):
            client.explain(IMAGES[0])


def test_a_folder_with_nothing_to_serve_is_an_error(tmp_path: Path) -> None:
    put(tmp_path / "net" / "config.toml", CONFIG)
    put(tmp_path / "net" / "1" / "weights.safetensors", b"")
    with pytest.raises(ModelLoadError, match=r"net@1.*complete"), served(models=tmp_path, pass_rows=1):
        pass
