"""What a caller's editor and type checker see: the same of both clients, and typed to the end."""

import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gradserve import Client, aio

ROOT = Path(__file__).parents[3]
OWN = ("__init__", "explain", "explain_many", "explain_stream", "maximize", "stylize", "list_models", "list_stylizers")
CALLER = """
import asyncio
from pathlib import Path
from typing import Any, assert_type

from PIL.Image import Image

from gradserve import Client, Explanation, MaximizeResult, Model, Progress, Streamed, StylizeResult, aio, methods


def plain(client: Client) -> None:
    assert_type(client.explain("cat.jpg"), Explanation)
    assert_type(client.explain("cat.jpg", method=methods.IntegratedGradients(step_count=64)).overlay, Image | None)
    client.explain("cat.jpg", method="integrated_gradients", step_count=64)
    methods.IntegratedGradients(steps=64)  # type: ignore[call-arg]
    methods.IntegratedGradients(step_count="64")  # type: ignore[arg-type]
    methods.Saliency(reduction="maximum")  # type: ignore[arg-type]
    methods.IntegratedGradients(baselines=["white", ("blurred", {"sigma_px": 5.0}), ("image", Path("grey.png"))])
    methods.SmoothGrad(around=methods.GuidedBackprop(), noise_sigma=0.1)
    methods.Rise().mask_count = 7  # type: ignore[misc]
    client.explain(7)  # type: ignore[arg-type]
    assert_type(client.explain_many("cat.jpg", methods=["saliency", methods.GradCam(layers="conv")]), list[Explanation])
    for one in client.explain_stream(Path().glob("*.jpg"), ordered=False):
        assert_type(one, Streamed[Path])
        assert_type(one.error, Exception | None)
        assert_type(one.image.stem, str)
        assert_type(one.explanation, Explanation)
        assert_type(one.explanation.to_dict(), dict[str, Any])
    assert_type(client.maximize(class_label="goldfish").result(), MaximizeResult)
    for event in client.stylize("cat.jpg", "night.jpg"):
        assert_type(event, Progress | StylizeResult)
    assert_type(client.list_models(), list[Model])
    assert_type(client.wait_ready(5.0), None)


async def asynchronous(client: aio.Client) -> None:
    assert_type(await client.explain("cat.jpg", method=methods.Lrp(gamma=0.5)), Explanation)
    stream = client.explain_stream([b"", b""])
    async for one in stream:
        assert_type(one, Streamed[bytes])
    await stream.aclose()
    assert_type(await client.maximize(class_index=1).result(), MaximizeResult)
    async for event in client.stylize("cat.jpg", stylizer="stained_glass"):
        assert_type(event, Progress | StylizeResult)
    assert_type(await client.list_models(), list[Model])
"""


@pytest.mark.parametrize("name", OWN)
def test_both_clients_take_the_same(name: str) -> None:
    plain, asynchronous = (inspect.signature(getattr(client, name)).parameters for client in (Client, aio.Client))
    assert [(one.name, one.kind, one.default) for one in plain.values()] == [
        (one.name, one.kind, one.default) for one in asynchronous.values()
    ]


def test_both_clients_can_the_same() -> None:
    assert {name for name in vars(Client) if not name.startswith("_")} == {
        name for name in vars(aio.Client) if not name.startswith("_")
    }
    assert (ROOT / "client/gradserve/py.typed").exists()


def test_importing_brings_nothing_heavy() -> None:
    code = "import sys, gradserve, gradserve.aio, gradserve.methods; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = set(done.stdout.split())
    heavy = {"torch", "gradserve_server", "gradserve.commands", "click", "rich", "PIL.PngImagePlugin", "matplotlib"}
    assert not heavy & imported


def test_a_caller_under_strict_mypy(tmp_path: Path) -> None:
    """What is wrong is marked; strict mypy complains of a mark that stands on nothing."""
    caller = tmp_path / "caller.py"
    caller.write_text(CALLER)
    # As an installed package is seen: its own code is not judged again.
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--follow-imports=silent", str(caller)]
    environment = {**os.environ, "MYPYPATH": str(ROOT / "client")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
