import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from gradserve.v1 import common_pb2 as _common_pb2
from gradserve.v1 import image_pb2 as _image_pb2
from gradserve.v1 import maximize_pb2 as _maximize_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class StyleStart(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STYLE_START_UNSPECIFIED: _ClassVar[StyleStart]
    STYLE_START_CONTENT: _ClassVar[StyleStart]
    STYLE_START_NOISE: _ClassVar[StyleStart]
    STYLE_START_STYLE_STATISTICS: _ClassVar[StyleStart]

class StyleOptimizer(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STYLE_OPTIMIZER_UNSPECIFIED: _ClassVar[StyleOptimizer]
    STYLE_OPTIMIZER_LBFGS: _ClassVar[StyleOptimizer]
    STYLE_OPTIMIZER_ADAM: _ClassVar[StyleOptimizer]
STYLE_START_UNSPECIFIED: StyleStart
STYLE_START_CONTENT: StyleStart
STYLE_START_NOISE: StyleStart
STYLE_START_STYLE_STATISTICS: StyleStart
STYLE_OPTIMIZER_UNSPECIFIED: StyleOptimizer
STYLE_OPTIMIZER_LBFGS: StyleOptimizer
STYLE_OPTIMIZER_ADAM: StyleOptimizer

class StylizeRequest(_message.Message):
    __slots__ = ("content", "optimization", "feed_forward", "size_px", "seed", "preview_interval_steps", "format", "result_before_deadline")
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    OPTIMIZATION_FIELD_NUMBER: _ClassVar[int]
    FEED_FORWARD_FIELD_NUMBER: _ClassVar[int]
    SIZE_PX_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    PREVIEW_INTERVAL_STEPS_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    RESULT_BEFORE_DEADLINE_FIELD_NUMBER: _ClassVar[int]
    content: _image_pb2.Image
    optimization: StyleOptimization
    feed_forward: FeedForwardStyle
    size_px: int
    seed: int
    preview_interval_steps: int
    format: _image_pb2.ImageFormat
    result_before_deadline: _duration_pb2.Duration
    def __init__(self, content: _Optional[_Union[_image_pb2.Image, _Mapping]] = ..., optimization: _Optional[_Union[StyleOptimization, _Mapping]] = ..., feed_forward: _Optional[_Union[FeedForwardStyle, _Mapping]] = ..., size_px: _Optional[int] = ..., seed: _Optional[int] = ..., preview_interval_steps: _Optional[int] = ..., format: _Optional[_Union[_image_pb2.ImageFormat, str]] = ..., result_before_deadline: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class StylizeResponse(_message.Message):
    __slots__ = ("progress", "result")
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    progress: _maximize_pb2.Progress
    result: StylizeResult
    def __init__(self, progress: _Optional[_Union[_maximize_pb2.Progress, _Mapping]] = ..., result: _Optional[_Union[StylizeResult, _Mapping]] = ...) -> None: ...

class StylizeResult(_message.Message):
    __slots__ = ("image", "losses", "loss_terms", "stop_reason", "metadata")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    LOSSES_FIELD_NUMBER: _ClassVar[int]
    LOSS_TERMS_FIELD_NUMBER: _ClassVar[int]
    STOP_REASON_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    image: _image_pb2.Picture
    losses: _containers.RepeatedScalarFieldContainer[float]
    loss_terms: LossTerms
    stop_reason: _maximize_pb2.StopReason
    metadata: _common_pb2.Metadata
    def __init__(self, image: _Optional[_Union[_image_pb2.Picture, _Mapping]] = ..., losses: _Optional[_Iterable[float]] = ..., loss_terms: _Optional[_Union[LossTerms, _Mapping]] = ..., stop_reason: _Optional[_Union[_maximize_pb2.StopReason, str]] = ..., metadata: _Optional[_Union[_common_pb2.Metadata, _Mapping]] = ...) -> None: ...

class LossTerms(_message.Message):
    __slots__ = ("content", "style", "total_variation")
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    STYLE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_VARIATION_FIELD_NUMBER: _ClassVar[int]
    content: float
    style: float
    total_variation: float
    def __init__(self, content: _Optional[float] = ..., style: _Optional[float] = ..., total_variation: _Optional[float] = ...) -> None: ...

class WeightedStyle(_message.Message):
    __slots__ = ("image", "weight")
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    image: _image_pb2.Image
    weight: float
    def __init__(self, image: _Optional[_Union[_image_pb2.Image, _Mapping]] = ..., weight: _Optional[float] = ...) -> None: ...

class WeightedLayer(_message.Message):
    __slots__ = ("layer", "weight")
    LAYER_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    layer: str
    weight: float
    def __init__(self, layer: _Optional[str] = ..., weight: _Optional[float] = ...) -> None: ...

class StyleOptimization(_message.Message):
    __slots__ = ("model", "styles", "content_layers", "style_layers", "content_weight", "style_weight", "total_variation_weight", "step_count", "start", "optimizer", "preserve_colors", "pyramid_levels", "mask")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    STYLES_FIELD_NUMBER: _ClassVar[int]
    CONTENT_LAYERS_FIELD_NUMBER: _ClassVar[int]
    STYLE_LAYERS_FIELD_NUMBER: _ClassVar[int]
    CONTENT_WEIGHT_FIELD_NUMBER: _ClassVar[int]
    STYLE_WEIGHT_FIELD_NUMBER: _ClassVar[int]
    TOTAL_VARIATION_WEIGHT_FIELD_NUMBER: _ClassVar[int]
    STEP_COUNT_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    OPTIMIZER_FIELD_NUMBER: _ClassVar[int]
    PRESERVE_COLORS_FIELD_NUMBER: _ClassVar[int]
    PYRAMID_LEVELS_FIELD_NUMBER: _ClassVar[int]
    MASK_FIELD_NUMBER: _ClassVar[int]
    model: str
    styles: _containers.RepeatedCompositeFieldContainer[WeightedStyle]
    content_layers: _containers.RepeatedCompositeFieldContainer[WeightedLayer]
    style_layers: _containers.RepeatedCompositeFieldContainer[WeightedLayer]
    content_weight: float
    style_weight: float
    total_variation_weight: float
    step_count: int
    start: StyleStart
    optimizer: StyleOptimizer
    preserve_colors: bool
    pyramid_levels: int
    mask: _image_pb2.Image
    def __init__(self, model: _Optional[str] = ..., styles: _Optional[_Iterable[_Union[WeightedStyle, _Mapping]]] = ..., content_layers: _Optional[_Iterable[_Union[WeightedLayer, _Mapping]]] = ..., style_layers: _Optional[_Iterable[_Union[WeightedLayer, _Mapping]]] = ..., content_weight: _Optional[float] = ..., style_weight: _Optional[float] = ..., total_variation_weight: _Optional[float] = ..., step_count: _Optional[int] = ..., start: _Optional[_Union[StyleStart, str]] = ..., optimizer: _Optional[_Union[StyleOptimizer, str]] = ..., preserve_colors: bool = ..., pyramid_levels: _Optional[int] = ..., mask: _Optional[_Union[_image_pb2.Image, _Mapping]] = ...) -> None: ...

class FeedForwardStyle(_message.Message):
    __slots__ = ("stylizer",)
    STYLIZER_FIELD_NUMBER: _ClassVar[int]
    stylizer: str
    def __init__(self, stylizer: _Optional[str] = ...) -> None: ...
