"""Serves the page: its files, its bridge, and who may ask."""

import ipaddress
import socket
from importlib.resources import files
from pathlib import Path
from typing import Any

from aiohttp import web
from grpc import aio

from gradserve_server.ui.bridge import Bridge, readable

STATIC = Path(__file__).parent / "static"
PHOTOGRAPHS = ("chelsea.png", "coffee.png")
LAST_BYTES_SECONDS = 2.0
# JSON holds files in base64, a third longer; Stylize takes a content, a style and a mask.
LARGEST_REQUEST_IMAGES = 4

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Page:
    """The page, over a channel of its own to the service.

    Args:
        listen: HOST:PORT; port 0 takes a free one.
        service: Address of the service for gRPC.
        image_bytes: Largest image that the service takes.

    Attributes:
        port: Port that it listens on.
    """

    def __init__(self, listen: str, service: str, image_bytes: int) -> None:
        self._host, _, port = listen.rpartition(":")
        self.port = int(port)
        self._socket: socket.socket | None = None
        self._channel = aio.insecure_channel(
            service, options=[("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        )
        application = web.Application(
            middlewares=[readable, self._guarded], client_max_size=LARGEST_REQUEST_IMAGES * image_bytes
        )
        application.on_response_prepare.append(_add_headers)
        application.router.add_post("/api/{rpc}", Bridge(self._channel).answer)
        application.router.add_get("/photographs/{name}", _photograph)
        application.router.add_get("/", _index)
        application.router.add_static("/", STATIC)
        # A reader who goes away ends the handler, and so the job.
        self._runner = web.AppRunner(
            application, handler_cancellation=True, access_log=None, shutdown_timeout=LAST_BYTES_SECONDS
        )

    def listen(self) -> None:
        """Takes the address. Who opens the page before the start waits for that.

        Raises:
            OSError: It is taken.
        """
        self._socket = socket.create_server((self._host, self.port))
        self.port = int(self._socket.getsockname()[1])

    async def start(self) -> None:
        """Answers from now on. After `listen`."""
        assert self._socket is not None
        await self._runner.setup()
        await web.SockSite(self._runner, self._socket).start()

    async def stop(self) -> None:
        """Ends the requests in flight and stops."""
        await self._runner.cleanup()
        if self._socket is not None:
            self._socket.close()
        await self._channel.close()

    @web.middleware
    async def _guarded(self, request: web.Request, handler: Any) -> web.StreamResponse:
        """Refuses what another site asks through a person's browser, also under a name that it gives this host."""
        host = request.url.host or ""
        if not (host in ("localhost", self._host) or _is_address(host)):
            raise web.HTTPForbidden(
                reason=f"the page is not served as {host!r}: start the server with --ui {host}:PORT"
            )
        if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
            raise web.HTTPForbidden(reason="another site may not use this page")
        # A form of another site cannot send this type, and a script would have to ask first.
        if request.method == "POST" and request.content_type != "application/json":
            raise web.HTTPUnsupportedMediaType(reason="send application/json")
        response: web.StreamResponse = await handler(request)
        return response


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(HEADERS)


async def _index(request: web.Request) -> web.FileResponse:
    return web.FileResponse(STATIC / "index.html", headers={"Cache-Control": "no-cache"})


async def _photograph(request: web.Request) -> web.Response:
    """Answers with a photograph to begin with, of those that scikit-image ships."""
    name = request.match_info["name"]
    if name not in PHOTOGRAPHS:
        raise web.HTTPNotFound
    return web.Response(body=(files("skimage") / "data" / name).read_bytes(), content_type="image/png")
