"""What a call returns."""

from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
import numpy.typing as npt
import PIL.Image

from gradserve.figure import figure
from gradserve.images import png, to_array, to_picture
from gradserve.records import Record
from gradserve.v1 import common_pb2, explain_pb2, model_pb2


@dataclass(frozen=True)
class ClassScore(Record):
    """A class with what the model says of it.

    Attributes:
        index: Index of the class in the model's output.
        label: Its label; empty when the model has none.
        probability: Softmax probability, 0..1.
        logit: Raw output.
    """

    index: int
    label: str
    probability: float
    logit: float


@dataclass(frozen=True)
class Metadata(Record):
    """How an answer was computed.

    Attributes:
        model: Name of the model.
        model_version: SHA-256 of its weights.
        device: Device that computed.
        precision: Arithmetic.
        seed: Seed in force; sending it again reproduces the answer.
        queue_seconds: Waiting before the first pass.
        compute_seconds: Total duration of the passes that the answer took part in.
        pass_count: Number of those passes.
        mean_pass_rows: Mean number of rows in them, those of other callers included.
        mean_pass_programs: Mean number of programs in them, those of other callers included.
        cached: Whether this was computed for an earlier request, whose seed, durations and passes these are.
    """

    model: str
    model_version: str
    device: str
    precision: str
    seed: int
    queue_seconds: float
    compute_seconds: float
    pass_count: int
    mean_pass_rows: float
    mean_pass_programs: float
    cached: bool = False


@dataclass(frozen=True)
class Consistency(Record):
    """Agreement of prediction and map under one transform of the image.

    Attributes:
        transform: The transform in words, for example `rotation degrees=10`.
        prediction: The most probable class after it.
        target_probability: Probability after it of the class explained.
        rank_correlation: Spearman's, of the map put back with the original map, -1..1.
        top_area_overlap: Intersection over union of the strongest fifth of the pixels, 0..1.
    """

    transform: str
    prediction: ClassScore
    target_probability: float
    rank_correlation: float
    top_area_overlap: float


@dataclass(frozen=True)
class TrustReport(Record):
    """What is known about the reliability of one explanation; None where it was not asked for or has no meaning.

    Attributes:
        verdict: `consistent`, `doubtful` or `inconsistent`.
        summary: The verdict in one sentence.
        consistencies: Agreement under each transform.
        insertion_auc: Area under the insertion curve, 0..1, higher is better.
        deletion_auc: Area under the deletion curve, 0..1, lower is better.
        completeness_error: The explanation's `approximation_error`.
        sensitivity_max: Largest relative change of the map under small noise, >= 0, lower is better.
        infidelity: 0 for a map that foretells changes of the score, 1 for one that says nothing of them.
    """

    verdict: str
    summary: str
    consistencies: tuple[Consistency, ...]
    insertion_auc: float | None
    deletion_auc: float | None
    completeness_error: float | None
    sensitivity_max: float | None
    infidelity: float | None


@dataclass(frozen=True, eq=False)
class Explanation(Record):
    """One method's answer for one target. Shows itself in a notebook.

    Attributes:
        heatmap: float32 [height, width], signed and unnormalised, in the frame asked for. Read-only.
        overlay: The heatmap rendered over the image; None if it was not asked for.
        method: Name of the method.
        target: The class explained, of a contrast the first one; None for a unit.
        description: What was explained, in words.
        layers: Layers used; empty for a method without one.
        approximation_error: Difference of the sum of attributions from the change of score it should be, as a part of
            that change; None for a method that promises no sum.
        predictions: The most probable classes, most probable first.
        trust: The trust report; None if it was not asked for.
        metadata: How it was computed.
    """

    heatmap: npt.NDArray[np.float32]
    overlay: PIL.Image.Image | None
    method: str
    target: ClassScore | None
    description: str
    layers: tuple[str, ...]
    approximation_error: float | None
    predictions: tuple[ClassScore, ...]
    trust: TrustReport | None
    metadata: Metadata

    @property
    def title(self) -> str:
        """Method, what was explained, and its probability: `grad_cam of espresso: 93.1%`."""
        probability = f": {self.target.probability:.1%}" if self.target else ""
        return f"{self.method} of {self.description}{probability}"

    def save(self, path: str | PathLike[str]) -> None:
        """Saves the overlay in the format the name ends with, or the heatmap for a name that ends with `.npy`.

        Raises:
            ValueError: There is no overlay to save.
        """
        path = Path(path)
        if path.suffix == ".npy":
            np.save(path, self.heatmap)
        elif self.overlay is None:
            raise ValueError("there is no overlay: ask for it with overlay=True, or save the heatmap as .npy")
        else:
            self.overlay.save(path)

    def _repr_png_(self) -> bytes | None:
        return None if self.overlay is None else png(self.overlay)

    def _repr_html_(self) -> str | None:
        if self.overlay is None:
            return None
        return figure(self.overlay, [self.title, *([self.trust.summary] if self.trust else [])])


@dataclass(frozen=True)
class Layer(Record):
    """A layer of a model.

    Attributes:
        name: Path of the module.
        kind: Class of the module.
        shape: Shape of its output for one image.
    """

    name: str
    kind: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class MethodSupport(Record):
    """What a method can do with a model.

    Attributes:
        name: Name of the method.
        supported: Whether it can serve the model.
        refusal: Why it cannot; empty when it can.
        caveat: What is known to mislead about it; empty when nothing is.
    """

    name: str
    supported: bool
    refusal: str
    caveat: str


@dataclass(frozen=True)
class Cost(Record):
    """What a pass over a model was measured to take.

    Attributes:
        rows: Rows in the pass.
        forward_ms: Milliseconds of a forward pass.
        gradient_ms: Milliseconds of a forward and a backward pass; 0 for a stylizer.
    """

    rows: int
    forward_ms: float
    gradient_ms: float


@dataclass(frozen=True)
class Model(Record):
    """A model that a server serves.

    Attributes:
        name: Name, for the argument `model`.
        version: SHA-256 of its weights.
        architecture: Where the network comes from.
        precision: Arithmetic.
        device: Where it computes.
        input_size: Height and width of its input.
        labels: Labels by class index; empty when it has none.
        class_count: Number of classes.
        layers: Layers a caller can name.
        default_layer: Layer of class activation maps when the caller names none.
        methods: What each method can do with it.
        pass_rows: Rows per pass in force.
        limits: Limits of requests to it by their proto names.
        version_number: Number of the version in the model repository; 0 when it has none.
        state: `ready`, `loading`, `failed` or `unloaded`.
        state_message: Why it failed, or why newer files of it are not served.
        costs: Measured cost by size of pass; empty when nothing was measured.
    """

    name: str
    version: str
    architecture: str
    precision: str
    device: str
    input_size: tuple[int, int]
    labels: tuple[str, ...]
    class_count: int
    layers: tuple[Layer, ...]
    default_layer: str
    methods: tuple[MethodSupport, ...]
    pass_rows: int
    limits: dict[str, int]
    version_number: int = 0
    state: str = "ready"
    state_message: str = ""
    costs: tuple[Cost, ...] = ()


def explanations(response: explain_pb2.ExplainResponse) -> list[Explanation]:
    """Returns the explanations in an answer, in order."""
    predictions = tuple(class_score(score) for score in response.predictions)
    facts = metadata(response.metadata)
    return [
        Explanation(
            heatmap=to_array(explanation.heatmap),
            overlay=to_picture(explanation.overlay) if explanation.HasField("overlay") else None,
            method=explanation.method,
            target=class_score(explanation.target) if explanation.HasField("target") else None,
            description=explanation.target_description,
            layers=tuple(explanation.layers),
            approximation_error=(
                explanation.approximation_error if explanation.HasField("approximation_error") else None
            ),
            predictions=predictions,
            trust=_trust(explanation.trust) if explanation.HasField("trust") else None,
            metadata=facts,
        )
        for explanation in response.explanations
    ]


def models(response: model_pb2.ListModelsResponse) -> list[Model]:
    """Returns the models in a page of an answer, in order."""
    return [
        Model(
            name=model.name,
            version=model.version,
            architecture=model.architecture,
            precision=model.precision,
            device=model.device,
            input_size=(model.input_size[0], model.input_size[1]) if model.input_size else (0, 0),
            labels=tuple(model.class_labels),
            class_count=model.class_count,
            layers=tuple(Layer(layer.name, layer.kind, tuple(layer.shape)) for layer in model.layers),
            default_layer=model.default_layer,
            methods=tuple(
                MethodSupport(method.method, method.supported, method.refusal, method.caveat)
                for method in model.methods
            ),
            pass_rows=model.calibration.pass_rows,
            limits=_limits(model.limits),
            version_number=model.version_number,
            state=model_pb2.ModelState.Name(model.state).removeprefix("MODEL_STATE_").lower(),
            state_message=model.state_message,
            costs=tuple(Cost(point.rows, point.forward_ms, point.gradient_ms) for point in model.calibration.points),
        )
        for model in response.models
    ]


def _limits(message: model_pb2.Limits) -> dict[str, int]:
    return {
        field.name: getattr(message, field.name) for field in message.DESCRIPTOR.fields if field.name != "color_maps"
    }


def _trust(report: explain_pb2.TrustReport) -> TrustReport:
    def number(name: str) -> float | None:
        return getattr(report, name) if report.HasField(name) else None

    return TrustReport(
        verdict=explain_pb2.Verdict.Name(report.verdict).removeprefix("VERDICT_").lower(),
        summary=report.summary,
        consistencies=tuple(
            Consistency(
                _in_words(one.transform),
                class_score(one.prediction),
                one.target_probability,
                one.rank_correlation,
                one.top_area_overlap,
            )
            for one in report.consistencies
        ),
        insertion_auc=number("insertion_auc"),
        deletion_auc=number("deletion_auc"),
        completeness_error=number("completeness_error"),
        sensitivity_max=number("sensitivity_max"),
        infidelity=number("infidelity"),
    )


def _in_words(transform: explain_pb2.Transform) -> str:
    name = transform.WhichOneof("transform") or ""
    chosen = getattr(transform, name) if name else transform
    return " ".join([name, *(f"{field.name}={value:g}" for field, value in chosen.ListFields())])


def class_score(score: common_pb2.ClassScore) -> ClassScore:
    """Returns the score in a message."""
    return ClassScore(score.class_index, score.class_label, score.probability, score.logit)


def metadata(facts: common_pb2.Metadata) -> Metadata:
    """Returns the facts in a message."""
    return Metadata(
        model=facts.model,
        model_version=facts.model_version,
        device=facts.device,
        precision=facts.precision,
        seed=facts.seed,
        queue_seconds=facts.queue_duration.ToTimedelta().total_seconds(),
        compute_seconds=facts.compute_duration.ToTimedelta().total_seconds(),
        pass_count=facts.pass_count,
        mean_pass_rows=facts.mean_pass_rows,
        mean_pass_programs=facts.mean_pass_programs,
        cached=facts.cached,
    )
