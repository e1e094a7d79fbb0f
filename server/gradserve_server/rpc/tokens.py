"""Bearer tokens. The server holds their hashes, one a line with a name; a changed file is taken up without a restart.

Tokens are long random strings, so a plain SHA-256 is enough: there is nothing to guess, and no salt to add.
"""

import hashlib
import logging
import re
from hmac import compare_digest
from pathlib import Path

from gradserve_server.errors import Misconfigured

LONGEST_NAME = 64
SHORTEST_TOKEN = 20
NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{LONGEST_NAME - 1}}}")
_HASH = re.compile(r"[0-9a-f]{64}")

log = logging.getLogger(__name__)


def token_line(name: str, token: str) -> str:
    """Returns the line of a token file for a token.

    Raises:
        Misconfigured: The name cannot be one, or the token is too short to be secret.
    """
    if not NAME.fullmatch(name):
        raise Misconfigured(
            f"a name has 1 to {LONGEST_NAME} letters, digits, dots, dashes and underscores, not {name!r}"[:]
        )
    if len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise Misconfigured(f"a token has at least {SHORTEST_TOKEN} printable ASCII characters and no spaces")
    return f"{name} {_hash(token)}"


class Tokens:
    """The tokens of a file: lines of a name and a SHA-256 in hexadecimal; empty lines and comments (`#`) are left out.

    A name may stand on several lines, so that a new token works before the old one goes. A file that cannot be read
    leaves the tokens in force.

    Args:
        path: The file.

    Raises:
        Misconfigured: It cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = self._state()
        self._names = _read(path)
        self._refused = ""

    def name(self, token: str) -> str | None:
        """Returns the name of a token; None for one that is not in the file."""
        self._follow()
        digest, found = _hash(token), None
        # All are compared, each in constant time: how long it takes says nothing.
        for known, name in self._names:
            if compare_digest(digest, known):
                found = name
        return found

    def _follow(self) -> None:
        try:
            if (state := self._state()) == self._seen:
                return
            self._names = _read(self._path)
            self._seen, self._refused = state, ""
        except Misconfigured as error:
            if str(error) != self._refused:
                log.error("the tokens in force stay: %s", error)
            self._refused = str(error)
            return
        log.info("took up %d tokens", len(self._names))

    def _state(self) -> tuple[int, ...]:
        try:
            found = self._path.stat()
        except OSError as error:
            raise Misconfigured(f"cannot read {self._path}: {error.strerror}") from error
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def _read(path: Path) -> tuple[tuple[str, str], ...]:
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise Misconfigured(f"cannot read {path}: {error}") from error
    found = []
    for number, line in enumerate(lines, 1):
        name, _, digest = line.partition("#")[0].strip().partition(" ")
        if not name:
            continue
        if not (NAME.fullmatch(name) and _HASH.fullmatch(digest := digest.strip().lower())):
            # The line itself may hold a token by mistake: it is not for the log.
            raise Misconfigured(
                f"line {number} of {path} must be a name and a SHA-256, as `gradserve-server hash-token` prints them"
            )
        found.append((digest, name))
    return tuple(found)
