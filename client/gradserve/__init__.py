"""Client of gradserve, the service that explains image models over gRPC.

>>> from gradserve import Client
>>> with Client("localhost:50051") as client:
...     explanation = client.explain("cat.jpg", method="grad_cam", target="tabby")
...     explanation.save("cat.png")

`gradserve.aio.Client` is the same for asyncio.
"""

from gradserve.client import Client
from gradserve.comparison import compare
from gradserve.errors import (
    DeadlineExceeded,
    FieldViolation,
    GradserveError,
    InvalidRequest,
    NotFound,
    Overloaded,
    Unauthenticated,
    Unavailable,
    Unimplemented,
    Unsupported,
)
from gradserve.explain_stream import Streamed
from gradserve.images import ImageLike
from gradserve.maximization import Maximization, MaximizeResult, Perturbation
from gradserve.method import Method, MethodLike
from gradserve.objectives import Objective
from gradserve.progress import Progress
from gradserve.requests import TargetLike
from gradserve.results import (
    ClassScore,
    Consistency,
    Cost,
    Explanation,
    Layer,
    Metadata,
    MethodSupport,
    Model,
    TrustReport,
)
from gradserve.stylization import LossTerms, Stylization, StylizeResult

__all__ = [
    "ClassScore",
    "Client",
    "Consistency",
    "Cost",
    "DeadlineExceeded",
    "Explanation",
    "FieldViolation",
    "GradserveError",
    "ImageLike",
    "InvalidRequest",
    "Layer",
    "LossTerms",
    "Maximization",
    "MaximizeResult",
    "Metadata",
    "Method",
    "MethodLike",
    "MethodSupport",
    "Model",
    "NotFound",
    "Objective",
    "Overloaded",
    "Perturbation",
    "Progress",
    "Streamed",
    "Stylization",
    "StylizeResult",
    "TargetLike",
    "TrustReport",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "Unsupported",
    "compare",
]
