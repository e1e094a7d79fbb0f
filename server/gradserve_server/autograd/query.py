"""What a program asks of the core."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
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


@dataclass(frozen=True)
class Rescale:
    """How differences pass what is not linear: DeepLIFT's Rescale rule (Shrikumar et al. 2017, section 3.5.1).

    The rows of the query are pairs of neighbours, an image and its reference. What comes out as the gradient of an
    image is its multipliers: times the difference of image and reference they add up to the difference of the
    objectives, if those are linear in what the model returns.
    """


class LinearRule(Enum):
    """How relevance passes back through an operation with weights (Montavon et al. 2019, sections 10.2 and 10.3)."""

    EPSILON = "epsilon"
    """By each input's contribution; weak sums absorb some."""
    GAMMA = "gamma"
    """Likewise, contributions of the sum's own sign counted 1 + gamma times. Montavon et al. count positive ones so;
    behind a rectifier only positive sums have relevance, so it is the same, and elsewhere theirs divides by 0.
    """
    ALPHA_BETA = "alpha_beta"
    """By positive contributions alpha times, less by negative ones alpha - 1 times (Bach et al. 2015, equation 60)."""
    FLAT = "flat"
    """Evenly (Lapuschkin et al. 2017)."""


@dataclass(frozen=True)
class Relevance:
    """Layer-wise relevance propagation (Bach et al. 2015).

    What comes out as the gradient of a row is its relevance divided by the row, or by `nonzero(row)` where the first
    rule is flat. The relevance to begin with is each class's part of the objective. Activations pass relevance as it
    is, and maximum pooling passes it to the maximum; both do so by their quotient of output and input. A batch
    normalization that alone reads a convolution is one operation with it.

    Attributes:
        first: The rule of the first operation with weights.
        convolution: That of other convolutions.
        dense: That of other matrices.
        epsilon: What is added to sums, in their direction, > 0.
        gamma: As in `LinearRule.GAMMA`.
        alpha: As in `LinearRule.ALPHA_BETA`, >= 1.
    """

    first: LinearRule
    convolution: LinearRule
    dense: LinearRule
    epsilon: float
    gamma: float
    alpha: float

    @staticmethod
    def nonzero(values: Tensor) -> Tensor:
        """Returns `values` with those that relevance cannot be divided by replaced by 1e-6."""
        return values.masked_fill(values.abs() < 1e-6, 1e-6)


Propagated = Rescale | Relevance
"""Rules that propagate something else than gradients."""

Rule = ActivationRule | Propagated
"""What a backward sweep does for a row."""

Fusion = Callable[[Tensor], Tensor]
"""Makes one matrix of those of all heads: [rows, heads, tokens, tokens] to [rows, tokens, tokens]. Equal ones do the
same. Fused where they are read, because all heads of all blocks together take half a gigabyte a row in large networks.
"""

Derivative = tuple[Objective, Rule]
"""What one backward sweep computes for a row. Equal derivatives of the same rows are computed once."""


FORWARD_COST = 1 / 3
"""What a row costs that is not differentiated, beside one that is."""


@dataclass(frozen=True, eq=False)
class Query:
    """Run the model on these rows, differentiate this objective, give me these activations.

    Queries on the same `rows` tensor (the same object) share its forward, if they replace the same.

    Attributes:
        rows: Inputs of the model, [rows, 3, height, width], in the model's dtype and on its device.
        objective: What to evaluate; None evaluates nothing.
        gradient: Whether to differentiate the objective; a forward-only query does not.
        root: Layer with respect to whose output the gradient is taken; None for the rows themselves.
        rule: How gradients pass rectifiers, or other operations.
        capture: Names of layers whose activations to return.
        logits: Whether to return logits even if the objective does not need them; of a stylizer, its pictures.
        replace: Layers and what takes their outputs' place, [rows, ...] of each output's shape: the forward goes on
            from these values. A replaced layer that is captured, or that the gradient ends at, has these values.
        attention: How to fuse the heads of the attention matrices to return; None returns none. Only of a model without
            an `Attention.obstacle`.
    """

    rows: Tensor
    objective: Objective | None = None
    gradient: bool = True
    root: str | None = None
    rule: Rule = ActivationRule.STANDARD
    capture: tuple[str, ...] = ()
    logits: bool = False
    replace: Mapping[str, Tensor] = field(default_factory=dict)
    attention: Fusion | None = None

    @property
    def forward(self) -> tuple[object, ...]:
        """What its forward depends on: queries with an equal one share it."""
        return id(self.rows), *sorted((layer, id(values)) for layer, values in self.replace.items())

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
        coupled = self.objective is not None and self.objective.couples_rows
        return coupled or isinstance(self.rule, Rescale)

    @property
    def needs_logits(self) -> bool:
        """Whether the forward must run to its end."""
        if self.attention is not None:
            # All attention is wanted, so also what comes after the last layer that anybody captures.
            return True
        return self.logits or (self.objective is not None and self.objective.needs_logits)

    @property
    def layers(self) -> frozenset[str]:
        """Layers whose activations must be seen."""
        read = self.objective.layers if self.objective else frozenset()
        root = {self.root} if self.root is not None and self.differentiates else set()
        return read | root | set(self.capture) | set(self.replace)
