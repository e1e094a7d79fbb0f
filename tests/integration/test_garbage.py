"""What a call leaves behind: nothing large that waits for the collector of cycles.

That one counts objects and not what they hold: of tensors and photographs it lets gigabytes pile up.
"""

import gc
import time
from collections import Counter
from collections.abc import Callable, Iterator

import grpc
import numpy as np
import pytest
import torch
from google.protobuf.message import Message
from tests.property.pictures import files
from tests.small import small_server

from gradserve.images import to_message
from gradserve.v1 import explain_pb2, explainer_service_pb2_grpc, maximize_pb2, stylize_pb2
from gradserve_server.app import Server
from gradserve_server.autograd.answer import Answer
from gradserve_server.scheduling.job import Job

Stub = explainer_service_pb2_grpc.ExplainerServiceStub
LARGE = (torch.Tensor, np.ndarray, Message, Answer, Job)
TIMES = 5
ENDLESS_STEPS = 1_000_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with small_server(tmp_path_factory.mktemp("models"), steps=ENDLESS_STEPS) as running:
        yield running


@pytest.fixture
def stub(server: Server) -> Iterator[Stub]:
    with grpc.insecure_channel(f"127.0.0.1:{server.port}", [("grpc.enable_retries", 0)]) as channel:
        yield Stub(channel)


def explain(method: str = "integrated_gradients", image: bytes | None = None) -> explain_pb2.ExplainRequest:
    return explain_pb2.ExplainRequest(
        image=to_message(files()["png"] if image is None else image),
        methods=[explain_pb2.Method(**{method: {}})],
        model="rectified",
        trust={},
    )


def explained(stub: Stub) -> grpc.StatusCode:
    return stub.Explain.future(explain()).code()


def undecodable(stub: Stub) -> grpc.StatusCode:
    return stub.Explain.future(explain(image=b"no image")).code()


def late(stub: Stub) -> grpc.StatusCode:
    return stub.Explain.future(explain("rise"), timeout=0.02).code()


def maximized(stub: Stub) -> grpc.StatusCode:
    request = maximize_pb2.MaximizeRequest(
        model="rectified", step_count=3, objectives=[{"class_score": {"class_index": 1}}]
    )
    call = stub.Maximize(request)
    for _ in call:
        pass
    return call.code()


def given_up(stub: Stub) -> grpc.StatusCode:
    request = maximize_pb2.MaximizeRequest(
        model="rectified", step_count=ENDLESS_STEPS, objectives=[{"class_score": {"class_index": 1}}]
    )
    call = stub.Maximize(request)
    next(call)
    call.cancel()
    return call.code()


def stylized(stub: Stub) -> grpc.StatusCode:
    image = to_message(files()["png"])
    call = stub.Stylize(
        stylize_pb2.StylizeRequest(
            content=image, optimization={"model": "rectified", "styles": [{"image": image}], "step_count": 3}
        )
    )
    for _ in call:
        pass
    return call.code()


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (explained, grpc.StatusCode.OK),
        (undecodable, grpc.StatusCode.INVALID_ARGUMENT),
        (late, grpc.StatusCode.DEADLINE_EXCEEDED),
        (maximized, grpc.StatusCode.OK),
        (given_up, grpc.StatusCode.CANCELLED),
        (stylized, grpc.StatusCode.OK),
    ],
)
def test_nothing_large_waits_for_the_collector(
    server: Server, stub: Stub, call: Callable[[Stub], grpc.StatusCode], code: grpc.StatusCode
) -> None:
    call(stub)
    idle(server)
    gc.collect()
    gc.disable()
    try:
        assert {call(stub) for _ in range(TIMES)} == {code}
        idle(server)
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        left = Counter(type(one).__name__ for one in gc.garbage if isinstance(one, LARGE))
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    assert not left


def idle(server: Server, seconds: float = 10.0) -> None:
    """Waits until the server has seen the end of all calls."""
    end = time.monotonic() + seconds
    while server.worker.admission.count:
        assert time.monotonic() < end
        time.sleep(0.01)
    time.sleep(0.2)
