"""Layer-wise relevance propagation (Bach et al. 2015; Montavon et al. 2019)."""

from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

from gradserve_server.autograd.program import Program, ask
from gradserve_server.autograd.query import LinearRule, Query, Relevance
from gradserve_server.errors import InvalidInput
from gradserve_server.programs.explain.method import Attribution, GradientMethod, Subject
from gradserve_server.programs.explain.reduction import ChannelReduction


class LrpComposite(Enum):
    """Which rule goes where. Matrices follow the epsilon rule in all of them, convolutions the rule named last."""

    EPSILON = "epsilon"
    """The epsilon rule everywhere."""
    EPSILON_GAMMA = "epsilon_gamma"
    """Gamma for convolutions: contributions of a sum's own sign, behind a rectifier positive, count more."""
    EPSILON_ALPHA_BETA = "epsilon_alpha_beta"
    """Alpha-beta for convolutions; with alpha 1 only positive contributions count ("epsilon plus")."""


@dataclass(frozen=True)
class Lrp(GradientMethod):
    """The score, handed back from each sum to what was added up, in proportion to what it contributed.

    Attributes:
        composite: Which rule goes where.
        flat: Whether the first convolution hands back evenly, whatever the pixels are.
        epsilon: What is added to each sum, in its direction, before it is divided by: more makes less noise and loses
            more relevance; 1e-9..1e3.
        gamma: How much more contributions of a sum's own sign count with EPSILON_GAMMA, 0..1000.
        alpha: How often positive ones count with EPSILON_ALPHA_BETA, 1..10; negative ones count alpha - 1 times less.
    """

    caveat: ClassVar[str] = (
        "Depends on the rules chosen; with alpha 1 it hardly depends on the class and the upper layers "
        "(Sixt et al. 2020)."
    )
    propagates: ClassVar[bool] = True
    needs_zero_kept: ClassVar[bool] = True

    reduction: ChannelReduction = ChannelReduction.SUM
    composite: LrpComposite = LrpComposite.EPSILON_GAMMA
    flat: bool = True
    epsilon: float = 1e-6
    gamma: float = 0.25
    alpha: float = 1.0

    def __post_init__(self) -> None:
        for field, low, high in (("epsilon", 1e-9, 1e3), ("gamma", 0, 1e3), ("alpha", 1, 10)):
            if not low <= getattr(self, field) <= high:
                raise InvalidInput(f"must be {low:g} to {high:g}, not {getattr(self, field):g}", field=field)

    def attribute(self, subject: Subject) -> Program[Attribution]:
        """Asks for relevance by value, and multiplies it with the pixels' values."""
        convolution = LinearRule(self.composite.value.removeprefix("epsilon_"))
        rule = Relevance(
            first=LinearRule.FLAT if self.flat else convolution,
            convolution=convolution,
            dense=LinearRule.EPSILON,
            epsilon=self.epsilon,
            gamma=self.gamma,
            alpha=self.alpha,
        )
        answer = yield from ask(Query(subject.rows, subject.target, rule=rule))
        # Only the flat rule gives something to what contributes nothing.
        values = Relevance.nonzero(subject.rows) if self.flat else subject.rows
        return Attribution((answer.gradient * values)[0])
