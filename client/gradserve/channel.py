"""How a channel behaves unless the caller says otherwise."""

import json
from collections.abc import Sequence
from typing import Any

SERVICE = "gradserve.v1.ExplainerService"

_SERVICE_CONFIG = {
    # All servers behind a name are used, and only those that say they are ready (gRFC A17).
    "loadBalancingConfig": [{"round_robin": {}}],
    "healthCheckConfig": {"serviceName": SERVICE},
    "methodConfig": [
        {
            "name": [{"service": SERVICE}],
            # RESOURCE_EXHAUSTED too, because the server says when to come back (grpc-retry-pushback-ms); CANCELLED,
            # because so a gRPC server that stops ends what it has not yet looked at. What a caller cancels stays so.
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.1s",
                "maxBackoff": "2s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE", "RESOURCE_EXHAUSTED", "CANCELLED"],
            },
        }
    ],
    # Retries stop while fewer than half of the tokens are left. A server that is killed takes all its calls in flight
    # along at once, so there must be twice as many as such calls.
    "retryThrottling": {"maxTokens": 200, "tokenRatio": 0.1},
}


def channel_options(given: Sequence[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """Returns the options of a channel: production defaults, over which those given take precedence."""
    defaults = {
        "grpc.service_config": json.dumps(_SERVICE_CONFIG),
        # Larger requests are sent once and never again; the default of 256 KiB is less than a photograph, and what is
        # beyond this a server with its own defaults refuses each time.
        "grpc.per_rpc_retry_buffer_size": 48 << 20,
        "grpc.max_receive_message_length": -1,
        "grpc.max_send_message_length": -1,
        # A server that was away for a moment is found before the last retry; gRPC's default is a second.
        "grpc.initial_reconnect_backoff_ms": 200,
        # A server that is back is found within this time; gRPC's default is two minutes.
        "grpc.max_reconnect_backoff_ms": 5_000,
        "grpc.keepalive_time_ms": 60_000,
        "grpc.keepalive_timeout_ms": 20_000,
    }
    return list({**defaults, **dict(given)}.items())
