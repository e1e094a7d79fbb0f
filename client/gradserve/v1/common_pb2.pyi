import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ActivationRule(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ACTIVATION_RULE_UNSPECIFIED: _ClassVar[ActivationRule]
    ACTIVATION_RULE_STANDARD: _ClassVar[ActivationRule]
    ACTIVATION_RULE_DECONVNET: _ClassVar[ActivationRule]
    ACTIVATION_RULE_GUIDED: _ClassVar[ActivationRule]
ACTIVATION_RULE_UNSPECIFIED: ActivationRule
ACTIVATION_RULE_STANDARD: ActivationRule
ACTIVATION_RULE_DECONVNET: ActivationRule
ACTIVATION_RULE_GUIDED: ActivationRule

class ClassScore(_message.Message):
    __slots__ = ("class_index", "class_label", "probability", "logit")
    CLASS_INDEX_FIELD_NUMBER: _ClassVar[int]
    CLASS_LABEL_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    LOGIT_FIELD_NUMBER: _ClassVar[int]
    class_index: int
    class_label: str
    probability: float
    logit: float
    def __init__(self, class_index: _Optional[int] = ..., class_label: _Optional[str] = ..., probability: _Optional[float] = ..., logit: _Optional[float] = ...) -> None: ...

class Metadata(_message.Message):
    __slots__ = ("model", "model_version", "device", "precision", "seed", "queue_duration", "compute_duration", "pass_count", "mean_pass_rows", "mean_pass_programs", "cached")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    QUEUE_DURATION_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_DURATION_FIELD_NUMBER: _ClassVar[int]
    PASS_COUNT_FIELD_NUMBER: _ClassVar[int]
    MEAN_PASS_ROWS_FIELD_NUMBER: _ClassVar[int]
    MEAN_PASS_PROGRAMS_FIELD_NUMBER: _ClassVar[int]
    CACHED_FIELD_NUMBER: _ClassVar[int]
    model: str
    model_version: str
    device: str
    precision: str
    seed: int
    queue_duration: _duration_pb2.Duration
    compute_duration: _duration_pb2.Duration
    pass_count: int
    mean_pass_rows: float
    mean_pass_programs: float
    cached: bool
    def __init__(self, model: _Optional[str] = ..., model_version: _Optional[str] = ..., device: _Optional[str] = ..., precision: _Optional[str] = ..., seed: _Optional[int] = ..., queue_duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., compute_duration: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., pass_count: _Optional[int] = ..., mean_pass_rows: _Optional[float] = ..., mean_pass_programs: _Optional[float] = ..., cached: bool = ...) -> None: ...
