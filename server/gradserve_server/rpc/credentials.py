"""What the server shows of itself, and whose certificates it accepts. Rotated files are taken up without a restart.

gRPC asks for the certificate at each handshake, so connections that exist go on with the old one until they end, at
most `grpc.max_connection_age_ms` later.
"""

import logging
import ssl
import threading
from dataclasses import dataclass
from pathlib import Path

import grpc

from gradserve_server.errors import Misconfigured

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CertificateFiles:
    """Where to find what TLS needs, PEM files.

    Attributes:
        certificate: The server's certificate, followed by those that signed it.
        key: Its private key.
        client_authorities: Authorities whose certificates callers must show; None lets callers be without.
    """

    certificate: Path
    key: Path
    client_authorities: Path | None = None


class RotatedCertificates:
    """The newest whole set of files. A set that is incomplete or does not fit together leaves the old one in force.

    Args:
        files: The files.

    Raises:
        Misconfigured: They cannot be read, or do not fit together.
    """

    def __init__(self, files: CertificateFiles) -> None:
        self._files = files
        # Handshakes are in gRPC's threads.
        self._lock = threading.Lock()
        self._read = _contents(files)
        self._refused = ""
        _check(files)

    def credentials(self) -> grpc.ServerCredentials:
        """Returns what a secure port takes."""
        required = self._files.client_authorities is not None
        return grpc.dynamic_ssl_server_credentials(
            _configuration(self._read),
            self._fetch,  # type: ignore[arg-type]  # may return None, says gRPC's reference
            required,
        )

    def _fetch(self) -> grpc.ServerCertificateConfiguration | None:
        """Returns the files if they have changed; None for what gRPC has."""
        with self._lock:
            try:
                read = _contents(self._files)
                if read == self._read:
                    return None
                _check(self._files)
                if read != _contents(self._files):
                    return None  # they are being replaced: the next handshake sees them whole
            except Misconfigured as error:
                if str(error) != self._refused:
                    log.error("the certificates in force stay: %s", error)
                self._refused = str(error)
                return None
            self._read, self._refused = read, ""
        log.info("took up new certificates")
        return _configuration(read)


_Contents = tuple[bytes, bytes, bytes | None]


def _contents(files: CertificateFiles) -> _Contents:
    try:
        authorities = files.client_authorities.read_bytes() if files.client_authorities else None
        return files.certificate.read_bytes(), files.key.read_bytes(), authorities
    except OSError as error:
        raise Misconfigured(f"cannot read {error.filename}: {error.strerror}") from error


def _check(files: CertificateFiles) -> None:
    # gRPC would serve handshakes that fail, and say little of it.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # Without a password for the key, or the process would ask for one.
        context.load_cert_chain(files.certificate, files.key, password=lambda: "")
    except (OSError, ssl.SSLError) as error:
        raise Misconfigured(f"{files.certificate} and {files.key} are no certificate with its key: {error}") from error
    if files.client_authorities is not None:
        try:
            context.load_verify_locations(files.client_authorities)
        except (OSError, ssl.SSLError) as error:
            raise Misconfigured(f"{files.client_authorities} has no certificates: {error}") from error


def _configuration(contents: _Contents) -> grpc.ServerCertificateConfiguration:
    certificate, key, authorities = contents
    return grpc.ssl_server_certificate_configuration([(key, certificate)], authorities)
