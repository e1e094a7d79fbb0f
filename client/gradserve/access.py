"""How a client proves who it is, and that the server is who it should be."""

from dataclasses import dataclass
from pathlib import Path

import grpc

PEM = bytes | str | Path
"""A PEM file's contents, or its path."""


@dataclass(frozen=True)
class Access:
    """What a channel and its calls carry.

    Attributes:
        tls: Whether to speak TLS; any of the certificates below implies it.
        root_certificates: Authorities that the server's certificate must come from; None for the usual public ones.
        certificate_chain: Own certificate, for servers that ask for one; goes with `private_key`.
        private_key: Its private key.
        token: Token that each call carries; a path to a file is read anew for each call, so a rotated one is taken up.
    """

    tls: bool = False
    root_certificates: PEM | None = None
    certificate_chain: PEM | None = None
    private_key: PEM | None = None
    token: str | Path | None = None

    def credentials(self) -> grpc.ChannelCredentials | None:
        """Returns what a secure channel takes; None for plain text.

        Raises:
            OSError: A file cannot be read.
            ValueError: Certificate or key is missing.
        """
        if (self.certificate_chain is None) != (self.private_key is None):
            raise ValueError("certificate_chain and private_key go together")
        if not self.tls and self.root_certificates is None and self.certificate_chain is None:
            return None
        return grpc.ssl_channel_credentials(
            _contents(self.root_certificates), _contents(self.private_key), _contents(self.certificate_chain)
        )

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Returns what each call carries.

        Raises:
            OSError: The token's file cannot be read.
        """
        if self.token is None:
            return ()
        token = self.token.read_text() if isinstance(self.token, Path) else self.token
        return (("authorization", f"Bearer {token.strip()}"),)


def _contents(pem: PEM | None) -> bytes | None:
    return pem if pem is None or isinstance(pem, bytes) else Path(pem).read_bytes()
