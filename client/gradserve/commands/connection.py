"""The server that a command talks to."""

from dataclasses import dataclass

from gradserve.client import Client


@dataclass(frozen=True)
class Connection:
    """Where and how.

    Attributes:
        address: Address of the server.
        timeout: Seconds a call may take.
    """

    address: str
    timeout: float

    def client(self) -> Client:
        """Returns a client, to be closed after use."""
        return Client(self.address, timeout=self.timeout)
