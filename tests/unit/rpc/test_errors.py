"""What a caller gets of an error."""

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from gradserve_server.errors import NotFinite, RequestError, Unsupported
from gradserve_server.rpc.errors import status


@pytest.mark.parametrize("error", [Unsupported("no rectifier", field="methods[0]"), NotFinite("a map is not finite")])
def test_a_failed_precondition_says_which(error: RequestError) -> None:
    code, message, trailers = status(error, "call-1")
    assert code is grpc.StatusCode.FAILED_PRECONDITION
    rich = status_pb2.Status.FromString(dict(trailers)["grpc-status-details-bin"])
    found = error_details_pb2.PreconditionFailure()
    assert any(detail.Unpack(found) for detail in rich.details)
    assert [(one.type, one.description) for one in found.violations] == [(error.reason, message)]
