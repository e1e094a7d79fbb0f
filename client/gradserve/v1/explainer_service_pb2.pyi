from gradserve.v1 import explain_pb2 as _explain_pb2
from gradserve.v1 import maximize_pb2 as _maximize_pb2
from gradserve.v1 import model_pb2 as _model_pb2
from gradserve.v1 import stylize_pb2 as _stylize_pb2
from google.protobuf import descriptor as _descriptor
from typing import ClassVar as _ClassVar

DESCRIPTOR: _descriptor.FileDescriptor
