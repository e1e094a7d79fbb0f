"""Answers: each number under its own name."""

from datetime import timedelta

import numpy as np

from gradserve.v1 import common_pb2, explain_pb2
from gradserve_server.autograd.objective import class_score
from gradserve_server.imaging.geometry import Placement
from gradserve_server.models.model import Model
from gradserve_server.programs.explain.explanation import Explained, Map
from gradserve_server.programs.explain.saliency import Saliency
from gradserve_server.programs.explain.transforms import HorizontalFlip
from gradserve_server.programs.explain.trust import Consistency, TrustReport, Verdict
from gradserve_server.rpc.requests import ExplainCall, Frame
from gradserve_server.rpc.responses import explain_response, metadata
from gradserve_server.rpc.targets import Target
from gradserve_server.scheduling.job import Outcome, Usage

USAGE = Usage(queue_seconds=1.5, compute_seconds=0.25, passes=4, rows=20, programs=12)


def test_what_an_answer_took(embedded: Model) -> None:
    facts = metadata(embedded, USAGE, seed=7)
    assert (facts.pass_count, facts.mean_pass_rows, facts.mean_pass_programs, facts.seed) == (4, 5, 3, 7)
    assert facts.queue_duration.ToTimedelta() == timedelta(seconds=1.5)
    assert facts.compute_duration.ToTimedelta() == timedelta(seconds=0.25)


def test_what_a_trust_report_says(embedded: Model) -> None:
    """Of class 1, where class 0 is seen."""
    logits = np.log([0.5, 0.125, 0.25, 0.125])
    report = TrustReport(
        consistencies=(Consistency(HorizontalFlip(), logits, rank_correlation=0.1, top_area_overlap=0.2),),
        insertion_auc=0.3,
        deletion_auc=0.4,
        completeness_error=0.5,
        sensitivity_max=0.6,
        infidelity=0.7,
        verdict=Verdict.DOUBTFUL,
        summary="So so.",
    )
    target = Target(class_score(1), class_score(1))
    call = ExplainCall(embedded, (Saliency(),), (target,), Frame.MODEL_INPUT, None, None, None, 0, 1)
    explained = Explained((Map(np.zeros((2, 2)), None, report),), logits)
    place = Placement((2, 2), (2, 2), (0.0, 0.0, 2.0, 2.0))
    answer = explain_response(call, Outcome(explained, USAGE), np.zeros((2, 2, 3), np.uint8), place)
    assert answer.explanations[0].trust == explain_pb2.TrustReport(
        consistencies=[
            explain_pb2.Consistency(
                transform=explain_pb2.Transform(horizontal_flip={}),
                prediction=common_pb2.ClassScore(
                    class_index=0, class_label=embedded.labels[0], probability=0.5, logit=logits[0]
                ),
                target_probability=0.125,
                rank_correlation=0.1,
                top_area_overlap=0.2,
            )
        ],
        insertion_auc=0.3,
        deletion_auc=0.4,
        completeness_error=0.5,
        sensitivity_max=0.6,
        infidelity=0.7,
        verdict=explain_pb2.VERDICT_DOUBTFUL,
        summary="So so.",
    )
