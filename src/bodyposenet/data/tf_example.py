"""`tf.train.Example` messages: features in, bytes out, and back.

    Example { Features features = 1 }     Features { map<string, Feature> feature = 1 }
    Feature { oneof: BytesList = 1 | FloatList = 2 | Int64List = 3 }, each { repeated value = 1 }

The messages are described here, so that no compiled .proto file is needed; they live in a pool of
their own, because TensorFlow and others bring the same names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

_PACKAGE = "tensorflow"

_KINDS = {
    "bytes_list": ("BytesList", FieldDescriptorProto.TYPE_BYTES),
    "float_list": ("FloatList", FieldDescriptorProto.TYPE_FLOAT),
    "int64_list": ("Int64List", FieldDescriptorProto.TYPE_INT64),
}
"""Kinds of features in the order of their numbers: the message and the type of its values."""


class Features:
    """The features of an Example, whoever wrote it.

    Args:
        message: A serialized Example.

    Raises:
        ValueError: The bytes are no Example.
    """

    def __init__(self, message: bytes) -> None:
        try:
            self._features = _Example.FromString(message).features.feature
        except DecodeError as error:
            raise ValueError("not a tf.train.Example") from error

    def __contains__(self, name: str) -> bool:
        return name in self._features

    def content(self, name: str) -> bytes:
        """The first value of a feature of bytes.

        Raises:
            ValueError: There is no such feature, or it holds no bytes.
        """
        # A name that is not there gives an empty feature: quicker than to look twice.
        values = self._features[name].bytes_list.value
        if not values:
            raise ValueError(f"it has no bytes feature {name}")
        return values[0]

    def integer(self, name: str) -> int:
        """The first value of a feature of integers.

        Raises:
            ValueError: There is no such feature, or it holds no integers.
        """
        values = self._features[name].int64_list.value
        if not values:
            raise ValueError(f"it has no integer feature {name}")
        return values[0]


def encode_example(features: Mapping[str, bytes | int]) -> bytes:
    """Encode features of one value each, in the order of their names.

    Args:
        features: Name -> bytes, or an integer of 64 bits with sign. No name begins with another:
            protocol buffers have no one order for these.
    """
    example = _Example()
    for name, value in features.items():
        feature = example.features.feature[name]
        kind = feature.bytes_list if isinstance(value, bytes) else feature.int64_list
        kind.value.append(value)
    return example.SerializeToString(deterministic=True)


def _describe_messages() -> FileDescriptorProto:
    """What TensorFlow's example.proto and feature.proto say."""
    file = FileDescriptorProto(name="example.proto", package=_PACKAGE, syntax="proto3")
    feature = file.message_type.add(name="Feature")
    feature.oneof_decl.add(name="kind")
    for number, (kind, (message, type_of_value)) in enumerate(_KINDS.items(), 1):
        _add_field(file.message_type.add(name=message), "value", 1, type_of_value, repeated=True)
        _add_field(feature, kind, number, message).oneof_index = 0
    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    _add_field(entry, "key", 1, FieldDescriptorProto.TYPE_STRING)
    _add_field(entry, "value", 2, "Feature")
    _add_field(features, "feature", 1, "Features.FeatureEntry", repeated=True)
    _add_field(file.message_type.add(name="Example"), "features", 1, "Features")
    return file


def _add_field(
    message: Any, name: str, number: int, kind: str | int, *, repeated: bool = False
) -> FieldDescriptorProto:
    """Describe a field: `kind` is the name of a message, or a type of protocol buffers."""
    label = "REPEATED" if repeated else "OPTIONAL"
    field = message.field.add(name=name, number=number, label=f"LABEL_{label}")
    if isinstance(kind, str):
        field.type, field.type_name = FieldDescriptorProto.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
    else:
        field.type = kind
    return field


def _example_class() -> Any:
    pool = DescriptorPool()
    pool.AddSerializedFile(_describe_messages().SerializeToString())
    return GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.Example"))


_Example = _example_class()
