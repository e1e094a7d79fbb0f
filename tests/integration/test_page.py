"""The page's bridge: the same answers and errors over HTTP, for this site only, and nothing by default."""

import json
import socket
import threading
import time
import urllib.error
import urllib.request
from base64 import b64decode, b64encode
from collections.abc import Iterator
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
from tests.conftest import jpeg
from tests.serving import free_port, sample, served

from gradserve_server.app import Server
from gradserve_server.models.failure import ModelLoadError
from gradserve_server.ui.page import STATIC

PHOTOGRAPH = {"encoded": b64encode(jpeg("chelsea")).decode()}


@pytest.fixture(scope="module")
def shown() -> Iterator[Server]:
    with served(ui="127.0.0.1:0", pass_rows=4) as server:
        yield server


def ask(server: Server, path: str, message: Any = None, **headers: str) -> tuple[int, bytes, Any]:
    """Returns status, body and headers of an answer; asks by POST where there is a message."""
    data = None if message is None else json.dumps(message).encode()
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    if data is not None:
        headers = {"Content-Type": "application/json", **headers}
    request = urllib.request.Request(f"http://127.0.0.1:{server.page.port}/{path}", data, headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read(), answer.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(), error.headers


def test_without_the_setting_there_is_no_page(server: Server) -> None:
    assert server.page is None


def test_files_are_served_for_this_site_only(shown: Server) -> None:
    for path in ("", *(file.name for file in STATIC.iterdir())):
        status, body, headers = ask(shown, path)
        assert status == 200, path
        assert body
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
    assert ask(shown, "../page.py")[0] == 404
    assert ask(shown, "photographs/chelsea.png")[1].startswith(b"\x89PNG")
    assert ask(shown, "photographs/moon.png")[0] == 404


def test_an_explanation_is_that_of_the_service_without_its_numbers(shown: Server) -> None:
    message = {"image": PHOTOGRAPH, "methods": [{"grad_cam": {}}, {"saliency": {"reduction": "CHANNEL_REDUCTION_SUM"}}]}
    status, body, _ = ask(shown, "api/Explain", {**message, "overlay": {"format": "IMAGE_FORMAT_WEBP"}})
    assert status == 200, body
    answer = json.loads(body)
    assert answer["predictions"][0]["class_label"] == "Egyptian cat"
    assert [one["method"] for one in answer["explanations"]] == ["grad_cam", "saliency"]
    assert "heatmap" not in answer["explanations"][0]
    with PIL.Image.open(BytesIO(b64decode(answer["explanations"][0]["overlay"]["data"]))) as overlay:
        assert overlay.size == (451, 300)


NO_LAYER = {"image": PHOTOGRAPH, "methods": [{"grad_cam": {"layers": ["no"]}}]}
NO_MASKS = {"image": PHOTOGRAPH, "methods": [{"rise": {"mask_count": -1}}]}
UNICORN = {"objectives": [{"class_score": {"class_label": "unicorn"}}]}


@pytest.mark.parametrize(
    ("rpc", "message", "status", "field", "words"),
    [
        ("Explain", NO_LAYER, 400, "methods[0].grad_cam.layers[0]", ""),
        ("Explain", NO_MASKS, 400, "methods[0].rise.mask_count", "10000"),
        ("Explain", {"model": "nobody"}, 404, "model", "nobody"),
        ("Maximize", UNICORN, 400, "objectives[0].class_score.class_label", "unicorn"),
        ("Explain", {"methods": [{"no_such_method": {}}]}, 400, "", "no_such_method"),
        ("Explain", [1], 400, "", "JSON"),
        ("Predict", {}, 404, "", "Explain"),
    ],
)
def test_errors_keep_their_field_and_their_words(
    shown: Server, rpc: str, message: Any, status: int, field: str, words: str
) -> None:
    found, body, _ = ask(shown, f"api/{rpc}", message)
    error = json.loads(body)
    assert (found, error["fields"]) == (status, [field] if field else [])
    assert words in error["message"]


def test_other_sites_and_other_names_are_refused(shown: Server) -> None:
    assert ask(shown, "api/ListModels", {})[0] == 200
    assert ask(shown, "api/ListModels", {}, Sec_Fetch_Site="same-origin")[0] == 200
    assert ask(shown, "api/ListModels", {}, Sec_Fetch_Site="cross-site")[0] == 403
    assert ask(shown, "api/ListModels", {}, Content_Type="text/plain")[0] == 415
    assert ask(shown, "", Host="evil.example")[0] == 403
    assert ask(shown, "", Host=f"localhost:{shown.page.port}")[0] == 200


def test_a_stream_is_events_and_ends_when_its_reader_goes(shown: Server) -> None:
    message = {"objectives": [{"class_score": {"class_index": 1}}], "size": {"height": 32, "width": 32}}
    status, body, headers = ask(shown, "api/Maximize", {**message, "step_count": 3})
    assert (status, headers["Content-Type"]) == (200, "text/event-stream")
    kinds = [line.removeprefix("event: ") for line in body.decode().splitlines() if line.startswith("event: ")]
    assert kinds[-1] == "result"
    assert set(kinds[:-1]) <= {"progress"}

    data = json.dumps({**message, "step_count": 2048}).encode()
    url = f"http://127.0.0.1:{shown.page.port}/api/Maximize"
    with urllib.request.urlopen(urllib.request.Request(url, data, {"Content-Type": "application/json"})) as answer:
        assert answer.readline() == b"event: progress\n"
    gone = threading.Event()
    for _ in range(600):
        if sample(shown, "gradserve_inflight_requests", method="Maximize") == 0:
            break
        gone.wait(0.05)
    assert sample(shown, "gradserve_inflight_requests", method="Maximize") == 0
    cancelled = {"grpc_service": "gradserve.v1.ExplainerService", "grpc_method": "Maximize", "grpc_code": "Cancelled"}
    found = [
        one for family in shown.metrics.registry.collect() for one in family.samples
        if one.name == "grpc_server_handled_total" and cancelled.items() <= one.labels.items()
    ]  # fmt: skip
    assert sum(one.value for one in found) >= 1


def test_a_taken_address_is_an_error_before_any_model_is_loaded(shown: Server, tmp_path: Path) -> None:
    catalogue = tmp_path / "models.toml"
    catalogue.write_text("[[model]]\nname = 'net'\nsha256 = '00'")
    taken = f"127.0.0.1:{shown.page.port}"
    with pytest.raises(OSError, match="Address already in use"), served(ui=taken, models=catalogue):
        pass
    with pytest.raises(ModelLoadError, match="SHA-256"), served(models=catalogue, pass_rows=1):
        pass


def test_who_opens_the_page_while_models_are_loaded_waits_for_it() -> None:
    """A browser opened too early shows the page, not an error."""
    address = ("127.0.0.1", free_port())
    connected: list[float] = []
    answers: list[bytes] = []

    def open_early() -> None:
        end = time.monotonic() + 60
        while not connected and time.monotonic() < end:
            time.sleep(0.01)
            with suppress(ConnectionRefusedError), socket.create_connection(address) as browser:
                connected.append(time.monotonic())
                browser.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
                answers.append(browser.recv(1 << 16))

    browser = threading.Thread(target=open_early)
    browser.start()
    with served(ui=f"127.0.0.1:{address[1]}", pass_rows=1):
        ready = time.monotonic()
        browser.join(timeout=60)
    assert connected[0] < ready
    assert answers[0].startswith(b"HTTP/1.1 200")
