"""How contestants are asked: each by its own protocol, with a client that costs little, because it shares the cores."""

import asyncio
import base64
import importlib.util
import json
import struct
from abc import ABC, abstractmethod
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
from benchmarks.peers.environments import FOLDER
from benchmarks.photograph import request
from benchmarks.running import in_turns

from gradserve.v1 import explainer_service_pb2_grpc

Floats = npt.NDArray[np.float32]

SHAPE = (224, 224)


class Connection(ABC):
    """A connection to a server on this machine.

    Args:
        port: Its port.
        steps: Steps of integrated gradients, for a server that takes them with a request.
        workers: Its processes. Where each has a port of its own, they follow that one.
    """

    def __init__(self, port: int, steps: int, workers: int = 1) -> None:
        self.port = port
        self.workers = workers
        self._steps = steps

    @abstractmethod
    async def ask(self, method: str, encoded: bytes) -> Floats:
        """Returns the map of a photograph, [224, 224]."""

    async def try_out(self, encoded: bytes) -> None:
        """Asks it once, in all of its parts; whatever is raised says that it is not ready."""
        await self.ask("saliency", encoded)

    @abstractmethod
    async def close(self) -> None:
        """Ends it."""


class _Grpc(Connection):
    def __init__(self, port: int, steps: int, workers: int = 1) -> None:
        super().__init__(port, steps, workers)
        self.channel = in_turns(self.ports)

    @property
    def ports(self) -> list[int]:
        """Where it listens."""
        return [self.port]

    async def close(self) -> None:
        await self.channel.close()


class Gradserve(_Grpc):
    """This project's server, or several.

    Attributes:
        spacing: Where integrated gradients takes its steps.
    """

    spacing = "PATH_SPACING_EVEN"

    @property
    def ports(self) -> list[int]:
        """One of each server."""
        return [self.port + number for number in range(self.workers)]

    async def try_out(self, encoded: bytes) -> None:
        for port in self.ports:
            async with in_turns([port]) as channel:
                await explainer_service_pb2_grpc.ExplainerServiceStub(channel).Explain(request("saliency", encoded))

    async def ask(self, method: str, encoded: bytes) -> Floats:
        name = method.removesuffix("_captum")
        steps = {"step_count": self._steps, "spacing": self.spacing}
        given = steps if name == "integrated_gradients" else {}
        stub = explainer_service_pb2_grpc.ExplainerServiceStub(self.channel)
        answer = await stub.Explain(request(name, encoded, **given))
        return np.frombuffer(answer.explanations[0].heatmap.data, np.float32).reshape(SHAPE)


class Plain(_Grpc):
    """Bytes over gRPC."""

    async def ask(self, method: str, encoded: bytes) -> Floats:
        answer = await self.channel.unary_unary(f"/peers.Explainer/{method}")(encoded)
        return np.frombuffer(answer, np.float32).reshape(SHAPE)


class OpenInference(_Grpc):
    """The Open Inference Protocol, with raw contents."""

    async def ask(self, method: str, encoded: bytes) -> Floats:
        messages = _messages()
        wanted = messages.ModelInferRequest(model_name="explainer")
        wanted.inputs.add(name=method, datatype="BYTES", shape=[1, 1])
        wanted.raw_input_contents.append(struct.pack("<I", len(encoded)) + encoded)
        call = self.channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=messages.ModelInferRequest.SerializeToString,
            response_deserializer=messages.ModelInferResponse.FromString,
        )
        answer = await call(wanted)
        return np.frombuffer(answer.raw_output_contents[0], np.float32).reshape(SHAPE)


_LOADED: list[ModuleType] = []


def _messages() -> Any:
    """Returns the protocol's messages, as MLServer ships them."""
    if not _LOADED:
        (path,) = (FOLDER / "mlserver").glob("lib/*/site-packages/mlserver/grpc/dataplane_pb2.py")
        spec = importlib.util.spec_from_file_location("dataplane_pb2", Path(path))
        assert spec is not None
        assert spec.loader is not None
        _LOADED.append(importlib.util.module_from_spec(spec))
        spec.loader.exec_module(_LOADED[0])
    return _LOADED[0]


class Http(Connection):
    """Bytes posted to a path, over connections that are kept."""

    def __init__(self, port: int, steps: int, workers: int = 1) -> None:
        super().__init__(port, steps, workers)
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    def path(self, method: str) -> str:
        """Returns where a method is asked for."""
        return f"/{method}"

    def body(self, method: str, encoded: bytes) -> tuple[str, bytes]:
        """Returns the type and the content of a request."""
        return "application/octet-stream", encoded

    async def ask(self, method: str, encoded: bytes) -> Floats:
        kind, body = self.body(method, encoded)
        head = f"POST {self.path(method)} HTTP/1.1\r\nHost: peer\r\nContent-Type: {kind}\r\nMethod: {method}\r\n"
        # While others have their turn, the server closes what nobody uses, uvicorn after five seconds.
        self._idle = [one for one in self._idle if not one[0].at_eof()]
        reader, writer = (
            self._idle.pop() if self._idle else await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 22)
        )
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        answered = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        content = await _content(reader, answered)
        if " 200 " not in answered.partition("\r\n")[0]:
            writer.close()
            raise ConnectionError(f"{answered.partition(chr(13))[0]}: {content[:300]!r}")
        self._idle.append((reader, writer))
        return np.frombuffer(content, np.float32).reshape(SHAPE)

    async def close(self) -> None:
        for _, writer in self._idle:
            writer.close()


async def _content(reader: asyncio.StreamReader, head: str) -> bytes:
    fields = dict(line.split(": ", 1) for line in head.split("\r\n") if ": " in line)
    if "content-length" in fields:
        return await reader.readexactly(int(fields["content-length"]))
    found = b""
    while size := int((await reader.readline()).strip(), 16):
        found += await reader.readexactly(size)
        await reader.readline()
    await reader.readline()
    return found


class LitServe(Http):
    """JSON, which is what LitServe takes."""

    def path(self, method: str) -> str:
        return "/predict"

    def body(self, method: str, encoded: bytes) -> tuple[str, bytes]:
        image = base64.b64encode(encoded).decode()
        return "application/json", json.dumps({"method": method, "image": image}).encode()


class BentoML(Http):
    """The front of the service that batches."""

    def path(self, method: str) -> str:
        return f"/explain/{method}"


class TorchServe(Http):
    """The model; its handler reads the method in a header."""

    def path(self, method: str) -> str:
        return "/predictions/explainer"
