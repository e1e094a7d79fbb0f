"""The server that a command talks to."""

from dataclasses import asdict, dataclass
from typing import Any

from grpc import aio

from gradserve.access import Access
from gradserve.client import Client


@dataclass(frozen=True)
class Connection:
    """Where and how.

    Attributes:
        address: Address of the server.
        timeout: Seconds a call may take.
        access: How it is proved who calls.
    """

    address: str
    timeout: float
    access: Access = Access()

    def client(self) -> Client:
        """Returns a client, to be closed after use."""
        return Client(self.address, timeout=self.timeout, **asdict(self.access))

    def channel(self, options: list[tuple[str, Any]]) -> aio.Channel:
        """Returns a channel with these options, to be closed after use."""
        if (credentials := self.access.credentials()) is not None:
            return aio.secure_channel(self.address, credentials, options)
        return aio.insecure_channel(self.address, options)
