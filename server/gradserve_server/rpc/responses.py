"""From the domain to messages. Placing, rendering and encoding happen here: for the pool."""

from collections.abc import Iterable, Mapping
from math import isfinite
from typing import Any

import numpy as np
import numpy.typing as npt

from gradserve.v1 import common_pb2, explain_pb2, image_pb2, model_pb2
from gradserve_server.autograd.objective import Objective, channel, class_score, neuron, ranked_class_score
from gradserve_server.config import Settings
from gradserve_server.errors import RequestError
from gradserve_server.imaging.encode import ImageFormat, encode
from gradserve_server.imaging.geometry import Placement
from gradserve_server.imaging.overlay import COLOR_MAPS, overlay
from gradserve_server.models.model import Model
from gradserve_server.models.repository import Entry, State
from gradserve_server.programs.explain import METHODS
from gradserve_server.programs.explain.explanation import Explained
from gradserve_server.programs.explain.transforms import Transform
from gradserve_server.programs.explain.trust import TrustReport
from gradserve_server.rpc.parameters import CHOICES
from gradserve_server.rpc.requests import DTYPES, ExplainCall, Frame
from gradserve_server.rpc.support import refusal
from gradserve_server.rpc.targets import Target
from gradserve_server.scheduling.calibration import Calibration
from gradserve_server.scheduling.job import Outcome, Usage

STATES = {
    State.LOADING: model_pb2.MODEL_STATE_LOADING,
    State.READY: model_pb2.MODEL_STATE_READY,
    State.FAILED: model_pb2.MODEL_STATE_FAILED,
    State.UNLOADED: model_pb2.MODEL_STATE_UNLOADED,
}
DATA_TYPES: dict[Any, Any] = {dtype: data_type for data_type, dtype in DTYPES.items()}


def explain_response(
    call: ExplainCall, outcome: Outcome[Explained], picture: npt.NDArray[np.uint8], placement: Placement
) -> explain_pb2.ExplainResponse:
    """Builds the answer to an Explain request.

    Args:
        call: The request.
        outcome: What its program returned and took.
        picture: What an overlay lies on, RGB in 0..255.
        placement: Where the input lies on the original.
    """
    explained = outcome.result
    classes = Classes(explained.logits, call.model)
    pairs = [(method, target) for method in call.methods for target in call.targets]
    response = explain_pb2.ExplainResponse(
        predictions=[classes.score(index) for index in classes.order[: call.prediction_count]],
        metadata=metadata(call.model, outcome.usage, call.seed),
    )
    for (method, target), found in zip(pairs, explained.maps, strict=True):
        heatmap = np.asarray(found.values, np.float32)
        box = (0.0, 0.0, float(heatmap.shape[1]), float(heatmap.shape[0]))
        if call.frame is Frame.ORIGINAL:
            heatmap, box = placement.on_original(heatmap), placement.box
        explanation = response.explanations.add(
            method=method.name(),
            target=classes.explained(target),
            target_description=classes.describe(target),
            heatmap=tensor(heatmap),
            layers=getattr(method, "layers", ()),
            approximation_error=found.approximation_error,
        )
        if found.trust is not None:
            index = explanation.target.class_index if explanation.HasField("target") else None
            explanation.trust.CopyFrom(_trust(found.trust, index, call.model))
        if call.overlay is not None:
            try:
                # With a legend it is larger than the image.
                drawn = _picture(overlay(found.values, heatmap, picture, box, call.overlay), call.overlay.format)
            except RequestError as error:
                raise error.within("overlay") from error.__cause__
            explanation.overlay.CopyFrom(drawn)
    return response


def list_models_response(
    listed: Iterable[Entry | Model],
    calibrations: Mapping[Model, Calibration],
    settings: Settings,
    next_page_token: str,
) -> model_pb2.ListModelsResponse:
    """Builds one page of the answer to a ListModels request: versions of models, and stylizers."""
    return model_pb2.ListModelsResponse(
        models=[
            _stylizer(one, calibrations[one]) if isinstance(one, Model) else _entry(one, calibrations, settings)
            for one in listed
        ],
        next_page_token=next_page_token,
        limits=_limits(settings),
    )


def _limits(settings: Settings) -> model_pb2.Limits:
    return model_pb2.Limits(
        image_bytes=settings.image_bytes,
        image_pixels=settings.image_pixels,
        heatmap_bytes=settings.heatmap_bytes,
        methods=settings.methods,
        targets=settings.targets,
        color_maps=list(COLOR_MAPS),
        objectives=settings.objectives,
        steps=settings.steps,
        images=settings.images,
        maximize_pixels=settings.maximize_pixels,
        stylize_side_px=settings.stylize_side_px,
        stylizer_pixels=settings.stylizer_pixels,
        rows=settings.rows,
        layers=settings.layers,
        previews=settings.previews,
        decode_ms=_milliseconds(settings.decode_seconds),
        streams=settings.streams,
        queue_size=settings.queue_size,
        queue_bytes=settings.queue_bytes,
        interactive_queue_ms=_milliseconds(settings.interactive_queue_seconds),
        iterative_queue_ms=_milliseconds(settings.iterative_queue_seconds),
        tenant_share_percent=round(settings.tenant_share * 100),
        message_bytes=settings.message_bytes,
    )


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000) if isfinite(seconds) else 0


def metadata(model: Model, usage: Usage, seed: int) -> common_pb2.Metadata:
    """Builds the facts on how an answer was computed."""
    facts = common_pb2.Metadata(
        model=model.name,
        model_version=model.version,
        device=str(model.device),
        precision=model.precision,
        seed=seed,
        pass_count=usage.passes,
        mean_pass_rows=usage.rows / usage.passes,
        mean_pass_programs=usage.programs / usage.passes,
    )
    facts.queue_duration.FromMicroseconds(round(usage.queue_seconds * 1e6))
    facts.compute_duration.FromMicroseconds(round(usage.compute_seconds * 1e6))
    return facts


def tensor(values: npt.NDArray[Any]) -> image_pb2.Tensor:
    """Builds a tensor message of an array."""
    dtype = values.dtype.newbyteorder("<")
    return image_pb2.Tensor(data_type=DATA_TYPES[dtype], shape=values.shape, data=values.astype(dtype).tobytes())


class Classes:
    """What the model says of an image.

    Args:
        logits: [classes].
        model: The model.
    """

    def __init__(self, logits: npt.NDArray[Any], model: Model) -> None:
        self._logits = logits.astype(np.float64)
        exponentials = np.exp(self._logits - self._logits.max())
        self._probabilities = exponentials / exponentials.sum()
        self._labels = model.labels
        self.order: list[int] = np.argsort(-self._logits, kind="stable").tolist()
        """Indices of the classes, most probable first; of equals, the smaller first, as in `ranked_class_score`."""

    def score(self, index: int) -> common_pb2.ClassScore:
        """Builds the score of a class."""
        return common_pb2.ClassScore(
            class_index=index,
            class_label=self._labels[index] if self._labels else "",
            probability=self._probabilities[index],
            logit=self._logits[index],
        )

    def explained(self, target: Target) -> common_pb2.ClassScore | None:
        """Builds the score of the class that a target explains; None for a unit."""
        return None if target.explained is None else self.score(self._index(target.explained))

    def describe(self, target: Target) -> str:
        """Says what a target explains."""
        match target:
            case Target(explained=Objective() as explained, against=Objective() as against):
                return f"{self._name(explained)}, not {self._name(against)}"
            case Target(explained=Objective() as explained):
                return self._name(explained)
            case Target(objective=channel(layer, index)):
                return f"channel {index} of {layer}"
            case Target(objective=neuron(layer, index, y, x)):
                return f"channel {index} of {layer} at row {y}, column {x}"
        raise TypeError(f"{target} has no description")

    def _name(self, objective: Objective) -> str:
        index = self._index(objective)
        return self._labels[index] if self._labels else str(index)

    def _index(self, objective: Objective) -> int:
        match objective:
            case class_score(index):
                return index
            case ranked_class_score(rank, without):
                return [index for index in self.order if index != without][rank]
        raise TypeError(f"{objective} is not a class")


def _trust(found: TrustReport, explained: int | None, model: Model) -> explain_pb2.TrustReport:
    message = explain_pb2.TrustReport(
        insertion_auc=found.insertion_auc,
        deletion_auc=found.deletion_auc,
        completeness_error=found.completeness_error,
        sensitivity_max=found.sensitivity_max,
        infidelity=found.infidelity,
        verdict=f"VERDICT_{found.verdict.name}",
        summary=found.summary,
    )
    for one in found.consistencies:
        classes = Classes(one.logits, model)
        message.consistencies.add(
            transform=_transform(one.transform),
            prediction=classes.score(classes.order[0]),
            target_probability=None if explained is None else classes.score(explained).probability,
            rank_correlation=one.rank_correlation,
            top_area_overlap=one.top_area_overlap,
        )
    return message


def _transform(transform: Transform) -> explain_pb2.Transform:
    names = {kind: name for name, kind in CHOICES[Transform].items()}
    return explain_pb2.Transform(**{names[type(transform)]: vars(transform)})


def _picture(pixels: npt.NDArray[np.uint8], image_format: ImageFormat) -> image_pb2.Picture:
    return image_pb2.Picture(
        format=f"IMAGE_FORMAT_{image_format.name}",
        data=encode(pixels, image_format),
        width=pixels.shape[1],
        height=pixels.shape[0],
    )


def _entry(entry: Entry, calibrations: Mapping[Model, Calibration], settings: Settings) -> model_pb2.Model:
    spec, model = entry.spec, entry.model
    message = (
        model_pb2.Model(name=spec.name, kind=model_pb2.MODEL_KIND_CLASSIFIER, architecture=spec.architecture)
        if model is None
        else _model(model, calibrations[model])
    )
    message.version_number = spec.number
    message.state = STATES[entry.state]
    message.state_message = entry.message
    message.pinned = spec.pin
    message.limits.CopyFrom(_limits(settings.within(spec.limits)))
    return message


def _model(model: Model, calibration: Calibration) -> model_pb2.Model:
    return model_pb2.Model(
        name=model.name,
        version=model.version,
        kind=model_pb2.MODEL_KIND_CLASSIFIER,
        architecture=model.architecture,
        precision=model.precision,
        device=str(model.device),
        input_size=[model.preprocessing.height, model.preprocessing.width],
        class_count=model.class_count,
        class_labels=model.labels,
        layers=[model_pb2.Layer(name=layer.name, kind=layer.kind, shape=layer.shape) for layer in model.layers],
        default_layer=model.default_layer,
        methods=[
            model_pb2.MethodSupport(method=name, supported=not reason, refusal=reason, caveat=method.caveat)
            for name, method in sorted(METHODS.items())
            for reason in [refusal(method, model)]
        ],
        calibration=_calibration(calibration),
    )


def _stylizer(model: Model, calibration: Calibration) -> model_pb2.Model:
    return model_pb2.Model(
        name=model.name,
        version=model.version,
        kind=model_pb2.MODEL_KIND_STYLIZER,
        state=model_pb2.MODEL_STATE_READY,
        architecture=model.architecture,
        precision=model.precision,
        device=str(model.device),
        input_size=[model.preprocessing.height, model.preprocessing.width],
        calibration=_calibration(calibration),
    )


def _calibration(calibration: Calibration) -> model_pb2.Calibration:
    return model_pb2.Calibration(
        pass_rows=calibration.pass_rows,
        points=[
            model_pb2.CalibrationPoint(rows=point.rows, forward_ms=point.forward_ms, gradient_ms=point.gradient_ms)
            for point in calibration.points
        ],
    )
