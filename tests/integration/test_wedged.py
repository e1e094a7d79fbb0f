"""A worker that hangs, with a network whose forward really does not come back."""

import os
from pathlib import Path

import grpc
import pytest
import torch
from grpc_health.v1 import health_pb2, health_pb2_grpc
from safetensors.torch import save_file
from tests.conftest import jpeg
from tests.serving import logged, process, sample, served

from gradserve import Client, Unavailable
from gradserve_server.app import SERVICE

NETWORK = """
import threading
from pathlib import Path

from torch import nn

BOUND = 120


class Hanging(nn.Module):
    def __init__(self, num_classes, flag):
        super().__init__()
        self.layer = nn.Conv2d(3, num_classes, 3)
        self.flag = flag

    def forward(self, images):
        if Path(self.flag).exists():
            threading.Event().wait(BOUND)
        return self.layer(images).relu().mean((2, 3))


def hanging(num_classes, flag):
    return Hanging(num_classes, flag)
"""


@pytest.fixture
def flag(tmp_path: Path) -> Path:
    """From when it exists on, the network hangs."""
    return tmp_path / "hang"


@pytest.fixture
def catalogue(tmp_path: Path, flag: Path) -> Path:
    (tmp_path / "hanging_network.py").write_text(NETWORK)
    layer = torch.nn.Conv2d(3, 4, 3)
    save_file({f"layer.{name}": value for name, value in layer.state_dict().items()}, tmp_path / "w.safetensors")
    path = tmp_path / "models.toml"
    path.write_text(
        f"""
[[model]]
name = "hanging"
architecture = "python:hanging_network:hanging"
options = {{ flag = "{flag}" }}
weights = "w.safetensors"
class_count = 4
# As it was, or passes would follow what it called when it was loaded.
fold = false
preprocessing = {{ height = 32, width = 32, resize = 32 }}
"""
    )
    return path


def test_a_worker_that_hangs_ends_the_process_and_callers_are_told(catalogue: Path, flag: Path) -> None:
    flags = ("--models", str(catalogue), "--allow-python-models", "true", "--wedged-seconds", "3", "--pass-rows", "4")
    with process(*flags, PYTHONPATH=f"{catalogue.parent}:{_path()}") as running:
        port = logged(running, r"serving on port (\d+)").group(1)
        address = f"127.0.0.1:{port}"
        with (
            Client(address, options=[("grpc.enable_retries", 0)]) as client,
            grpc.insecure_channel(address) as channel,
        ):
            client.wait_ready(60)
            client.explain(jpeg("coffee"), method="saliency")
            watched = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service="liveness"))
            assert next(watched).status == health_pb2.HealthCheckResponse.SERVING
            flag.touch()
            with pytest.raises(Unavailable) as caught:
                client.explain(jpeg("coffee"), method="saliency", timeout=60)
            assert "worker" in caught.value.message
            assert next(watched).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert running.wait(60) == 1


def test_a_worker_that_is_only_slow_is_left_alone(catalogue: Path, flag: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(catalogue.parent)
    with served(models=catalogue, allow_python_models=True, pass_rows=1, wedged_seconds=60.0) as server:
        with Client(f"127.0.0.1:{server.port}") as client, grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            client.wait_ready(30)
            client.explain_many(jpeg("coffee"), methods=[("rise", {"mask_count": 500})], overlay=False)
            stub = health_pb2_grpc.HealthStub(channel)
            for name in ("liveness", SERVICE):
                answer = stub.Check(health_pb2.HealthCheckRequest(service=name))
                assert answer.status == health_pb2.HealthCheckResponse.SERVING
        assert sample(server, "gradserve_pass_rows_count") > 100
        assert not server.failed.is_set()


def _path() -> str:
    return os.environ.get("PYTHONPATH", "")
