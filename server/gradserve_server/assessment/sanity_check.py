"""The randomisation check of Adebayo et al. 2018, section 3: do a method's maps depend on what the model has learnt?

A model's weights are drawn anew part by part, from the output to the input, and each method explains the same class of
the same photographs on every copy. A map of a method that explains the model should change.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gradserve_server.assessment.randomization import Part
from gradserve_server.assessment.similarity import Similarity, similarity
from gradserve_server.autograd.objective import Objective, class_score, ranked_class_score
from gradserve_server.imaging.decode import Pixels
from gradserve_server.imaging.geometry import fit, model_input
from gradserve_server.imaging.segmentation import segmented
from gradserve_server.models.model import Model
from gradserve_server.programs.explain.explanation import Explained, explain, superpixels_of
from gradserve_server.programs.explain.method import Method
from gradserve_server.programs.explain.trust import HELD
from gradserve_server.scheduling.unattended import run_programs

Maps = Mapping[str, Sequence[npt.NDArray[Any]]]
"""For each method by name, the map [height, width] of each photograph."""


@dataclass(frozen=True, eq=False)
class Stage:
    """What the methods say of a copy of the model.

    Attributes:
        part: The part that was drawn anew last; empty for the model itself.
        maps: What they say.
    """

    part: str
    maps: Maps


def stages(
    model: Model,
    methods: Sequence[Method],
    photographs: Sequence[Pixels],
    copies: Iterable[tuple[Part, Model]],
    seed: int,
) -> Iterator[Stage]:
    """Explains photographs by methods on a model, then on its copies: always the class that the model itself sees.

    Args:
        model: The model.
        methods: Methods that the model supports, their layers filled in.
        photographs: The photographs.
        copies: Copies of the model, each with the part drawn anew last.
        seed: Seed of the methods' own random draws, the same on every copy.

    Raises:
        NotFinite: A map is not finite.
    """
    inputs = [_inputs(photograph, model, methods) for photograph in photographs]
    own: list[Objective] = [ranked_class_score(0)] * len(inputs)
    answers = _explain(model, methods, inputs, own, seed)
    yield Stage("", _by_method(methods, answers))
    classes = [class_score(int(answer.logits.argmax())) for answer in answers]
    for part, copy in copies:
        yield Stage(part.name, _by_method(methods, _explain(copy, methods, inputs, classes, seed)))


def similarities(own: Stage, stage: Stage) -> dict[str, tuple[Similarity, ...]]:
    """Compares what methods say of a copy with what they say of the model itself, for each photograph."""
    return {
        method: tuple(similarity(before, after) for before, after in zip(maps, stage.maps[method], strict=True))
        for method, maps in own.maps.items()
    }


def dependence(curve: Sequence[float]) -> float:
    """Returns the mean of a method's similarities over the upper half of the stages, from the output on.

    The lower half says little: its features serve all classes, and once they are random even an edge detector that is
    made of them shows something else.
    """
    return fmean(curve[: (len(curve) + 1) // 2])


def passes(curve: Sequence[float]) -> bool:
    """Says whether a method passes the check: its maps do not hold while the upper half of the network is drawn anew.

    Args:
        curve: Mean rank correlation of the absolute maps at each stage, from the output on. Maps hold, as in a trust
            report, from 0.5 on.
    """
    return dependence(curve) < HELD


def _inputs(photograph: Pixels, model: Model, methods: Sequence[Method]) -> tuple[Tensor, ...]:
    preprocessing = model.preprocessing
    fitted, _ = fit(photograph, preprocessing)
    arrays = [model_input(fitted, preprocessing), preprocessing.black, preprocessing.white]
    tensors = [torch.from_numpy(np.ascontiguousarray(array)).to(model.device, model.dtype) for array in arrays]
    tensors += [
        torch.from_numpy(segmented(fitted, wanted.count)).to(model.device) for wanted in superpixels_of(methods)
    ]
    return tuple(tensors)


def _explain(
    model: Model,
    methods: Sequence[Method],
    inputs: Sequence[tuple[Tensor, ...]],
    targets: Sequence[Objective],
    seed: int,
) -> list[Explained]:
    def as_grid(layer: str, output: Tensor) -> Tensor:
        return model.layer(layer).as_grid(output)

    programs = [
        explain(
            *tensors,
            methods=methods,
            targets=[target],
            seed=seed,
            as_grid=as_grid,
            as_map=model.attention.as_map,
        )
        for tensors, target in zip(inputs, targets, strict=True)
    ]
    return run_programs(model, programs)


def _by_method(methods: Sequence[Method], answers: Sequence[Explained]) -> Maps:
    return {method.name(): [answer.maps[index].values for answer in answers] for index, method in enumerate(methods)}
