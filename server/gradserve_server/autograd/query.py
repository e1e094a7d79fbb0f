"""What a program asks of the core."""

from dataclasses import dataclass
from enum import Enum

from torch import Tensor

from gradserve_server.autograd.objective import Objective


class ActivationRule(Enum):
    """How gradients pass backward through rectifiers."""

    STANDARD = "standard"
    """Where the rectifier's input was positive (and below its ceiling, if it has one): backpropagation."""
    DECONVNET = "deconvnet"
    """Where the gradient is positive (Zeiler and Fergus 2014, section 2.1)."""
    GUIDED = "guided"
    """Where both are (Springenberg et al. 2015, section 3.4)."""
    REDIRECTED = "redirected"
    """As STANDARD; but where that lets nothing of a row through, the gradient also passes where following it would
    bring the input back into the rectifier's range (Lucid's redirected ReLU). For ascent that starts from dead units.
    """


Derivative = tuple[Objective, ActivationRule]
"""What one backward sweep computes for a row. Equal derivatives of the same rows are computed once."""


@dataclass(frozen=True, eq=False)
class Query:
    """Run the model on these rows, differentiate this objective, give me these activations.

    Queries on the same `rows` tensor (the same object) share its forward.

    Attributes:
        rows: Inputs of the model, [rows, 3, height, width], in the model's dtype and on its device.
        objective: What to evaluate; None evaluates nothing.
        gradient: Whether to differentiate the objective; a forward-only query does not.
        root: Layer with respect to whose output the gradient is taken; None for the rows themselves.
        rule: How gradients pass rectifiers.
        capture: Names of layers whose activations to return.
        logits: Whether to return logits even if the objective does not need them.
    """

    rows: Tensor
    objective: Objective | None = None
    gradient: bool = True
    root: str | None = None
    rule: ActivationRule = ActivationRule.STANDARD
    capture: tuple[str, ...] = ()
    logits: bool = False

    @property
    def derivative(self) -> Derivative | None:
        """What is differentiated; None for a forward-only query."""
        return (self.objective, self.rule) if self.gradient and self.objective is not None else None

    @property
    def differentiates(self) -> bool:
        """Whether this query needs a backward pass."""
        return self.derivative is not None

    @property
    def couples_rows(self) -> bool:
        """Whether its rows must be answered in one chunk."""
        return self.objective is not None and self.objective.couples_rows

    @property
    def needs_logits(self) -> bool:
        """Whether the forward must run to its end."""
        return self.logits or (self.objective is not None and self.objective.needs_logits)

    @property
    def layers(self) -> frozenset[str]:
        """Layers whose activations must be seen."""
        read = self.objective.layers if self.objective else frozenset()
        root = {self.root} if self.root is not None and self.differentiates else set()
        return read | root | set(self.capture)
