"""Bytes that are no gRPC: what a client once sent over a connection, damaged, and what other protocols begin with."""

import gc
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from hypothesis import strategies as st
from tests.property.drawing import draw_many
from tests.property.messages import mutated

from gradserve import Client

HANG_SECONDS = 20.0
"""When a connection counts as held open for ever: nothing more will be sent on it."""
ANSWER_SECONDS = 0.03
"""How long nothing may come until the connection is closed by half: a request that is one is answered sooner."""
CHUNK = 65536
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
STRANGE = (
    b"",
    b"\0" * 300,
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    # The beginning of a TLS handshake: a record that holds a ClientHello.
    bytes.fromhex("1603010200010001fc0303") + b"\x55" * 64,
    PREFACE,
    PREFACE + b"\xff" * 300,
    # Settings that are no multiple of six bytes; a frame that claims 16 MiB; a window that grows beyond its bound.
    PREFACE + bytes.fromhex("000005040000000000") + b"\0" * 5,
    PREFACE + bytes.fromhex("000000040000000000") + bytes.fromhex("ffffff000000000001") + b"\0" * 300,
    PREFACE + bytes.fromhex("000000040000000000") + bytes.fromhex("0000040800000000007fffffff") * 2,
    # A hundred streams that are opened and reset at once, with headers that say nothing.
    PREFACE
    + bytes.fromhex("000000040000000000")
    + b"".join(
        b"\0\0\0\x01\x05" + number.to_bytes(4, "big") + b"\0\0\x04\x03\0" + number.to_bytes(4, "big") + b"\0\0\0\x08"
        for number in range(1, 201, 2)
    ),
)
"""What a scanner of ports or a client of another protocol sends, and frames that HTTP/2 (RFC 9113) forbids."""


@contextmanager
def tapped(port: int) -> Iterator[tuple[int, bytearray]]:
    """Passes one connection on to a port of loopback; yields where it listens and what the client sends."""
    sent = bytearray()
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def run() -> None:
            client = listening.accept()[0]
            with client, socket.create_connection(("127.0.0.1", port)) as server:
                back = threading.Thread(target=_pass_on, args=(server, client, bytearray()))
                back.start()
                _pass_on(client, server, sent)
                back.join()

        thread = threading.Thread(target=run, name="tap")
        thread.start()
        yield listening.getsockname()[1], sent
        thread.join()


def _pass_on(one: socket.socket, other: socket.socket, passed: bytearray) -> None:
    with suppress(OSError):
        while data := one.recv(CHUNK):
            passed += data
            other.sendall(data)
        other.shutdown(socket.SHUT_WR)


def conversation(port: int, picture: bytes) -> bytes:
    """Returns all that a client sends over its connection to have a picture explained."""
    with tapped(port) as (tap, sent), Client(f"127.0.0.1:{tap}") as client:
        client.explain(picture, method="saliency", seed=0, overlay=False)
    return bytes(sent)


def connected(port: int) -> socket.socket:
    """Returns a connection. A server that is just being replaced by another refuses for a moment.

    Raises:
        ConnectionRefusedError: It refuses for longer.
    """
    end = time.monotonic() + HANG_SECONDS
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port))
        except ConnectionRefusedError:
            if time.monotonic() > end:
                raise
            time.sleep(ANSWER_SECONDS)


def said_to(port: int, data: bytes) -> None:
    """Sends bytes over a connection of their own, reads what comes, says that no more will, and reads to the end.

    Raises:
        TimeoutError: The server keeps the connection open.
    """
    # A server may close before it has read all.
    with connected(port) as connection, suppress(BrokenPipeError, ConnectionResetError):
        connection.settimeout(ANSWER_SECONDS)
        connection.sendall(data)
        with suppress(TimeoutError):
            while connection.recv(CHUNK):
                pass
        connection.settimeout(HANG_SECONDS)
        with suppress(OSError):
            connection.shutdown(socket.SHUT_WR)
        while connection.recv(CHUNK):
            pass


def request_for(path: bytes) -> bytes:
    """Returns all that asks for a path: preface, settings and headers, each written out (RFC 7541, section 6.2.2)."""
    fields = {
        b":method": b"POST",
        b":scheme": b"http",
        b":path": path,
        b":authority": b"localhost",
        b"content-type": b"application/grpc",
        b"te": b"trailers",
    }
    block = b"".join(b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value for name, value in fields.items())
    settings_frame = bytes.fromhex("000000040000000000")
    return PREFACE + settings_frame + len(block).to_bytes(3, "big") + bytes.fromhex("010400000001") + block


def say_many(port: int, sound: bytes, count: int, seed_number: int) -> None:
    """Draws damaged copies of what a client once sent, and says each."""
    damaged = st.one_of(mutated(sound), mutated(sound), st.binary(max_size=200).map(PREFACE.__add__))
    draw_many(damaged, count, seed_number, lambda data: said_to(port, data))


def waited_for_apart() -> int:
    """Returns for how many calls of one method apart grpc.aio waits in this process, by its coroutines' frames."""
    return sum(type(one).__name__.endswith("_request_registered_call") for one in gc.get_objects())
