"""Sending many requests to a server and noting how each ends."""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock, Semaphore
from time import monotonic
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt
from google.protobuf.json_format import ParseDict
from google.protobuf.message_factory import GetMessageClass
from tests.property.drawing import draw_many
from tests.property.messages import REQUESTS, Known, Sent, sent
from tests.property.pictures import files

from gradserve import Client
from gradserve.v1 import stylize_pb2
from gradserve_server.app import SERVICE

DOCUMENTED = frozenset(
    {
        "OK",
        "INVALID_ARGUMENT",
        "NOT_FOUND",
        "FAILED_PRECONDITION",
        "UNIMPLEMENTED",
        "RESOURCE_EXHAUSTED",
        "UNAVAILABLE",
        "DEADLINE_EXCEEDED",
    }
)
"""What docs/errors.md lists, but for CANCELLED, which nobody here does, and INTERNAL, a fault of the server."""
PATIENCE_SECONDS = 1.0
"""Deadline of each request. A few ask for thousands of rows, and need it."""
IN_FLIGHT = 4


def known_by(client: Client) -> Known:
    """Returns what a server of `tests.small` knows."""
    models = client.list_models()
    layers = [layer.name for model in models for layer in model.layers]
    stylizers = [stylizer.name for stylizer in client.list_stylizers()]
    return Known(
        words={
            "model": ["", "", *(model.name for model in models)],
            "layer": layers,
            "layers": layers,
            "class_label": ["0", "1", "cat"],
            "stylizer": stylizers,
            "color_map": ["", "viridis", "inferno"],
            "page_token": ["", "1"],
        },
        files=list(files().values()),
        requests=_requests(),
    )


def _requests() -> list[tuple[str, bytes]]:
    pixels = {"pixels": {"data_type": "DATA_TYPE_UINT8", "shape": [2, 2, 3]}}
    methods: list[dict[str, Any]] = [
        {"saliency": {}},
        {"grad_cam": {"layers": ["layer3"], "augmentation_smoothing": True}},
        {"integrated_gradients": {"step_count": 4, "baselines": [{"white": {}}]}},
        {"smooth_grad": {"noisy_sample_count": 2, "around": {"guided_backprop": {}}}},
        {"occlusion": {"window_px": 16, "stride_px": 16}},
        {"kernel_shap": {"sample_count": 8, "segment_count": 4}},
        {"rise": {"mask_count": 4}},
        {"lrp": {"composite": "LRP_COMPOSITE_EPSILON"}},
    ]
    dicts: list[tuple[str, dict[str, Any]]] = [
        *(("Explain", {"image": pixels, "methods": [method], "overlay": {}}) for method in methods),
        ("Explain", {"image": pixels, "methods": methods[:2], "targets": [{"top_k": 2}], "trust": {"step_count": 2}}),
        ("Explain", {"image": pixels, "methods": methods[:1], "seed": 1, "frame": "FRAME_MODEL_INPUT"}),
        ("Maximize", {"objectives": [{"class_score": {"class_index": 1}}], "step_count": 2}),
        (
            "Maximize",
            {"objectives": [{"channel": {"layer": "layer2", "channel": 1}}], "preset": "PRESET_LUCID", "step_count": 2},
        ),
        (
            "Maximize",
            {
                "objectives": [{"class_score": {"class_index": 0}}],
                "image": pixels,
                "preset": "PRESET_PGD",
                "constraint": {"norm": "NORM_LINF", "epsilon": 0.1},
                "step_count": 2,
            },
        ),
        (
            "Stylize",
            {
                "content": pixels,
                "size_px": 32,
                "optimization": {"styles": [{"image": pixels}], "step_count": 2, "start": "STYLE_START_NOISE"},
            },
        ),
        ("Stylize", {"content": pixels, "feed_forward": {"stylizer": "stained_glass"}, "size_px": 32}),
        ("ListModels", {"page_size": 2, "page_token": "1"}),
    ]
    found = []
    for rpc, fields in dicts:
        message: Any = ParseDict(fields, GetMessageClass(REQUESTS[rpc])())
        for image in _images(message):
            image.pixels.data = bytes(range(12))
        found.append((rpc, message.SerializeToString()))
    return found


def _images(message: Any) -> list[Any]:
    """Returns the images of a request that are to be filled in."""
    names = [name for name in ("image", "content") if name in message.DESCRIPTOR.fields_by_name]
    styles = message.optimization.styles if isinstance(message, stylize_pb2.StylizeRequest) else ()
    return [getattr(message, name) for name in names if message.HasField(name)] + [style.image for style in styles]


class Campaign:
    """Sends requests, a few at a time, and counts how they end.

    Attributes:
        codes: How many ended with each code, by origin and code.
        faults: Those that ended with a code that is not documented, and those that took longer than their deadline,
            with the code and what was said.
        slowest: The request that took longest, and its seconds.
    """

    def __init__(self, channel: grpc.Channel, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self._patience_seconds = patience_seconds
        self.codes: Counter[tuple[str, str]] = Counter()
        self.faults: list[tuple[Sent, str, str]] = []
        self.slowest: tuple[float, Sent | None] = (0.0, None)
        self._calls = {rpc: channel.unary_stream(f"/{SERVICE}/{rpc}") for rpc in REQUESTS}
        self._threads = ThreadPoolExecutor(IN_FLIGHT)
        self._room = Semaphore(IN_FLIGHT)
        self._ends: list[Future[str]] = []
        self._lock = Lock()

    def send(self, request: Sent) -> Future[str]:
        """Sends a request once there is room for it."""
        self._room.acquire()
        ended = self._threads.submit(self._send, request)
        self._ends.append(ended)
        return ended

    def finish(self) -> None:
        """Waits for all answers. Raises what went wrong on this side, if anything did."""
        self._threads.shutdown()
        for ended in self._ends:
            ended.result()

    @property
    def wrong(self) -> list[tuple[Sent, str, str]]:
        """Those that ended with a code that is not documented."""
        return [fault for fault in self.faults if fault[1] not in DOCUMENTED]

    def histogram(self) -> list[str]:
        """Returns one line for each origin and code."""
        return [f"{count:8d}  {origin:<10} {code}" for (origin, code), count in sorted(self.codes.items())]

    def _send(self, request: Sent) -> str:
        started, said = monotonic(), ""
        try:
            # A stream is also how the one response of a unary method can be read.
            for _ in self._calls[request.rpc](request.data, timeout=self._patience_seconds):
                pass
            code = "OK"
        except grpc.RpcError as error:
            code, said = error.code().name, error.details() or ""
        finally:
            self._room.release()
        seconds = monotonic() - started
        with self._lock:
            self.codes[request.origin, code] += 1
            if seconds > self.slowest[0]:
                self.slowest = seconds, request
            if code not in DOCUMENTED or code == "DEADLINE_EXCEEDED":
                self.faults.append((request, code, said))
        return code


def send_many(campaign: Campaign, known: Known, count: int, seed_number: int) -> None:
    """Draws requests and sends them."""

    def send(request: Sent) -> None:
        campaign.send(request)

    draw_many(sent(known), count, seed_number, send)


def usual_answers(client: Client) -> list[npt.NDArray[np.float32]]:
    """Returns the maps of a few normal requests, one after the other."""
    picture = files()["png"]
    asked: Sequence[tuple[str, str]] = (
        ("rectified", "saliency"),
        ("rectified", "grad_cam"),
        ("smooth", "integrated_gradients"),
        ("attentive", "attention_rollout"),
    )
    return [
        client.explain(picture, method=method, model=model, target=1, seed=0, overlay=False).heatmap
        for model, method in asked
    ]
