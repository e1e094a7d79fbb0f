"""What a method of explanation is."""

import re
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from gradserve_server.autograd.objective import Objective
from gradserve_server.autograd.program import Program


class Method(ABC):
    """A method with its parameters.

    Each is a frozen dataclass in a file of its own. The fields have the names of those of its proto message, and their
    defaults are what unset fields mean. A method with a field `layer` works on a layer of shape [channels, height,
    width]; the field then holds the layer's name, never an empty one, when the program starts.

    Attributes:
        caveat: What is known to mislead about the method; empty when nothing is.
        needs_rectifiers: Whether it changes how gradients pass rectifiers, and so needs a model that has some.
    """

    caveat: ClassVar[str] = ""
    needs_rectifiers: ClassVar[bool] = False

    @abstractmethod
    def explain(self, rows: Tensor, target: Objective, noise: torch.Generator) -> Program[Tensor]:
        """Explains one image.

        Args:
            rows: The image as the model's input, [1, 3, height, width].
            target: What to explain.
            noise: Source of all random draws, of this program alone.

        Returns:
            The attribution of each pixel, [height, width], signed and unnormalised.
        """

    @classmethod
    def name(cls) -> str:
        """Name of the method: the name of its field in the proto's `Method.method`."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()
