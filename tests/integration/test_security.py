"""Who may call, over real channels: certificates, tokens, and the port for probes beside them."""

import io
import json
import logging
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_channelz.v1 import channelz_pb2, channelz_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from tests.certificates import Certificates
from tests.conftest import jpeg
from tests.serving import sample, served

from gradserve import Client, Unauthenticated, Unavailable, aio
from gradserve.cli import main
from gradserve.v1 import explain_pb2, explainer_service_pb2_grpc
from gradserve_server.app import SERVICE, Server
from gradserve_server.errors import Misconfigured
from gradserve_server.rpc.tokens import Tokens, token_line

CAT = jpeg("chelsea")
TOKEN, OTHER_TOKEN = "the-token-of-the-web-shop", "the-token-of-the-data-lake"
ALONE = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]


@contextmanager
def logged(name: str) -> Iterator[list[logging.LogRecord]]:
    """Keeps the records of a logger, of any thread."""
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign]
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        yield records
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    made = Certificates(tmp_path_factory.mktemp("certificates"))
    made.issue("server")
    made.issue("shop")
    return made


@pytest.fixture(scope="module")
def mutual(certificates: Certificates) -> Iterator[Server]:
    folder = certificates.folder
    with served(
        pass_rows=1,
        operations="127.0.0.1:0",
        tls_certificate=folder / "server.pem",
        tls_key=folder / "server.key",
        tls_client_authorities=certificates.root,
    ) as server:
        yield server


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "tokens"
    path.write_text(f"# who may call\n\n{token_line('shop', TOKEN)}\n")
    return path


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokens") / "tokens"
    path.write_text(f"{token_line('shop', TOKEN)}\n")
    return path


@pytest.fixture(scope="module")
def guarded(tokens: Path) -> Iterator[Server]:
    with served(pass_rows=1, operations="127.0.0.1:0", tokens=tokens) as server:
        yield server


def shown(certificates: Certificates, name: str = "shop") -> dict[str, Any]:
    folder = certificates.folder
    return {
        "root_certificates": certificates.root,
        "certificate_chain": folder / f"{name}.pem",
        "private_key": folder / f"{name}.key",
        "options": ALONE,
    }


def tenant_of_call(client: Client, **arguments: Any) -> str:
    """Makes a call and returns whose the server takes it for."""
    with logged("gradserve_server.rpc.access_log") as records:
        client.explain(CAT, overlay=False, **arguments)
    (record,) = [record for record in records if record.fields["method"] == "Explain"]  # type: ignore[attr-defined]
    return str(record.fields["tenant"])  # type: ignore[attr-defined]


def test_a_certificate_opens_the_service_and_its_name_is_the_tenant(mutual: Server, certificates: Certificates) -> None:
    with Client(f"localhost:{mutual.port}", **shown(certificates)) as client:
        client.wait_ready(30)
        assert tenant_of_call(client) == "shop"


async def test_the_client_for_asyncio_shows_its_certificate(mutual: Server, certificates: Certificates) -> None:
    async with aio.Client(f"localhost:{mutual.port}", **shown(certificates)) as client:
        await client.wait_ready(30)
        assert (await client.explain(CAT, overlay=False)).predictions


def test_without_a_certificate_or_in_plain_text_nobody_gets_in(mutual: Server, certificates: Certificates) -> None:
    address = f"localhost:{mutual.port}"
    foreign = Certificates(certificates.folder / "foreign")
    chain, key = foreign.issue("shop")
    for arguments in (
        {"root_certificates": certificates.root},
        {"root_certificates": certificates.root, "certificate_chain": chain, "private_key": key},
        {},
    ):
        before = sample(mutual, "grpc_server_started_total", **labels("ListModels"))
        with Client(address, options=ALONE, **arguments) as client, pytest.raises(Unavailable):
            client.list_models(timeout=20)
        assert sample(mutual, "grpc_server_started_total", **labels("ListModels")) == before


def test_a_caller_with_a_certificate_cannot_say_to_be_another(mutual: Server, certificates: Certificates) -> None:
    credentials = grpc.ssl_channel_credentials(
        certificates.root.read_bytes(),
        (certificates.folder / "shop.key").read_bytes(),
        (certificates.folder / "shop.pem").read_bytes(),
    )
    with (
        grpc.secure_channel(f"localhost:{mutual.port}", credentials) as channel,
        logged("gradserve_server.rpc.access_log") as records,
    ):
        request = explain_pb2.ExplainRequest(image={"encoded": CAT}, methods=[{"saliency": {}}])
        explainer_service_pb2_grpc.ExplainerServiceStub(channel).Explain(
            request, metadata=[("gradserve-tenant", "lake")]
        )
    assert [record.fields["tenant"] for record in records] == ["shop"]  # type: ignore[attr-defined]


def serial(port: int, certificates: Certificates) -> int:
    """Returns the serial number of the certificate that the server shows in a new handshake."""
    from cryptography import x509

    context = ssl.create_default_context(cafile=str(certificates.root))
    context.load_cert_chain(certificates.folder / "shop.pem", certificates.folder / "shop.key")
    context.set_alpn_protocols(["h2"])
    import socket

    with (
        socket.create_connection(("127.0.0.1", port), timeout=20) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secured,
    ):
        return x509.load_der_x509_certificate(secured.getpeercert(binary_form=True) or b"").serial_number


def test_new_certificates_are_taken_up_and_calls_go_on(mutual: Server, certificates: Certificates) -> None:
    folder = certificates.folder
    before = serial(mutual.port, certificates)
    with Client(f"localhost:{mutual.port}", **shown(certificates)) as old:
        old.wait_ready(30)
        with logged("gradserve_server.rpc.credentials") as records:
            # Half of a new set leaves the old one in force.
            key = (folder / "server.key").read_bytes()
            certificates.issue("server")
            new = (folder / "server.key").read_bytes()
            (folder / "server.key").write_bytes(key)
            assert serial(mutual.port, certificates) == before
            assert serial(mutual.port, certificates) == before
            assert [record.levelname for record in records] == ["ERROR"]
            (folder / "server.key").write_bytes(new)
            after = serial(mutual.port, certificates)
            assert after != before
            assert [record.levelname for record in records] == ["ERROR", "INFO"]
        assert old.explain(CAT, overlay=False).predictions
    with Client(f"localhost:{mutual.port}", **shown(certificates)) as client:
        assert client.list_models()


def test_probes_need_no_certificate(mutual: Server) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{mutual.operations_port}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for name in (SERVICE, "", "liveness"):
            answer = stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=20)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        servers = channelz_pb2_grpc.ChannelzStub(channel).GetServers(channelz_pb2.GetServersRequest(), timeout=20)
        assert servers.server
        with pytest.raises(grpc.RpcError) as caught:
            explainer_service_pb2_grpc.ExplainerServiceStub(channel).Explain(explain_pb2.ExplainRequest(), timeout=20)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def labels(method: str, kind: str = "unary", **more: str) -> dict[str, str]:
    return {"grpc_type": kind, "grpc_service": SERVICE, "grpc_method": method, **more}


def test_a_token_opens_the_service_and_its_name_is_the_tenant(guarded: Server) -> None:
    with Client(f"127.0.0.1:{guarded.port}", token=TOKEN) as client:
        client.wait_ready(30)
        assert tenant_of_call(client) == "shop"
        *_, last = client.maximize(class_index=1, steps=1, size=32)
        assert last.image


@pytest.mark.parametrize(("token", "reason"), [(None, "TOKEN_MISSING"), ("the-token-of-somebody", "TOKEN_UNKNOWN")])
def test_without_a_known_token_nobody_is_answered(guarded: Server, token: str | None, reason: str) -> None:
    refused = labels("Maximize", "server_stream", grpc_code="Unauthenticated")
    before = sample(guarded, "grpc_server_handled_total", **refused)
    with Client(f"127.0.0.1:{guarded.port}", token=token) as client:
        for call in (
            lambda: client.explain(CAT),
            client.list_models,
            lambda: client.maximize(class_index=1).result(),
        ):
            with pytest.raises(Unauthenticated) as caught:
                call()
            assert caught.value.reason == reason
            assert caught.value.request_id
            assert (token or "no token") not in str(caught.value)
    assert sample(guarded, "grpc_server_handled_total", **refused) == before + 1


async def test_the_client_for_asyncio_sends_its_token(guarded: Server) -> None:
    async with aio.Client(f"127.0.0.1:{guarded.port}", token=TOKEN) as client:
        assert await client.list_models()
        assert (await client.maximize(class_index=1, steps=1, size=32).result()).image
    async with aio.Client(f"127.0.0.1:{guarded.port}") as client:
        with pytest.raises(Unauthenticated):
            await client.list_models()


def test_health_needs_no_token_and_reflection_does(guarded: Server) -> None:
    for port in (guarded.port, guarded.operations_port):
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=SERVICE))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
    with grpc.insecure_channel(f"127.0.0.1:{guarded.port}") as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        asked = reflection_pb2.ServerReflectionRequest(list_services="")
        with pytest.raises(grpc.RpcError) as caught:
            list(stub.ServerReflectionInfo(iter([asked])))
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert list(stub.ServerReflectionInfo(iter([asked]), metadata=[("authorization", f"Bearer {TOKEN}")]))


def test_tokens_are_taken_up_when_their_file_changes(guarded: Server, tokens: Path, tmp_path: Path) -> None:
    def publish(text: str) -> None:
        partial = tokens.with_suffix(".partial")
        partial.write_text(text)
        partial.replace(tokens)

    presented = tmp_path / "token"
    presented.write_text(f"{TOKEN}\n")
    address = f"127.0.0.1:{guarded.port}"
    before = tokens.read_text()
    try:
        with Client(address, token=presented) as client:
            assert client.list_models()
            # Both are good while callers change over; then the old one is not any more.
            publish(f"{before}{token_line('shop', OTHER_TOKEN)}\n")
            assert client.list_models()
            publish(f"{token_line('shop', OTHER_TOKEN)}\n")
            with pytest.raises(Unauthenticated):
                client.list_models()
            presented.write_text(OTHER_TOKEN)
            assert client.list_models()
            with logged("gradserve_server.rpc.tokens") as records:
                publish(f"shop {OTHER_TOKEN}\n")
                assert client.list_models()
                assert client.list_models()
            assert [record.levelname for record in records] == ["ERROR"]
            assert OTHER_TOKEN not in records[0].getMessage()
    finally:
        publish(before)


def test_a_token_file_that_holds_tokens_is_refused_at_the_start(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text(f"shop {TOKEN}\n")
    with pytest.raises(Misconfigured, match="line 1"), served(tokens=path):
        pass
    with pytest.raises(Misconfigured, match="No such file"):
        Tokens(tmp_path / "nowhere")


def test_certificates_that_do_not_fit_are_refused_at_the_start(certificates: Certificates, tmp_path: Path) -> None:
    other, _ = Certificates(tmp_path).issue("other")
    key = certificates.folder / "shop.key"
    with pytest.raises(Misconfigured, match="with its key"), served(tls_certificate=other, tls_key=key):
        pass
    with pytest.raises(Misconfigured, match="both"), served(tls_certificate=other):
        pass


def test_hash_token_prints_a_line_and_never_the_token(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "gradserve_server", "hash-token", "shop"]
    done = subprocess.run(command, input=f"{TOKEN}\n", capture_output=True, text=True, check=True)
    assert done.stdout.strip() == token_line("shop", TOKEN)
    made = subprocess.run([*command, "--new"], capture_output=True, text=True, check=True)
    path = tmp_path / "tokens"
    path.write_text(done.stdout + made.stdout)
    assert Tokens(path).name(made.stderr.strip()) == "shop"
    assert Tokens(path).name(TOKEN) == "shop"
    assert TOKEN not in path.read_text()
    short = subprocess.run(command, input="secret\n", capture_output=True, text=True)
    assert short.returncode == 1
    assert "at least 20" in short.stderr


def test_a_token_is_hashed_without_torch() -> None:
    program = "from gradserve_server.__main__ import main; import sys; main(['hash-token', 'shop', '--new'])"
    done = subprocess.run(
        [sys.executable, "-c", f"{program}; print('torch' in sys.modules)"], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "False"


def test_the_command_line_shows_certificate_and_token(
    mutual: Server, guarded: Server, certificates: Certificates, token_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown_by_flags = [
        flag
        for name, value in shown(certificates).items()
        if name != "options"
        for flag in (f"--{name.replace('_', '-')}", str(value))
    ]
    assert main(["--address", f"localhost:{mutual.port}", *shown_by_flags, "models"]) == 0
    token_file.write_text(TOKEN)
    guarded_address = ["--address", f"127.0.0.1:{guarded.port}"]
    assert main([*guarded_address, "--token-file", str(token_file), "models"]) == 0
    assert "efficientnet_lite0" in capsys.readouterr().out
    assert main([*guarded_address, "models"]) == 1
    assert "token" in capsys.readouterr().err


def test_a_request_id_comes_back_in_trailer_error_and_log(guarded: Server) -> None:
    with (
        grpc.insecure_channel(f"127.0.0.1:{guarded.port}") as channel,
        logged("gradserve_server.rpc.access_log") as records,
    ):
        stub = explainer_service_pb2_grpc.ExplainerServiceStub(channel)
        mine = [("authorization", f"Bearer {TOKEN}"), ("x-request-id", "order-66/1")]
        request = explain_pb2.ExplainRequest(image={"encoded": CAT}, methods=[{"saliency": {}}])
        _, call = stub.Explain.with_call(request, metadata=mine)
        assert ("x-request-id", "order-66/1") in call.trailing_metadata()
        # One that could break a line of a log is not taken over.
        for given in ([], [("x-request-id", 'x" outcome="OK')], [("x-request-id", "x" * 200)]):
            with pytest.raises(grpc.RpcError) as caught:
                stub.Explain(explain_pb2.ExplainRequest(), metadata=[*mine[:1], *given])
            (made,) = [value for key, value in caught.value.trailing_metadata() if key == "x-request-id"]
            assert len(made) == 32
    assert records[0].fields["request_id"] == "order-66/1"  # type: ignore[attr-defined]
    assert records[-1].fields["request_id"] == made  # type: ignore[attr-defined]
    assert [record.fields["outcome"] for record in records] == ["OK"] + ["INVALID_ARGUMENT"] * 3  # type: ignore[attr-defined]


def test_each_request_is_one_line_of_json(guarded: Server) -> None:
    from gradserve_server.observability.logs import _Json

    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_Json())
    logger = logging.getLogger("gradserve_server.rpc.access_log")
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        with Client(f"127.0.0.1:{guarded.port}", token=TOKEN) as client:
            client.explain(CAT, overlay=False)
            client.maximize(class_index=1, steps=2, size=32).result()
    finally:
        logger.removeHandler(handler)
    explained, maximized = map(json.loads, stream.getvalue().splitlines())
    assert explained["method"] == "Explain"
    assert maximized["method"] == "Maximize"
    for line in (explained, maximized):
        assert line["model"] == "efficientnet_lite0"
        assert line["outcome"] == "OK"
        assert line["tenant"] == "shop"
        assert line["request_id"]
        assert line["queue_seconds"] >= 0
        assert 0 < line["compute_seconds"] <= line["seconds"]
