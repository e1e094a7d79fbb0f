"""How exact integrated gradients are by number and spacing of steps: on four photographs, from each kind of baseline.

Maps are compared with the mean of gradients in the middle of each of many equal parts of the line. Gradients at other
places are those of the part that they lie in.
"""

import json
import statistics
import sys
from pathlib import Path

import torch
from torch import Tensor

from gradserve_server.autograd.objective import class_score
from gradserve_server.models.loading import embedded_spec, load
from gradserve_server.models.model import Model
from gradserve_server.programs.explain.baseline import Baseline, Black, Blurred, Mean, White
from gradserve_server.programs.explain.path import PathSpacing

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.photograph import NAMES
from tests.conftest import photograph
from tests.driving import rows_of, subject_of

OUT = Path(__file__).parent / "out"
PARTS = 384
AT_ONCE = 16
STEPS = (5, 10, 20, 50)
BASELINES: dict[str, Baseline] = {"black": Black(), "white": White(), "mean": Mean(), "blurred": Blurred(20.0)}


def main() -> None:
    """Prints a table and writes it to benchmarks/out/path_spacing.json."""
    model = load(embedded_spec(), torch.device("cpu"))
    rows = {name: rows_of(photograph(name), model) for name in NAMES}
    found: list[dict[str, object]] = []
    print("baseline  steps  spacing         distance of map  completeness error")
    for name, baseline in BASELINES.items():
        lines = [_Line(model, image, baseline) for image in rows.values()]
        for steps in STEPS:
            for spacing in PathSpacing:
                distances, errors = zip(*(line.exactness(steps, spacing) for line in lines), strict=True)
                distance, error = statistics.mean(distances), statistics.mean(errors)
                print(f"{name:8}  {steps:5}  {spacing.value:14}  {distance:15.3f}  {error:18.3f}", flush=True)
                found.append(
                    {"baseline": name, "steps": steps, "spacing": spacing.value, "distance": distance, "error": error}
                )
    OUT.mkdir(exist_ok=True)
    (OUT / "path_spacing.json").write_text(json.dumps(found, indent=1))


class _Line:
    """What lies between a baseline and an image: attributions [parts, pixels], and the change of score."""

    def __init__(self, model: Model, image: Tensor, baseline: Baseline) -> None:
        start = baseline.rows(subject_of(image, class_score(0), model=model)).expand_as(image)
        network = model.folded.module
        with torch.no_grad():
            after, before = network(torch.cat([image, start]))
        index = int(after.argmax())
        self._change = float(after[index] - before[index])
        places = (torch.arange(PARTS) + 0.5) / PARTS
        parts = []
        for some in places.split(AT_ONCE):
            rows = torch.lerp(start, image, some[:, None, None, None]).requires_grad_()
            (gradient,) = torch.autograd.grad(network(rows)[:, index].sum(), rows)
            parts.append((gradient * (image - start)).sum(1).flatten(1))
        self._attributed = torch.cat(parts)

    def exactness(self, steps: int, spacing: PathSpacing) -> tuple[float, float]:
        """Returns the distance of a map from the exact one, as a part of its length, and its completeness error."""
        places, weights = spacing.nodes(steps, self._attributed)
        found = weights @ self._attributed[(places * PARTS).long().clamp(max=PARTS - 1)]
        exact = self._attributed.mean(0)
        distance = torch.linalg.vector_norm(found - exact) / torch.linalg.vector_norm(exact)
        return float(distance), abs(float(found.sum()) - self._change) / abs(self._change)


if __name__ == "__main__":
    main()
