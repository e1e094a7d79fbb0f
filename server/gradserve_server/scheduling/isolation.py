"""A pass that fails must fail only those whose fault it is."""

import logging
from collections.abc import Callable, Sequence

import torch

from gradserve_server.autograd.answer import Answer, join
from gradserve_server.autograd.passes import Bundle
from gradserve_server.errors import Overloaded
from gradserve_server.models.failure import lacks_memory

Answers = tuple[Answer, ...]
Run = Callable[[Sequence[Bundle]], list[Answers]]

log = logging.getLogger(__name__)


def run_isolated(
    run: Run, bundles: Sequence[Bundle], out_of_memory: Callable[[int], None] = lambda rows: None
) -> list[Answers | Exception]:
    """Runs a pass; where it fails, finds out whose fault that is and serves the others.

    A pass that runs out of memory is halved and run again, a single row last; rows that are coupled stay together. A
    pass that raises is run bundle by bundle, and the error stays with the bundle that raises it alone.

    Args:
        run: Runs a pass and returns the answers to each bundle.
        bundles: The pass.
        out_of_memory: Called with the number of rows that was too much.

    Returns:
        For each bundle its answers, or the error that ends its program.
    """
    try:
        return list(run(bundles))
    except Exception as error:
        failure = error
    # Out of the handler, so that nothing holds the tensors of the failed pass any more.
    if not lacks_memory(failure):
        if len(bundles) == 1:
            return [failure]
        return [outcome for bundle in bundles for outcome in run_isolated(run, [bundle], out_of_memory)]
    failure.__traceback__ = None
    rows = sum(bundle.row_count for bundle in bundles)
    log.warning("a pass of %d rows ran out of memory", rows)
    out_of_memory(rows)
    torch.cuda.empty_cache()
    if rows == 1:
        return [Overloaded("one row is too large for the memory", retry_seconds=1.0, reason="MEMORY")]
    if len(bundles) == 1 and bundles[0].couples_rows:
        message = f"{rows} rows that must be answered together are too large for the memory: ask for fewer images"
        return [Overloaded(message, retry_seconds=1.0, reason="MEMORY")]
    if len(bundles) == 1:
        return [_halved(run, bundles[0], out_of_memory)]
    middle = len(bundles) // 2
    halves = (bundles[:middle], bundles[middle:])
    return [outcome for half in halves for outcome in run_isolated(run, half, out_of_memory)]


def _halved(run: Run, bundle: Bundle, out_of_memory: Callable[[int], None]) -> Answers | Exception:
    parts: list[Answers] = []
    for half in bundle.cut(bundle.row_count // 2):
        (outcome,) = run_isolated(run, [half], out_of_memory)
        if isinstance(outcome, Exception):
            return outcome
        parts.append(outcome)
    return tuple(join(pair) for pair in zip(*parts, strict=True))
