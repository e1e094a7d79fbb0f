"""The server as a process: ready only when warm, settings, drain."""

import json
import signal
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from tests.conftest import jpeg
from tests.serving import free_port, logged, process, served

from gradserve import Client, GradserveError, Unavailable
from gradserve.v1 import explainer_service_pb2_grpc, model_pb2
from gradserve_server.app import SERVICE, Server
from gradserve_server.models.loading import ModelLoadError

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


def test_sigterm_finishes_what_is_in_flight() -> None:
    # However slow the machine is, all twelve are let in and can end.
    with process(
        GRADSERVE_PASS_ROWS="1", GRADSERVE_INTERACTIVE_QUEUE_SECONDS="inf", GRADSERVE_DRAIN_SECONDS="600"
    ) as running:
        assert "memory" in logged(running, r"memory: .*; the collector leaves out \d{6,} objects").group()
        port, metrics_port = logged(running, r"serving on port (\d+), metrics on port (\d+)").groups()
        with Client(f"127.0.0.1:{port}", timeout=3600) as client, ThreadPoolExecutor(12) as threads:
            client.wait_ready(30)
            # Eight backward sweeps each, so that none is done before all have begun.
            ask = {"methods": ["saliency"], "top_k": 8, "frame": "model_input", "overlay": False}
            calls = [threads.submit(client.explain_many, jpeg("coffee"), **ask) for _ in range(12)]
            metrics = f"http://127.0.0.1:{metrics_port}/metrics"
            for _ in range(2000):
                if b'gradserve_inflight_requests{method="Explain"} 12.0' in urllib.request.urlopen(metrics).read():
                    break
                time.sleep(0.01)
            else:
                pytest.fail("the requests never were in flight together")
            running.send_signal(signal.SIGTERM)
            assert {call.result()[0].target.label for call in calls} == {"espresso"}
        assert running.wait(30) == 0


def test_sigterm_ends_a_server_that_is_starting() -> None:
    """Not after all of its models were measured: whoever stops it has other plans."""
    operations = f"127.0.0.1:{free_port()}"
    with process("--operations", operations) as running, grpc.insecure_channel(operations) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        answer = stub.Check(health_pb2.HealthCheckRequest(service=SERVICE), wait_for_ready=True, timeout=60)
        assert answer.status == NOT_SERVING
        running.send_signal(signal.SIGTERM)
        _, log = running.communicate(timeout=60)
    assert "serving on port" not in log
    assert "stopped while it was starting" in log
    assert running.returncode == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[model]]\nname = 'x'\nwieghts = 'y'", ["wieghts", "weights"]),
        ("[[model]]\nname = 'x'\narchitecture = 'torchvision:resnet'\nweights = 'y'", ["torchvision:resnet"]),
        ("[[model]]\nname = 'x'\narchitecture = 'torchvision:resnet18'", ["weights"]),
        ("[[model]]\nname = 'x'\nsha256 = '00'", ["SHA-256"]),
        ("[[model]]\nname = 'x'\npreprocessing = { resize = 100 }", ["resize"]),
        ("[[model]]\nname = 'x'\ndefault_layer = 'nope'", ["nope"]),
        ("[[model]]\nname = 'x'\n[[model]]\nname = 'x'", ["twice"]),
        ("[[model]]", ["name"]),
        ("", ["[[model]]"]),
        ("model = 1", ["[[model]] tables", "1"]),
        ("[[model]]\nname = 'x'\nlimits = { steps = '100' }", ["limit steps", "whole number", "'100'"]),
        ("[[model]]\nname = 'x'\nlimits = { steps = 0 }", ["limit steps", "1 or more"]),
        ("[[model", ["models.toml"]),
    ],
)
def test_a_mistake_in_the_catalogue_says_what_to_do_in_one_line(tmp_path: Path, text: str, words: list[str]) -> None:
    (tmp_path / "models.toml").write_text(text)
    with pytest.raises(ModelLoadError) as caught, served(models=tmp_path / "models.toml", pass_rows=1):
        pass
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_a_taken_port_is_an_error(server: Server) -> None:
    with process("--listen", f"127.0.0.1:{server.port}") as running:
        _, errors = running.communicate(timeout=60)
    assert running.returncode == 1
    assert "another server" in errors.splitlines()[-1]
    assert "Traceback" not in errors


def test_health(server: Server, address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for name in (SERVICE, "", "liveness"):
            assert stub.Check(health_pb2.HealthCheckRequest(service=name)).status == SERVING


async def test_not_serving_until_warm_and_while_draining() -> None:
    import asyncio

    from gradserve_server.config import Settings

    server = Server(Settings(listen="127.0.0.1:0", metrics="127.0.0.1:0", pass_rows=1))
    starting = asyncio.ensure_future(server.start())
    while not server.port:
        await asyncio.sleep(0.01)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)

        async def status(name: str) -> int:
            request = health_pb2.HealthCheckRequest(service=name)
            return (await stub.Check(request, wait_for_ready=True)).status

        assert await status(SERVICE) == NOT_SERVING
        assert await status("liveness") == SERVING
        await starting
        assert await status(SERVICE) == SERVING
        await server._health.set_ready(False)
        assert await status(SERVICE) == NOT_SERVING
        assert await status("liveness") == SERVING
    await server.stop()


async def test_a_server_that_stops_refuses_until_nobody_calls() -> None:
    """Calls that it had received and not looked at would end as CANCELLED, which nobody repeats."""
    import asyncio

    from gradserve_server.config import Settings

    server = Server(Settings(listen="127.0.0.1:0", metrics="127.0.0.1:0", pass_rows=1))
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}", [("grpc.enable_retries", 0)]) as channel:
        stub = explainer_service_pb2_grpc.ExplainerServiceStub(channel)
        await stub.ListModels(model_pb2.ListModelsRequest())
        stopping = asyncio.ensure_future(server.stop())
        for _ in range(30):
            await asyncio.sleep(0.05)
            with pytest.raises(grpc.aio.AioRpcError, match="the server is stopping"):
                await stub.ListModels(model_pb2.ListModelsRequest())
        assert not stopping.done()
    await stopping


def test_reflection(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        (answer,) = stub.ServerReflectionInfo(iter([request]))
    assert SERVICE in {service.name for service in answer.list_services_response.service}


def test_an_exception_never_reaches_a_caller(server: Server, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from gradserve_server.rpc import responses

    def broken(*args: object) -> None:
        raise ZeroDivisionError("secret path")

    monkeypatch.setattr(responses, "explain_response", broken)
    with Client(address) as client, pytest.raises(GradserveError) as caught:
        client.explain(jpeg("coffee"))
    assert caught.value.code is grpc.StatusCode.INTERNAL
    assert "secret" not in str(caught.value)


def test_a_second_sigterm_ends_it_at_once() -> None:
    with process(GRADSERVE_PASS_ROWS="1", GRADSERVE_DRAIN_SECONDS="600") as running:
        (port,) = logged(running, r"serving on port (\d+)").groups()
        with (
            Client(f"127.0.0.1:{port}", options=[("grpc.enable_retries", 0)]) as client,
            ThreadPoolExecutor(1) as thread,
        ):
            client.wait_ready(60)
            going = client.maximize(class_index=1, steps=2048, timeout=600)
            next(going)
            rest = thread.submit(going.result)
            running.send_signal(signal.SIGTERM)
            logged(running, "draining")
            # New calls go elsewhere; the one in flight goes on.
            with pytest.raises(Unavailable):
                client.explain(jpeg("coffee"))
            assert not rest.done()
            running.send_signal(signal.SIGTERM)
            assert running.wait(60) == 1
            with pytest.raises(Unavailable):
                rest.result(60)


def test_what_does_not_end_within_the_grace_is_cut_off() -> None:
    with process(GRADSERVE_PASS_ROWS="1", GRADSERVE_DRAIN_SECONDS="0.5") as running:
        (port,) = logged(running, r"serving on port (\d+)").groups()
        with Client(f"127.0.0.1:{port}", options=[("grpc.enable_retries", 0)]) as client:
            client.wait_ready(60)
            going = client.maximize(class_index=1, steps=2048, timeout=600)
            next(going)
            running.send_signal(signal.SIGTERM)
            logged(running, "still in flight")
            with pytest.raises(GradserveError) as caught:
                going.result()
            assert caught.value.code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
            assert running.wait(60) == 0


def test_logs_are_objects_when_json_is_asked_for() -> None:
    with process("--log-format", "json", GRADSERVE_PASS_ROWS="1") as running:
        line = logged(running, r"serving on port (\d+)")
        with Client(f"127.0.0.1:{line.group(1)}") as client:
            client.wait_ready(60)
            client.explain(jpeg("coffee"))
        said = json.loads(logged(running, '"method": "Explain"').string)
        assert (said["outcome"], said["level"]) == ("OK", "INFO")
        running.send_signal(signal.SIGTERM)
        rest = running.communicate(timeout=60)[1]
        assert all(json.loads(line) for line in rest.splitlines())
