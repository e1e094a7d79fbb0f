"""Drawing many examples for a campaign: as many as asked for, and the same for a seed."""

from collections.abc import Callable
from typing import TypeVar

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.strategies import SearchStrategy

Example = TypeVar("Example")
ROUND = 2000
"""Examples drawn at a time: hypothesis remembers all it drew in a run."""


def draw_many(strategy: SearchStrategy[Example], count: int, seed_number: int, use: Callable[[Example], None]) -> None:
    """Draws so many examples and uses each; raises what `use` raises."""
    for number in range(0, count, ROUND):

        @seed(seed_number + number)
        @settings(
            max_examples=min(ROUND, count - number),
            phases=[Phase.generate],
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(strategy)
        def run(example: Example) -> None:
            use(example)

        run()
