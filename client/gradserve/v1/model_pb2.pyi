from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ModelKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MODEL_KIND_UNSPECIFIED: _ClassVar[ModelKind]
    MODEL_KIND_CLASSIFIER: _ClassVar[ModelKind]
    MODEL_KIND_STYLIZER: _ClassVar[ModelKind]

class ModelState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MODEL_STATE_UNSPECIFIED: _ClassVar[ModelState]
    MODEL_STATE_LOADING: _ClassVar[ModelState]
    MODEL_STATE_READY: _ClassVar[ModelState]
    MODEL_STATE_FAILED: _ClassVar[ModelState]
    MODEL_STATE_UNLOADED: _ClassVar[ModelState]
MODEL_KIND_UNSPECIFIED: ModelKind
MODEL_KIND_CLASSIFIER: ModelKind
MODEL_KIND_STYLIZER: ModelKind
MODEL_STATE_UNSPECIFIED: ModelState
MODEL_STATE_LOADING: ModelState
MODEL_STATE_READY: ModelState
MODEL_STATE_FAILED: ModelState
MODEL_STATE_UNLOADED: ModelState

class ListModelsRequest(_message.Message):
    __slots__ = ("page_size", "page_token", "kind")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    kind: ModelKind
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., kind: _Optional[_Union[ModelKind, str]] = ...) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("models", "next_page_token", "limits")
    MODELS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[Model]
    next_page_token: str
    limits: Limits
    def __init__(self, models: _Optional[_Iterable[_Union[Model, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ...) -> None: ...

class Model(_message.Message):
    __slots__ = ("name", "version", "kind", "state", "state_message", "architecture", "precision", "device", "input_size", "class_count", "class_labels", "layers", "default_layer", "methods", "calibration", "version_number", "limits", "pinned")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    STATE_MESSAGE_FIELD_NUMBER: _ClassVar[int]
    ARCHITECTURE_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    INPUT_SIZE_FIELD_NUMBER: _ClassVar[int]
    CLASS_COUNT_FIELD_NUMBER: _ClassVar[int]
    CLASS_LABELS_FIELD_NUMBER: _ClassVar[int]
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_LAYER_FIELD_NUMBER: _ClassVar[int]
    METHODS_FIELD_NUMBER: _ClassVar[int]
    CALIBRATION_FIELD_NUMBER: _ClassVar[int]
    VERSION_NUMBER_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    PINNED_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    kind: ModelKind
    state: ModelState
    state_message: str
    architecture: str
    precision: str
    device: str
    input_size: _containers.RepeatedScalarFieldContainer[int]
    class_count: int
    class_labels: _containers.RepeatedScalarFieldContainer[str]
    layers: _containers.RepeatedCompositeFieldContainer[Layer]
    default_layer: str
    methods: _containers.RepeatedCompositeFieldContainer[MethodSupport]
    calibration: Calibration
    version_number: int
    limits: Limits
    pinned: bool
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., kind: _Optional[_Union[ModelKind, str]] = ..., state: _Optional[_Union[ModelState, str]] = ..., state_message: _Optional[str] = ..., architecture: _Optional[str] = ..., precision: _Optional[str] = ..., device: _Optional[str] = ..., input_size: _Optional[_Iterable[int]] = ..., class_count: _Optional[int] = ..., class_labels: _Optional[_Iterable[str]] = ..., layers: _Optional[_Iterable[_Union[Layer, _Mapping]]] = ..., default_layer: _Optional[str] = ..., methods: _Optional[_Iterable[_Union[MethodSupport, _Mapping]]] = ..., calibration: _Optional[_Union[Calibration, _Mapping]] = ..., version_number: _Optional[int] = ..., limits: _Optional[_Union[Limits, _Mapping]] = ..., pinned: bool = ...) -> None: ...

class Layer(_message.Message):
    __slots__ = ("name", "kind", "shape")
    NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    name: str
    kind: str
    shape: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, name: _Optional[str] = ..., kind: _Optional[str] = ..., shape: _Optional[_Iterable[int]] = ...) -> None: ...

class MethodSupport(_message.Message):
    __slots__ = ("method", "supported", "refusal", "caveat")
    METHOD_FIELD_NUMBER: _ClassVar[int]
    SUPPORTED_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    CAVEAT_FIELD_NUMBER: _ClassVar[int]
    method: str
    supported: bool
    refusal: str
    caveat: str
    def __init__(self, method: _Optional[str] = ..., supported: bool = ..., refusal: _Optional[str] = ..., caveat: _Optional[str] = ...) -> None: ...

class Calibration(_message.Message):
    __slots__ = ("pass_rows", "points")
    PASS_ROWS_FIELD_NUMBER: _ClassVar[int]
    POINTS_FIELD_NUMBER: _ClassVar[int]
    pass_rows: int
    points: _containers.RepeatedCompositeFieldContainer[CalibrationPoint]
    def __init__(self, pass_rows: _Optional[int] = ..., points: _Optional[_Iterable[_Union[CalibrationPoint, _Mapping]]] = ...) -> None: ...

class CalibrationPoint(_message.Message):
    __slots__ = ("rows", "forward_ms", "gradient_ms")
    ROWS_FIELD_NUMBER: _ClassVar[int]
    FORWARD_MS_FIELD_NUMBER: _ClassVar[int]
    GRADIENT_MS_FIELD_NUMBER: _ClassVar[int]
    rows: int
    forward_ms: float
    gradient_ms: float
    def __init__(self, rows: _Optional[int] = ..., forward_ms: _Optional[float] = ..., gradient_ms: _Optional[float] = ...) -> None: ...

class Limits(_message.Message):
    __slots__ = ("image_bytes", "image_pixels", "methods", "targets", "objectives", "steps", "images", "stylize_side_px", "color_maps", "heatmap_bytes", "maximize_pixels", "stylizer_pixels", "rows", "layers", "previews", "decode_ms", "streams", "queue_size", "interactive_queue_ms", "iterative_queue_ms", "tenant_share_percent", "message_bytes", "queue_bytes")
    IMAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    IMAGE_PIXELS_FIELD_NUMBER: _ClassVar[int]
    METHODS_FIELD_NUMBER: _ClassVar[int]
    TARGETS_FIELD_NUMBER: _ClassVar[int]
    OBJECTIVES_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    STYLIZE_SIDE_PX_FIELD_NUMBER: _ClassVar[int]
    COLOR_MAPS_FIELD_NUMBER: _ClassVar[int]
    HEATMAP_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAXIMIZE_PIXELS_FIELD_NUMBER: _ClassVar[int]
    STYLIZER_PIXELS_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    PREVIEWS_FIELD_NUMBER: _ClassVar[int]
    DECODE_MS_FIELD_NUMBER: _ClassVar[int]
    STREAMS_FIELD_NUMBER: _ClassVar[int]
    QUEUE_SIZE_FIELD_NUMBER: _ClassVar[int]
    INTERACTIVE_QUEUE_MS_FIELD_NUMBER: _ClassVar[int]
    ITERATIVE_QUEUE_MS_FIELD_NUMBER: _ClassVar[int]
    TENANT_SHARE_PERCENT_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_BYTES_FIELD_NUMBER: _ClassVar[int]
    QUEUE_BYTES_FIELD_NUMBER: _ClassVar[int]
    image_bytes: int
    image_pixels: int
    methods: int
    targets: int
    objectives: int
    steps: int
    images: int
    stylize_side_px: int
    color_maps: _containers.RepeatedScalarFieldContainer[str]
    heatmap_bytes: int
    maximize_pixels: int
    stylizer_pixels: int
    rows: int
    layers: int
    previews: int
    decode_ms: int
    streams: int
    queue_size: int
    interactive_queue_ms: int
    iterative_queue_ms: int
    tenant_share_percent: int
    message_bytes: int
    queue_bytes: int
    def __init__(self, image_bytes: _Optional[int] = ..., image_pixels: _Optional[int] = ..., methods: _Optional[int] = ..., targets: _Optional[int] = ..., objectives: _Optional[int] = ..., steps: _Optional[int] = ..., images: _Optional[int] = ..., stylize_side_px: _Optional[int] = ..., color_maps: _Optional[_Iterable[str]] = ..., heatmap_bytes: _Optional[int] = ..., maximize_pixels: _Optional[int] = ..., stylizer_pixels: _Optional[int] = ..., rows: _Optional[int] = ..., layers: _Optional[int] = ..., previews: _Optional[int] = ..., decode_ms: _Optional[int] = ..., streams: _Optional[int] = ..., queue_size: _Optional[int] = ..., interactive_queue_ms: _Optional[int] = ..., iterative_queue_ms: _Optional[int] = ..., tenant_share_percent: _Optional[int] = ..., message_bytes: _Optional[int] = ..., queue_bytes: _Optional[int] = ...) -> None: ...
