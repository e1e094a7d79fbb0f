"""Whose call it is."""

from typing import Any

from grpc import aio

from gradserve_server.errors import InvalidInput

TENANT_KEY = "gradserve-tenant"
LONGEST = 64


def tenant_of(context: "aio.ServicerContext[Any, Any]") -> str:
    """Returns the tenant that the call's metadata names under `TENANT_KEY`; empty, as one tenant, for all that do not.

    Raises:
        InvalidInput: The name is too long.
    """
    for key, value in context.invocation_metadata() or ():
        if key == TENANT_KEY:
            if len(value) > LONGEST:
                raise InvalidInput(
                    f"a tenant's name must have at most {LONGEST} characters, not {len(value)}", field=TENANT_KEY
                )
            return str(value)
    return ""
