"""Every limit is a setting, is listed, and holds."""

from collections.abc import Iterator

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from tests.conftest import jpeg
from tests.serving import sample, served

from gradserve import Client, DeadlineExceeded, InvalidRequest, Overloaded
from gradserve.v1 import explainer_service_pb2_grpc, model_pb2
from gradserve_server.app import Server
from gradserve_server.scheduling.admission import Bounds
from gradserve_server.scheduling.job import Place, Priority

CAT = jpeg("chelsea")
LIMITS = {
    "image_bytes": 1 << 20,
    "image_pixels": 2_000_000,
    "heatmap_bytes": 1 << 20,
    "rows": 20,
    "layers": 2,
    "steps": 40,
    "previews": 5,
    "streams": 1,
    "queue_size": 16,
    "queue_bytes": 64 << 20,
    "methods": 3,
    "targets": 4,
    "decode_seconds": 0.25,
    "interactive_queue_seconds": 5.0,
    "iterative_queue_seconds": 5000.0,
    "tenant_share": 0.5,
}
EMBEDDED = "efficientnet_lite0"
ALONE = [("grpc.enable_retries", 0)]


@pytest.fixture(scope="module")
def limited() -> Iterator[Server]:
    with served(pass_rows=1, **LIMITS) as server:
        yield server


@pytest.fixture
def client(limited: Server) -> Iterator[Client]:
    with Client(f"127.0.0.1:{limited.port}", options=ALONE) as connected:
        yield connected


def test_all_are_listed(limited: Server) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{limited.port}") as channel:
        listed = explainer_service_pb2_grpc.ExplainerServiceStub(channel).ListModels(model_pb2.ListModelsRequest())
    expected = {name: value for name, value in LIMITS.items() if isinstance(value, int)}
    expected |= {
        "decode_ms": 250,
        "interactive_queue_ms": 5000,
        "iterative_queue_ms": 5_000_000,
        "tenant_share_percent": 50,
        "message_bytes": 17 << 20,
    }
    assert {name: getattr(listed.limits, name) for name in expected} == expected


def test_rows(client: Client) -> None:
    with pytest.raises(InvalidRequest) as caught:
        client.explain(CAT, method="smooth_grad", overlay=False)
    assert caught.value.reason == "TOO_MANY_ROWS"
    assert caught.value.metadata == {"rows": "50", "limit": "20"}
    assert client.explain(CAT, method="smooth_grad", noisy_sample_count=15, overlay=False)


def test_layers(client: Client) -> None:
    layers = ["blocks.2", "blocks.3", "blocks.4"]
    with pytest.raises(InvalidRequest) as caught:
        client.explain(CAT, method="grad_cam", layers=layers, overlay=False)
    assert "layers" in caught.value.field_violations[0].field
    assert client.explain(CAT, method="grad_cam", layers=layers[:2], overlay=False)


def test_previews(client: Client) -> None:
    asked = {"class_index": 1, "steps": 12, "size": 32}
    with pytest.raises(InvalidRequest) as caught:
        client.maximize(**asked, preview_interval_steps=2).result()
    assert caught.value.field_violations[0].field == "preview_interval_steps"
    assert client.maximize(**asked, preview_interval_steps=3).result()


def test_streams_of_a_tenant(limited: Server, client: Client) -> None:
    stub_address = f"127.0.0.1:{limited.port}"
    going = client.maximize(class_index=1, steps=40, size=224, timeout=120)
    next(going)
    before = sample(limited, "gradserve_rejected_total", reason="too_many_streams")
    with pytest.raises(Overloaded) as caught:
        client.maximize(class_index=1, steps=1, size=32).result()
    assert caught.value.reason == "TOO_MANY_STREAMS"
    assert sample(limited, "gradserve_rejected_total", reason="too_many_streams") == before + 1
    assert caught.value.retry_seconds == 1.0
    # Another tenant has its own.
    from gradserve.maximize_requests import maximize_request

    request = maximize_request(
        class_index=1,
        class_label=None,
        objectives=None,
        image=None,
        preset=None,
        steps=1,
        size=32,
        epsilon=None,
        seed=None,
        model=None,
        result_before_deadline=None,
        parts={},
    )
    with grpc.insecure_channel(stub_address) as channel:
        stub = explainer_service_pb2_grpc.ExplainerServiceStub(channel)
        assert list(stub.Maximize(request, metadata=[("gradserve-tenant", "other")]))[-1].HasField("result")
    going.result()
    assert client.maximize(class_index=1, steps=1, size=32).result()


def place(
    limited: Server,
    seconds: float,
    priority: Priority = Priority.INTERACTIVE,
    tenant: str = "other",
    byte_count: int = 0,
) -> Place:
    """Takes a place for work that nobody does."""
    taken = Place(priority, tenant, seconds=seconds, bytes=byte_count)
    limited.worker.admission.enter(taken)
    return taken


def test_work_that_waits_is_bounded_by_class(limited: Server, client: Client) -> None:
    before = sample(limited, "gradserve_rejected_total", reason="queue_full")
    # More than a share at any pace that passes may have, and of another tenant nearly all of what that leaves.
    left = 2.5 / limited.worker.admission.pace
    taken = place(limited, 50.0), place(limited, 0.9999 * left, tenant="third")
    try:
        with pytest.raises(Overloaded) as caught:
            client.explain(CAT, overlay=False)
        assert caught.value.reason == "QUEUE_FULL"
        assert caught.value.retry_seconds is not None
        trailers = dict(caught.value.__cause__.trailing_metadata())  # type: ignore[union-attr]
        pushback = int(trailers["grpc-retry-pushback-ms"])
        assert pushback == round(caught.value.retry_seconds * 1000) >= 100
        assert client.maximize(class_index=1, steps=1, size=32).result()
    finally:
        for one in taken:
            limited.worker.admission.leave(one)
    assert client.explain(CAT, overlay=False)
    assert sample(limited, "gradserve_rejected_total", reason="queue_full") == before + 1


def test_memory_that_waiting_requests_hold_is_bounded(limited: Server, client: Client) -> None:
    # No room for what an ascent of this size holds, of the half that Explain has nothing to do with.
    share = (16 << 20) - 100_000
    taken = [place(limited, 0.0, Priority.ITERATIVE, tenant, byte_count=share) for tenant in ("other", "third")]
    try:
        assert client.explain(CAT, overlay=False)
        for call in (
            lambda: client.maximize(class_index=1, steps=1, size=64).result(),
            lambda: client.stylize(CAT, style=CAT, steps=1, size=64).result(),
        ):
            with pytest.raises(Overloaded, match="MiB of iterative requests") as caught:
                call()
            assert caught.value.reason == "QUEUE_FULL"
    finally:
        for one in taken:
            limited.worker.admission.leave(one)
    assert client.maximize(class_index=1, steps=1, size=64).result()


def test_a_tenant_has_a_share(limited: Server, client: Client) -> None:
    # More than the share, of one who was alone; not yet as much as the class may have.
    taken = place(limited, 3.0 / limited.worker.admission.pace, tenant="")
    try:
        with pytest.raises(Overloaded) as caught:
            client.explain(CAT, method="smooth_grad", noisy_sample_count=20, overlay=False)
        assert caught.value.reason == "TENANT_QUOTA"
        details = rpc_status.from_call(caught.value.__cause__).details
        assert [detail for detail in details if detail.Is(error_details_pb2.QuotaFailure.DESCRIPTOR)]
    finally:
        limited.worker.admission.leave(taken)


def test_what_would_come_too_late_is_refused_before_it_is_decoded(limited: Server, client: Client) -> None:
    admission = limited.worker.admission
    (row,) = {one.row_seconds for model, one in limited.worker.calibrations.items() if model.name == EMBEDDED}
    bounds, admission.bounds = admission.bounds, Bounds()
    taken = [place(limited, row, tenant="") for _ in range(400)]
    try:
        with pytest.raises(Overloaded) as caught:
            # Each of them goes first with as much as this asks for: more than a hundred forwards.
            client.explain(b"no image", overlay=False, timeout=0.3 + 20 * row * admission.pace)
        assert caught.value.reason == "DEADLINE_UNREACHABLE"
    finally:
        for one in taken:
            admission.leave(one)
        admission.bounds = bounds


def test_an_expired_request_is_dropped_before_it_is_computed(limited: Server, client: Client) -> None:
    def dropped() -> float:
        # Client and server look at different clocks: whose deadline comes first calls it off.
        return sum(sample(limited, "gradserve_abandoned_total", reason=reason) for reason in ("deadline", "cancelled"))

    before, passes = dropped(), sample(limited, "gradserve_pass_rows_count")
    # On a slow machine the first may end before there is work to drop.
    for timeout in (0.3, 1.0, 3.0, 10.0):
        with pytest.raises(DeadlineExceeded):
            client.maximize(class_index=1, steps=40, size=1024, timeout=timeout).result()
        for _ in range(200):
            if not limited.worker.live:
                break
            client.list_models()
        assert limited.worker.live == 0
        if dropped() > before:
            break
    assert dropped() > before
    assert sample(limited, "gradserve_pass_rows_count") < passes + 160
