"""What is known of the call that is being answered, wherever its task has got to."""

import secrets
import string
from contextvars import ContextVar
from dataclasses import dataclass

from gradserve_server.rpc.metadata import Metadata, value_of
from gradserve_server.scheduling.job import Passed

REQUEST_ID_KEY = "x-request-id"
LONGEST_ID = 128
_ALLOWED = frozenset(string.ascii_letters + string.digits + "-_.:/+=")


@dataclass(frozen=True)
class Call:
    """A call.

    Attributes:
        method: Name of the RPC.
        request_id: What the caller calls it, or what the server calls it where the caller does not say.
        tenant: Whose it is.
        passed: Told of each pass that its program took part in; None where nobody traces.
    """

    method: str
    request_id: str
    tenant: str = ""
    passed: Passed | None = None


current_call: ContextVar[Call] = ContextVar("current_call")
"""The call of this task. gRPC answers each in a task of its own."""


def request_id_of(metadata: Metadata) -> str:
    """Returns the id that a call's metadata gives under `REQUEST_ID_KEY`; a new one where that is none or no good one.

    An id goes into logs and back to the caller, so it is short and of harmless characters.
    """
    given = value_of(metadata, REQUEST_ID_KEY)
    if given and len(given) <= LONGEST_ID and _ALLOWED.issuperset(given):
        return given
    return secrets.token_hex(16)
