"""TFRecord files and the tf.train.Example in each record, read without TensorFlow.

A record is its length (8 bytes), a checksum of that (4), its bytes, and a checksum of those (4), little-endian:
https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details. The messages are those of
tensorflow/core/example/feature.proto; the map of features is read as what it is on the wire, pairs of key and value.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import google_crc32c
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from google.protobuf.message import DecodeError

_HEADER, _CHECKSUM = 12, 4  # bytes before and after the bytes of a record

_SCHEMA = """
name: "example.proto"
syntax: "proto3"
message_type { name: "BytesList" field { name: "value" number: 1 label: LABEL_REPEATED type: TYPE_BYTES } }
message_type { name: "FloatList" field { name: "value" number: 1 label: LABEL_REPEATED type: TYPE_FLOAT } }
message_type { name: "Int64List" field { name: "value" number: 1 label: LABEL_REPEATED type: TYPE_INT64 } }
message_type {
  name: "Feature"
  field { name: "bytes_list" number: 1 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: "BytesList" }
  field { name: "float_list" number: 2 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: "FloatList" }
  field { name: "int64_list" number: 3 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: "Int64List" }
}
message_type {
  name: "Entry"
  field { name: "key" number: 1 label: LABEL_OPTIONAL type: TYPE_STRING }
  field { name: "value" number: 2 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: "Feature" }
}
message_type {
  name: "Features"
  field { name: "feature" number: 1 label: LABEL_REPEATED type: TYPE_MESSAGE type_name: "Entry" }
}
message_type {
  name: "Example"
  field { name: "features" number: 1 label: LABEL_OPTIONAL type: TYPE_MESSAGE type_name: "Features" }
}
"""


def find_records(path: Path) -> Iterator[tuple[int, int]]:
    """Yield where each record begins and how many bytes it holds, found by reading lengths only.

    Raises:
        ValueError: The file is damaged or ends within a record; the records before have been given by then.
    """
    size, offset, number = path.stat().st_size, 0, 0
    with path.open("rb", buffering=0) as file:
        while offset < size:
            file.seek(offset)
            header = file.read(_HEADER)
            length = _length(header) if len(header) == _HEADER else 0
            end = offset + _HEADER + length + _CHECKSUM
            if end > size:
                raise ValueError(f"it ends within record {number}, after {size} of at least {end} bytes")
            yield offset, length
            offset, number = end, number + 1


def read_record(path: Path, offset: int) -> dict[str, Any]:
    """Return features of the record that begins at an offset, by name; each has a bytes_list, float_list or int64_list.

    Raises:
        ValueError: It is damaged, or not a tf.train.Example.
    """
    with path.open("rb") as file:
        file.seek(offset)
        length = _length(file.read(_HEADER))
        data, checksum = file.read(length), file.read(_CHECKSUM)
    if struct.pack("<I", _masked(data)) != checksum:
        raise ValueError(f"the record at byte {offset} has changed since it was written (wrong checksum)")
    try:
        return {entry.key: entry.value for entry in _Example.FromString(data).features.feature}
    except DecodeError as error:
        raise ValueError(f"the record at byte {offset} is not a tf.train.Example ({error})") from error


def _length(header: bytes) -> int:
    length: int
    length, checksum = struct.unpack("<QI", header)
    if _masked(header[:8]) != checksum:
        raise ValueError(
            "a length is damaged (wrong checksum), so that no later record can be found, or it is not a TFRecord file"
        )
    return length


def _masked(data: bytes) -> int:
    """Return the CRC-32C, turned and shifted so that those of data with checksums in it stay good (tsl/lib/hash/crc32c.h)."""
    checksum: int = google_crc32c.value(data)
    return ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _example_class() -> Any:
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(text_format.Parse(_SCHEMA, descriptor_pb2.FileDescriptorProto()).SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("Example"))


_Example = _example_class()
