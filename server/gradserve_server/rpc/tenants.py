"""Whose call it is: what the caller says where nobody checks, and what was checked where somebody does."""

from typing import Any

from grpc import aio

from gradserve_server.errors import InvalidInput, Unauthenticated
from gradserve_server.rpc.metadata import Metadata, value_of
from gradserve_server.rpc.tokens import Tokens

TENANT_KEY = "gradserve-tenant"
TOKEN_KEY = "authorization"
SCHEME = "bearer "
LONGEST = 64


class Authentication:
    """Who may call, and as whom.

    With tokens, each call must carry one, and its name is the tenant. Otherwise with client certificates, which the
    handshake has checked, the certificate's common name is. With neither it is whom the caller names.

    Args:
        tokens: The tokens; None for none.
        certificates: Whether callers must show certificates.
    """

    def __init__(self, tokens: Tokens | None = None, *, certificates: bool = False) -> None:
        self._tokens = tokens
        self._certificates = certificates

    def token_name(self, metadata: Metadata) -> str:
        """Returns the name of the token that a call carries; empty where none is needed. Looks at nothing else.

        Raises:
            Unauthenticated: It carries none, or one that is not known.
        """
        if self._tokens is None:
            return ""
        given = value_of(metadata, TOKEN_KEY)
        if not given:
            raise Unauthenticated(
                "this server answers to tokens: send one as the metadata `authorization: Bearer TOKEN`",
                reason="TOKEN_MISSING",
            )
        scheme, token = given[: len(SCHEME)], given[len(SCHEME) :].strip()
        name = self._tokens.name(token) if scheme.lower() == SCHEME else None
        if name is None:
            raise Unauthenticated("the token is not known to this server, or not any more", reason="TOKEN_UNKNOWN")
        return name

    def tenant(self, token_name: str, metadata: Metadata, context: "aio.ServicerContext[Any, Any]") -> str:
        """Returns the tenant of a call; empty, as one tenant, for all that do not say where nobody checks.

        Args:
            token_name: What `token_name` returned.
            metadata: The metadata of the call.
            context: The call.

        Raises:
            Unauthenticated: The certificate has no common name.
            InvalidInput: The name is too long.
        """
        if token_name:
            return token_name
        if self._certificates:
            return _common_name(context)
        name = value_of(metadata, TENANT_KEY)
        if len(name) > LONGEST:
            raise InvalidInput(
                f"a tenant's name must have at most {LONGEST} characters, not {len(name)}", field=TENANT_KEY
            )
        return name


def _common_name(context: "aio.ServicerContext[Any, Any]") -> str:
    for name in context.auth_context().get("x509_common_name", ()):
        return bytes(name).decode("utf-8", "replace")[:LONGEST]
    raise Unauthenticated("the certificate has no common name, which would say whose call it is", reason="NO_NAME")
