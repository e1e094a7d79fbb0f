"""Maximize over a real channel: events, results, refusals, and company."""

import asyncio

import numpy as np
import pytest
from tests.conftest import jpeg, photograph
from tests.serving import sample

from gradserve import Client, aio, objectives
from gradserve.cli import main
from gradserve.errors import DeadlineExceeded, InvalidRequest, Unsupported
from gradserve.images import to_message
from gradserve.maximization import MaximizeResult
from gradserve.progress import Progress
from gradserve_server.app import Server

LABELS = {"grpc_type": "server_stream", "grpc_service": "gradserve.v1.ExplainerService", "grpc_method": "Maximize"}
# Small and quick: the network of ten classes in float64.
SMALL = {"model": "in_float64", "preset": "lucid", "seed": 3}


def sent(server: Server) -> float:
    return sample(server, "grpc_server_msg_sent_total", **LABELS)


def test_progress_comes_first_and_the_result_last(client: Client, server: Server) -> None:
    before = sent(server)
    events = list(client.maximize(class_index=1, steps=9, preview_interval_steps=4, **SMALL))
    *progress, result = events
    assert isinstance(result, MaximizeResult)
    assert all(isinstance(event, Progress) for event in progress)
    steps = [event.step for event in progress]
    assert steps == sorted(set(steps))
    assert steps[-1] == 9
    assert {event.step_count for event in progress} == {9}
    assert {event.step for event in progress if event.preview} == {4, 8}
    assert all(event.preview.size == (64, 64) for event in progress if event.preview)
    assert [event.elapsed_seconds for event in progress] == sorted(event.elapsed_seconds for event in progress)
    for event in progress:
        assert event.value == pytest.approx(result.values[event.step - 1], rel=1e-6)
    assert result.image.size == (64, 64)
    assert result.stop_reason == "completed"
    assert len(result.values) == 9
    assert len(result.predictions) == 5
    assert result.perturbation is None
    assert result.before is None
    assert result.after == result.predictions[0]
    assert result.metadata.seed == 3
    assert result.metadata.pass_count == 10
    # Each event is a message, and is counted as one.
    assert sent(server) - before == len(events)


def test_the_seed_reported_reproduces_the_answer(client: Client) -> None:
    given = {**SMALL, "seed": None, "class_index": 2, "steps": 5, "include_pixels": True}
    first = client.maximize(**given).result()
    again = client.maximize(**{**given, "seed": first.metadata.seed}).result()
    np.testing.assert_allclose(again.pixels[0], first.pixels[0], atol=1e-6)


def test_several_images_that_differ(client: Client) -> None:
    wanted = objectives.channel("layer2", 4) + 0.5 * objectives.diversity("layer2")
    result = client.maximize(objectives=wanted, steps=4, count=3, size=(48, 80), include_pixels=True, **SMALL).result()
    assert [image.size for image in result.images] == [(80, 48)] * 3
    assert [pixels.shape for pixels in result.pixels] == [(48, 80, 3)] * 3
    assert np.abs(result.pixels[0] - result.pixels[1]).max() > 0.01
    np.testing.assert_allclose(np.asarray(result.images[2]), result.pixels[2] * 255, atol=0.5)


@pytest.mark.parametrize(
    "objective",
    [
        objectives.class_score(0, log_probability=True),
        objectives.class_score(1) - objectives.class_score(2),
        objectives.channel("layer1", 3),
        objectives.neuron("layer2", 5, y=1, x=7),
        objectives.direction("layer1", np.linspace(-1, 1, 64)),
        objectives.layer("layer3"),
        [objectives.channel("layer1", 3), -2.0 * objectives.channel("layer1", 4)],
    ],
)
def test_each_objective_is_served(client: Client, objective) -> None:
    result = client.maximize(
        objectives=objective, steps=12, model="in_float64", preset="simonyan", learning_rate=0.005, l2_decay=0.0, seed=1
    ).result()
    assert result.values[-1] > result.values[0]


def test_an_attack_flips_a_photograph_and_says_by_how_much(client: Client) -> None:
    picture = photograph("chelsea")
    result = client.maximize(image=picture, preset="pgd", epsilon=4 / 255, include_pixels=True).result()
    facts = result.perturbation
    assert facts.before.label == "Egyptian cat"
    assert facts.succeeded
    assert facts.after.index == result.predictions[0].index != facts.before.index
    assert 3.9 / 255 < facts.linf_norm <= 4 / 255 + 1e-6
    assert result.image.size == facts.picture.size == (224, 224)
    # The picture says what the result says: it is the very image, and it is attacked.
    again = client.explain(result.image, overlay=False)
    assert again.target.index == facts.after.index
    assert again.target.probability == pytest.approx(facts.after.probability, abs=0.05)


def test_a_targeted_attack_succeeds_when_its_target_is_seen(client: Client) -> None:
    result = client.maximize(
        class_label="goldfish", image=jpeg("coffee"), preset="pgd", epsilon=8 / 255, steps=12
    ).result()
    assert result.perturbation.succeeded
    assert result.after.label == "goldfish"
    missed = client.maximize(class_label="goldfish", image=jpeg("coffee"), preset="fgsm", epsilon=1e-4).result()
    assert not missed.perturbation.succeeded


def test_an_attack_that_aims_away_succeeds_when_another_class_is_seen(client: Client) -> None:
    away = -objectives.class_score("espresso", log_probability=True)
    picture = jpeg("coffee")
    flipped = client.maximize(objectives=away, image=picture, preset="pgd").result()
    assert flipped.after.label != "espresso"
    assert flipped.perturbation.succeeded
    for aim in ({}, {"objectives": away}):
        missed = client.maximize(image=picture, preset="fgsm", epsilon=1e-4, **aim).result()
        assert missed.after.label == "espresso"
        assert not missed.perturbation.succeeded


def test_the_change_is_what_the_result_has_and_the_image_had_not(client: Client) -> None:
    pixels = photograph("coffee")[:64, :64].astype(np.float32) / 255
    result = client.maximize(image=pixels, model="in_float64", preset="pgd", include_pixels=True).result()
    change = result.pixels[0].astype(float) - pixels
    largest = np.abs(change).max()
    assert result.perturbation.linf_norm == pytest.approx(largest, rel=1e-5)
    assert result.perturbation.l2_norm == pytest.approx(np.sqrt(np.square(change).sum()), rel=1e-5)
    np.testing.assert_allclose(result.perturbation.picture, 255 * (1 + change / largest) / 2, atol=0.51)


def test_a_dream_keeps_the_size_of_its_photograph(client: Client) -> None:
    picture = photograph("coffee")[:150, :210]
    result = client.maximize(
        image=picture, objectives=objectives.layer("layer2"), model="in_float64", steps=2, octave_count=2
    ).result()
    assert result.image.size == (210, 150)
    assert len(result.values) == 4
    assert result.perturbation.l2_norm > 0


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({}, "objectives"),
        ({"class_index": 10}, "objectives[0].class_score.class_index"),
        ({"class_label": "gold"}, "objectives[0].class_score.class_label"),
        ({"objectives": objectives.channel("layer9", 0)}, "objectives[0].channel.layer"),
        ({"objectives": objectives.channel("", 0)}, "objectives[0].channel.layer"),
        ({"objectives": objectives.channel("layer1", 64)}, "objectives[0].channel.channel"),
        ({"objectives": objectives.neuron("layer1", 0, y=-1)}, "objectives[0].neuron.y"),
        ({"objectives": objectives.neuron("layer1", 0, y=99)}, "neuron.y"),
        ({"objectives": objectives.direction("layer1", [1.0, 2.0])}, "objectives[0].direction.direction"),
        ({"objectives": objectives.direction("layer1", [np.nan] * 64)}, "objectives[0].direction.direction.data"),
        ({"objectives": objectives.diversity("layer1")}, "objectives[0].diversity"),
        ({"objectives": float("nan") * objectives.class_score(0)}, "objectives[0].weight"),
        ({"objectives": [objectives.class_score(0)] * 17}, "objectives"),
        ({"class_index": 0, "preset": "pgd"}, "image"),
        ({"class_index": 0, "steps": 0}, "step_count"),
        ({"class_index": 0, "steps": 100_000}, "step_count"),
        ({"class_index": 0, "steps": 1000, "octave_count": 4}, "step_count"),
        ({"class_index": 0, "count": 0}, "count"),
        ({"class_index": 0, "count": 17}, "count"),
        ({"class_index": 0, "count": 2, "image": photograph("coffee")}, "count"),
        ({"class_index": 0, "size": 8}, "size.height"),
        ({"class_index": 0, "size": (32, -1)}, "size.width"),
        ({"class_index": 0, "size": 4096}, "size"),
        ({"class_index": 0, "size": 1024, "count": 16}, "size"),
        ({"class_index": 0, "octave_count": 10, "octave_scale": 2.0, "steps": 4}, "octaves"),
        ({"class_index": 0, "octave_count": 0}, "octaves.count"),
        ({"class_index": 0, "octave_scale": 1.0}, "octaves.scale"),
        ({"class_index": 0, "pad_px": -1}, "robustness.pad_px"),
        ({"class_index": 0, "size": (16, 16384), "pad_px": 16384}, "robustness.pad_px"),
        ({"class_index": 0, "scales": [1.0] * 100_000}, "robustness.scales"),
        ({"class_index": 0, "jitter_px": 65}, "robustness.jitter_px"),
        ({"class_index": 0, "scales": [1.0, 0.1]}, "robustness.scales[1]"),
        ({"class_index": 0, "degrees": [float("inf")]}, "robustness.degrees[0]"),
        ({"class_index": 0, "l2_decay": 1.5}, "regularization.l2_decay"),
        ({"class_index": 0, "total_variation_weight": -1}, "regularization.total_variation_weight"),
        ({"class_index": 0, "blur_sigma_px": 1e9}, "regularization.blur_sigma_px"),
        ({"class_index": 0, "blur_interval_steps": 0}, "regularization.blur_interval_steps"),
        ({"class_index": 0, "clip_norm_percent": 101}, "regularization.clip_norm_percent"),
        ({"class_index": 0, "clip_contribution_percent": -1}, "regularization.clip_contribution_percent"),
        ({"class_index": 0, "learning_rate": 0.0}, "optimizer.learning_rate"),
        ({"class_index": 0, "learning_rate": float("nan")}, "optimizer.learning_rate"),
        ({"class_index": 0, "step_rule": 99}, "optimizer.step_rule"),
        ({"class_index": 0, "epsilon": 0.0}, "constraint.epsilon"),
        ({"class_index": 0, "norm": "l2"}, "constraint.epsilon"),
        ({"class_index": 0, "preset": "lucid", "epsilon": 0.1}, "parametrization"),
        ({"class_index": 0, "redirected_relu_step_count": -1}, "redirected_relu_step_count"),
        (
            {"class_index": 0, "redirected_relu_step_count": 4, "activation_rule": "guided"},
            "redirected_relu_step_count",
        ),
        ({"class_index": 0, "preview_interval_steps": -1}, "preview_interval_steps"),
        ({"class_index": 0, "seed": -1}, "seed"),
        ({"class_index": 0, "result_before_deadline": -1.0}, "result_before_deadline"),
        ({"class_index": 0, "image": b"no image"}, "image.encoded"),
    ],
)
def test_what_is_wrong_is_named(client: Client, arguments: dict, field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        client.maximize(**{"model": "in_float64", **arguments}).result()
    assert [violation.field for violation in caught.value.field_violations] == [field]


def test_a_model_that_cannot_says_so(client: Client) -> None:
    with pytest.raises(Unsupported) as caught:
        client.maximize(class_index=0, model="without_rectifier", activation_rule="guided").result()
    assert caught.value.field_violations[0].field == "activation_rule"
    with pytest.raises(Unsupported, match="224 x 224"):
        client.maximize(class_index=0, model="of_fixed_size", size=64, steps=2, preset="simonyan").result()


def test_arguments_that_do_not_exist_are_refused_by_the_client(client: Client) -> None:
    with pytest.raises(TypeError, match="jitter_px"):
        client.maximize(class_index=0, jiter_px=3)
    with pytest.raises(TypeError, match="one of"):
        client.maximize(class_index=0, class_label="x")
    with pytest.raises(ValueError, match="deepdream"):
        client.maximize(class_index=0, preset="dream")


def test_the_best_image_comes_before_the_deadline(client: Client) -> None:
    given = {"class_index": 1, "steps": 2000, "timeout": 2.5, **SMALL, "size": 128}
    result = client.maximize(**given, result_before_deadline=1.5).result()
    assert result.stop_reason == "deadline"
    assert 0 < len(result.values) < 2000
    with pytest.raises(DeadlineExceeded):
        client.maximize(**{**given, "timeout": 0.5}).result()


def test_a_flat_objective_is_an_answer(client: Client) -> None:
    flat = 0.0 * objectives.class_score(0)
    result = client.maximize(objectives=flat, model="in_float64", preset="simonyan", l2_decay=0.0, steps=200).result()
    assert result.stop_reason == "flat"
    assert len(result.values) < 200


# Objectives, parts, starts and lengths all differ. The images have one size, so that steps can share passes.
EIGHT = [
    {"class_label": "goldfish", "preset": "lucid", "steps": 3},
    {"class_label": "volcano", "preset": "simonyan", "steps": 4},
    {"objectives": objectives.channel("blocks.2", 7), "preset": "yosinski", "steps": 6},
    {"objectives": objectives.neuron("blocks.3", 5), "preset": "lucid", "steps": 5},
    {"objectives": objectives.direction("blocks.1", np.linspace(-1, 1, 24)), "preset": "simonyan", "steps": 7},
    {"objectives": objectives.layer("blocks.2"), "image": photograph("coffee"), "octave_count": 1, "steps": 2},
    {"objectives": objectives.class_score("tabby") - objectives.class_score("zebra"), "preset": "yosinski", "steps": 3},
    {"class_label": "flamingo", "image": photograph("chelsea"), "preset": "pgd", "epsilon": 8 / 255, "steps": 2},
]


async def alone_and_together(
    server: Server, address: str, model: str, lengthened: int
) -> tuple[list[MaximizeResult], list[MaximizeResult]]:
    requests = [
        {
            **given,
            "steps": lengthened * given["steps"],
            "model": model,
            "size": 32,
            "seed": seed,
            "include_pixels": True,
        }
        for seed, given in enumerate(EIGHT)
    ]
    async with aio.Client(address) as client:
        alone = [await client.maximize(**request).result() for request in requests]
        before = sample(server, "gradserve_pass_rows_count")
        together = await asyncio.gather(*(client.maximize(**request).result() for request in requests))
        passes = sample(server, "gradserve_pass_rows_count") - before
    lengths = [lengthened * given["steps"] for given in EIGHT]
    assert [len(result.values) for result in alone] == [len(result.values) for result in together] == lengths
    assert {result.metadata.mean_pass_programs for result in alone} == {1}
    assert passes < sum(result.metadata.pass_count for result in alone) / 2
    assert max(result.metadata.mean_pass_programs for result in together) > 3
    return alone, together


async def test_eight_callers_share_steps_and_each_gets_its_own_answer(server: Server, address: str) -> None:
    """In float64, where nothing of others can hide behind rounding."""
    for one, many in zip(*await alone_and_together(server, address, "embedded_in_float64", 1), strict=True):
        np.testing.assert_allclose(many.pixels, one.pixels, atol=1e-6, rtol=0)
        np.testing.assert_allclose(many.values, one.values, atol=1e-6, rtol=1e-6)


async def test_eight_callers_take_in_float32_the_steps_of_each_alone(server: Server, address: str) -> None:
    """Their first two: rounding differs with the rows of a pass, and Adam makes a whole step of a gradient that is
    nothing but rounding, so that a way may part at the third.
    """
    for one, many in zip(*await alone_and_together(server, address, "efficientnet_lite0", 1), strict=True):
        np.testing.assert_allclose(many.values[:2], one.values[:2], rtol=1e-4)


async def test_three_of_eight_cancelled_stop_costing_within_a_step(server: Server, address: str) -> None:
    # More than the usual deadline leaves time for, so that all are let in.
    given = {"size": 128, "preset": "simonyan", "timeout": 3600}
    passes, rows = (sample(server, f"gradserve_pass_rows_{kind}") for kind in ("count", "sum"))
    async with aio.Client(address) as client:
        running = [
            client.maximize(class_index=index, steps=2000 if index < 3 else 12, seed=index, **given)
            for index in range(8)
        ]
        for call in running:
            while (await anext(call)).step < 3:
                pass
        shared = sample(server, "gradserve_pass_rows_count") - passes
        for call in running[:3]:
            call.cancel()
        kept = [await call.result() for call in running[3:]]
        while sample(server, "gradserve_inflight_requests", method="Maximize"):
            await asyncio.sleep(0.01)
    assert {result.stop_reason for result in kept} == {"completed"}
    paid = sum(result.metadata.pass_count for result in kept)
    wasted = sample(server, "gradserve_pass_rows_sum") - rows - paid
    # Each was in all passes so far, in the one that ran, and perhaps in one more while the cancellation was on its way.
    assert 3 * 3 <= wasted <= 3 * (shared + 2)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_the_command_saves_image_change_and_frames(
    address: str, tmp_path, capsys: pytest.CaptureFixture, suffix: str
) -> None:
    from PIL import Image

    source, output, change, gif = (tmp_path / name for name in ("in.png", f"out.{suffix}", "change.png", "way.gif"))
    Image.fromarray(photograph("coffee")).save(source)
    arguments = ["--address", address, "maximize", str(source), "--preset", "pgd", "--epsilon", "4/255", "--steps", "3"]
    assert main([*arguments, "--output", str(output), "--change", str(change), "--gif", str(gif)]) == 0
    printed = capsys.readouterr().out
    assert "espresso" in printed
    assert "completed after 3 steps" in printed
    with Image.open(output) as saved, Image.open(change) as difference, Image.open(gif) as animation:
        assert saved.size == difference.size == (224, 224)
        assert animation.n_frames >= 2
    assert main(["--address", address, "maximize", "--class", "goldfih"]) == 1
    assert "goldfish" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", [["maximize"], ["maximize", "--class", "1", "--layer", "x"]])
def test_a_wrong_command_line_says_so(address: str, wrong: list[str]) -> None:
    assert main(["--address", address, *wrong]) == 2


def test_limits_are_listed(client: Client) -> None:
    limits = client.list_models()[0].limits
    assert {limits[name] > 0 for name in ("objectives", "steps", "images", "maximize_pixels")} == {True}


def test_raw_images_are_accepted(client: Client) -> None:
    """The message of an image is the one of Explain: pixels as well as files."""
    pixels = photograph("coffee")[:64, :64].astype(np.float32) / 255
    assert to_message(pixels).WhichOneof("source") == "pixels"
    given = {"class_index": 0, "model": "in_float64", "preset": "fgsm", "include_pixels": True}
    result = client.maximize(image=pixels, **given).result()
    assert np.abs(result.pixels[0] - pixels).max() == pytest.approx(4 / 255, rel=1e-3)
