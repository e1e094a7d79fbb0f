import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from gradserve.v1 import common_pb2 as _common_pb2
from gradserve.v1 import image_pb2 as _image_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class StopReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STOP_REASON_UNSPECIFIED: _ClassVar[StopReason]
    STOP_REASON_COMPLETED: _ClassVar[StopReason]
    STOP_REASON_FLAT: _ClassVar[StopReason]
    STOP_REASON_DIVERGED: _ClassVar[StopReason]
    STOP_REASON_DEADLINE: _ClassVar[StopReason]

class Preset(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PRESET_UNSPECIFIED: _ClassVar[Preset]
    PRESET_SIMONYAN: _ClassVar[Preset]
    PRESET_YOSINSKI: _ClassVar[Preset]
    PRESET_LUCID: _ClassVar[Preset]
    PRESET_DEEPDREAM: _ClassVar[Preset]
    PRESET_FGSM: _ClassVar[Preset]
    PRESET_PGD: _ClassVar[Preset]

class Start(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    START_UNSPECIFIED: _ClassVar[Start]
    START_BLANK: _ClassVar[Start]
    START_NOISE: _ClassVar[Start]

class Parametrization(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PARAMETRIZATION_UNSPECIFIED: _ClassVar[Parametrization]
    PARAMETRIZATION_PIXEL: _ClassVar[Parametrization]
    PARAMETRIZATION_FOURIER: _ClassVar[Parametrization]

class StepRule(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STEP_RULE_UNSPECIFIED: _ClassVar[StepRule]
    STEP_RULE_GRADIENT: _ClassVar[StepRule]
    STEP_RULE_NORMALIZED_GRADIENT: _ClassVar[StepRule]
    STEP_RULE_ADAM: _ClassVar[StepRule]
    STEP_RULE_SIGN: _ClassVar[StepRule]
    STEP_RULE_UNIT_GRADIENT: _ClassVar[StepRule]

class Norm(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    NORM_UNSPECIFIED: _ClassVar[Norm]
    NORM_LINF: _ClassVar[Norm]
    NORM_L2: _ClassVar[Norm]
STOP_REASON_UNSPECIFIED: StopReason
STOP_REASON_COMPLETED: StopReason
STOP_REASON_FLAT: StopReason
STOP_REASON_DIVERGED: StopReason
STOP_REASON_DEADLINE: StopReason
PRESET_UNSPECIFIED: Preset
PRESET_SIMONYAN: Preset
PRESET_YOSINSKI: Preset
PRESET_LUCID: Preset
PRESET_DEEPDREAM: Preset
PRESET_FGSM: Preset
PRESET_PGD: Preset
START_UNSPECIFIED: Start
START_BLANK: Start
START_NOISE: Start
PARAMETRIZATION_UNSPECIFIED: Parametrization
PARAMETRIZATION_PIXEL: Parametrization
PARAMETRIZATION_FOURIER: Parametrization
STEP_RULE_UNSPECIFIED: StepRule
STEP_RULE_GRADIENT: StepRule
STEP_RULE_NORMALIZED_GRADIENT: StepRule
STEP_RULE_ADAM: StepRule
STEP_RULE_SIGN: StepRule
STEP_RULE_UNIT_GRADIENT: StepRule
NORM_UNSPECIFIED: Norm
NORM_LINF: Norm
NORM_L2: Norm

class MaximizeRequest(_message.Message):
    __slots__ = ("model", "objectives", "preset", "image", "start", "size", "count", "step_count", "parametrization", "robustness", "regularization", "optimizer", "octaves", "constraint", "activation_rule", "redirected_relu_step_count", "seed", "preview_interval_steps", "format", "result_before_deadline", "include_pixels")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    OBJECTIVES_FIELD_NUMBER: _ClassVar[int]
    PRESET_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    STEP_COUNT_FIELD_NUMBER: _ClassVar[int]
    PARAMETRIZATION_FIELD_NUMBER: _ClassVar[int]
    ROBUSTNESS_FIELD_NUMBER: _ClassVar[int]
    REGULARIZATION_FIELD_NUMBER: _ClassVar[int]
    OPTIMIZER_FIELD_NUMBER: _ClassVar[int]
    OCTAVES_FIELD_NUMBER: _ClassVar[int]
    CONSTRAINT_FIELD_NUMBER: _ClassVar[int]
    ACTIVATION_RULE_FIELD_NUMBER: _ClassVar[int]
    REDIRECTED_RELU_STEP_COUNT_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    PREVIEW_INTERVAL_STEPS_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    RESULT_BEFORE_DEADLINE_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_PIXELS_FIELD_NUMBER: _ClassVar[int]
    model: str
    objectives: _containers.RepeatedCompositeFieldContainer[Objective]
    preset: Preset
    image: _image_pb2.Image
    start: Start
    size: Size
    count: int
    step_count: int
    parametrization: Parametrization
    robustness: Robustness
    regularization: Regularization
    optimizer: Optimizer
    octaves: Octaves
    constraint: Constraint
    activation_rule: _common_pb2.ActivationRule
    redirected_relu_step_count: int
    seed: int
    preview_interval_steps: int
    format: _image_pb2.ImageFormat
    result_before_deadline: _duration_pb2.Duration
    include_pixels: bool
    def __init__(self, model: _Optional[str] = ..., objectives: _Optional[_Iterable[_Union[Objective, _Mapping]]] = ..., preset: _Optional[_Union[Preset, str]] = ..., image: _Optional[_Union[_image_pb2.Image, _Mapping]] = ..., start: _Optional[_Union[Start, str]] = ..., size: _Optional[_Union[Size, _Mapping]] = ..., count: _Optional[int] = ..., step_count: _Optional[int] = ..., parametrization: _Optional[_Union[Parametrization, str]] = ..., robustness: _Optional[_Union[Robustness, _Mapping]] = ..., regularization: _Optional[_Union[Regularization, _Mapping]] = ..., optimizer: _Optional[_Union[Optimizer, _Mapping]] = ..., octaves: _Optional[_Union[Octaves, _Mapping]] = ..., constraint: _Optional[_Union[Constraint, _Mapping]] = ..., activation_rule: _Optional[_Union[_common_pb2.ActivationRule, str]] = ..., redirected_relu_step_count: _Optional[int] = ..., seed: _Optional[int] = ..., preview_interval_steps: _Optional[int] = ..., format: _Optional[_Union[_image_pb2.ImageFormat, str]] = ..., result_before_deadline: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., include_pixels: bool = ...) -> None: ...

class MaximizeResponse(_message.Message):
    __slots__ = ("progress", "result")
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    progress: Progress
    result: MaximizeResult
    def __init__(self, progress: _Optional[_Union[Progress, _Mapping]] = ..., result: _Optional[_Union[MaximizeResult, _Mapping]] = ...) -> None: ...

class Progress(_message.Message):
    __slots__ = ("step", "step_count", "objective_value", "preview", "elapsed_duration")
    STEP_FIELD_NUMBER: _ClassVar[int]
    STEP_COUNT_FIELD_NUMBER: _ClassVar[int]
    OBJECTIVE_VALUE_FIELD_NUMBER: _ClassVar[int]
    PREVIEW_FIELD_NUMBER: _ClassVar[int]
    ELAPSED_DURATION_FIELD_NUMBER: _ClassVar[int]
    step: int
    step_count: int
    objective_value: float
    preview: _image_pb2.Picture
    elapsed_duration: _duration_pb2.Duration
    def __init__(self, step: _Optional[int] = ..., step_count: _Optional[int] = ..., objective_value: _Optional[float] = ..., preview: _Optional[_Union[_image_pb2.Picture, _Mapping]] = ..., elapsed_duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class MaximizeResult(_message.Message):
    __slots__ = ("images", "values", "predictions", "stop_reason", "perturbation", "metadata", "pixels")
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    PREDICTIONS_FIELD_NUMBER: _ClassVar[int]
    STOP_REASON_FIELD_NUMBER: _ClassVar[int]
    PERTURBATION_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    PIXELS_FIELD_NUMBER: _ClassVar[int]
    images: _containers.RepeatedCompositeFieldContainer[_image_pb2.Picture]
    values: _containers.RepeatedScalarFieldContainer[float]
    predictions: _containers.RepeatedCompositeFieldContainer[_common_pb2.ClassScore]
    stop_reason: StopReason
    perturbation: Perturbation
    metadata: _common_pb2.Metadata
    pixels: _containers.RepeatedCompositeFieldContainer[_image_pb2.Tensor]
    def __init__(self, images: _Optional[_Iterable[_Union[_image_pb2.Picture, _Mapping]]] = ..., values: _Optional[_Iterable[float]] = ..., predictions: _Optional[_Iterable[_Union[_common_pb2.ClassScore, _Mapping]]] = ..., stop_reason: _Optional[_Union[StopReason, str]] = ..., perturbation: _Optional[_Union[Perturbation, _Mapping]] = ..., metadata: _Optional[_Union[_common_pb2.Metadata, _Mapping]] = ..., pixels: _Optional[_Iterable[_Union[_image_pb2.Tensor, _Mapping]]] = ...) -> None: ...

class Perturbation(_message.Message):
    __slots__ = ("before", "after", "succeeded", "linf_norm", "l2_norm", "picture")
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    SUCCEEDED_FIELD_NUMBER: _ClassVar[int]
    LINF_NORM_FIELD_NUMBER: _ClassVar[int]
    L2_NORM_FIELD_NUMBER: _ClassVar[int]
    PICTURE_FIELD_NUMBER: _ClassVar[int]
    before: _common_pb2.ClassScore
    after: _common_pb2.ClassScore
    succeeded: bool
    linf_norm: float
    l2_norm: float
    picture: _image_pb2.Picture
    def __init__(self, before: _Optional[_Union[_common_pb2.ClassScore, _Mapping]] = ..., after: _Optional[_Union[_common_pb2.ClassScore, _Mapping]] = ..., succeeded: bool = ..., linf_norm: _Optional[float] = ..., l2_norm: _Optional[float] = ..., picture: _Optional[_Union[_image_pb2.Picture, _Mapping]] = ...) -> None: ...

class Objective(_message.Message):
    __slots__ = ("weight", "class_score", "channel", "neuron", "direction", "layer", "diversity")
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    CLASS_SCORE_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    NEURON_FIELD_NUMBER: _ClassVar[int]
    DIRECTION_FIELD_NUMBER: _ClassVar[int]
    LAYER_FIELD_NUMBER: _ClassVar[int]
    DIVERSITY_FIELD_NUMBER: _ClassVar[int]
    weight: float
    class_score: ClassObjective
    channel: ChannelObjective
    neuron: NeuronObjective
    direction: DirectionObjective
    layer: LayerObjective
    diversity: DiversityObjective
    def __init__(self, weight: _Optional[float] = ..., class_score: _Optional[_Union[ClassObjective, _Mapping]] = ..., channel: _Optional[_Union[ChannelObjective, _Mapping]] = ..., neuron: _Optional[_Union[NeuronObjective, _Mapping]] = ..., direction: _Optional[_Union[DirectionObjective, _Mapping]] = ..., layer: _Optional[_Union[LayerObjective, _Mapping]] = ..., diversity: _Optional[_Union[DiversityObjective, _Mapping]] = ...) -> None: ...

class ClassObjective(_message.Message):
    __slots__ = ("class_index", "class_label", "log_probability")
    CLASS_INDEX_FIELD_NUMBER: _ClassVar[int]
    CLASS_LABEL_FIELD_NUMBER: _ClassVar[int]
    LOG_PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    class_index: int
    class_label: str
    log_probability: bool
    def __init__(self, class_index: _Optional[int] = ..., class_label: _Optional[str] = ..., log_probability: bool = ...) -> None: ...

class ChannelObjective(_message.Message):
    __slots__ = ("layer", "channel")
    LAYER_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    layer: str
    channel: int
    def __init__(self, layer: _Optional[str] = ..., channel: _Optional[int] = ...) -> None: ...

class NeuronObjective(_message.Message):
    __slots__ = ("layer", "channel", "y", "x")
    LAYER_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    Y_FIELD_NUMBER: _ClassVar[int]
    X_FIELD_NUMBER: _ClassVar[int]
    layer: str
    channel: int
    y: int
    x: int
    def __init__(self, layer: _Optional[str] = ..., channel: _Optional[int] = ..., y: _Optional[int] = ..., x: _Optional[int] = ...) -> None: ...

class DirectionObjective(_message.Message):
    __slots__ = ("layer", "direction")
    LAYER_FIELD_NUMBER: _ClassVar[int]
    DIRECTION_FIELD_NUMBER: _ClassVar[int]
    layer: str
    direction: _image_pb2.Tensor
    def __init__(self, layer: _Optional[str] = ..., direction: _Optional[_Union[_image_pb2.Tensor, _Mapping]] = ...) -> None: ...

class LayerObjective(_message.Message):
    __slots__ = ("layer",)
    LAYER_FIELD_NUMBER: _ClassVar[int]
    layer: str
    def __init__(self, layer: _Optional[str] = ...) -> None: ...

class DiversityObjective(_message.Message):
    __slots__ = ("layer",)
    LAYER_FIELD_NUMBER: _ClassVar[int]
    layer: str
    def __init__(self, layer: _Optional[str] = ...) -> None: ...

class Size(_message.Message):
    __slots__ = ("height", "width")
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    height: int
    width: int
    def __init__(self, height: _Optional[int] = ..., width: _Optional[int] = ...) -> None: ...

class Robustness(_message.Message):
    __slots__ = ("pad_px", "jitter_px", "scales", "degrees")
    PAD_PX_FIELD_NUMBER: _ClassVar[int]
    JITTER_PX_FIELD_NUMBER: _ClassVar[int]
    SCALES_FIELD_NUMBER: _ClassVar[int]
    DEGREES_FIELD_NUMBER: _ClassVar[int]
    pad_px: int
    jitter_px: int
    scales: _containers.RepeatedScalarFieldContainer[float]
    degrees: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, pad_px: _Optional[int] = ..., jitter_px: _Optional[int] = ..., scales: _Optional[_Iterable[float]] = ..., degrees: _Optional[_Iterable[float]] = ...) -> None: ...

class Regularization(_message.Message):
    __slots__ = ("l2_decay", "total_variation_weight", "blur_sigma_px", "blur_interval_steps", "clip_norm_percent", "clip_contribution_percent")
    L2_DECAY_FIELD_NUMBER: _ClassVar[int]
    TOTAL_VARIATION_WEIGHT_FIELD_NUMBER: _ClassVar[int]
    BLUR_SIGMA_PX_FIELD_NUMBER: _ClassVar[int]
    BLUR_INTERVAL_STEPS_FIELD_NUMBER: _ClassVar[int]
    CLIP_NORM_PERCENT_FIELD_NUMBER: _ClassVar[int]
    CLIP_CONTRIBUTION_PERCENT_FIELD_NUMBER: _ClassVar[int]
    l2_decay: float
    total_variation_weight: float
    blur_sigma_px: float
    blur_interval_steps: int
    clip_norm_percent: float
    clip_contribution_percent: float
    def __init__(self, l2_decay: _Optional[float] = ..., total_variation_weight: _Optional[float] = ..., blur_sigma_px: _Optional[float] = ..., blur_interval_steps: _Optional[int] = ..., clip_norm_percent: _Optional[float] = ..., clip_contribution_percent: _Optional[float] = ...) -> None: ...

class Optimizer(_message.Message):
    __slots__ = ("step_rule", "learning_rate")
    STEP_RULE_FIELD_NUMBER: _ClassVar[int]
    LEARNING_RATE_FIELD_NUMBER: _ClassVar[int]
    step_rule: StepRule
    learning_rate: float
    def __init__(self, step_rule: _Optional[_Union[StepRule, str]] = ..., learning_rate: _Optional[float] = ...) -> None: ...

class Octaves(_message.Message):
    __slots__ = ("count", "scale")
    COUNT_FIELD_NUMBER: _ClassVar[int]
    SCALE_FIELD_NUMBER: _ClassVar[int]
    count: int
    scale: float
    def __init__(self, count: _Optional[int] = ..., scale: _Optional[float] = ...) -> None: ...

class Constraint(_message.Message):
    __slots__ = ("norm", "epsilon")
    NORM_FIELD_NUMBER: _ClassVar[int]
    EPSILON_FIELD_NUMBER: _ClassVar[int]
    norm: Norm
    epsilon: float
    def __init__(self, norm: _Optional[_Union[Norm, str]] = ..., epsilon: _Optional[float] = ...) -> None: ...
