"""Reads a TensorFlow 2 checkpoint without TensorFlow.

Such a checkpoint, a "tensor bundle", is two files. The data file holds the tensors' bytes one after the other. The
index is a table in LevelDB's format (its doc/table_format.md): blocks of sorted, prefix-compressed entries from a
tensor's name to a ``BundleEntryProto`` (TensorFlow's core/protobuf/tensor_bundle.proto), a block that lists those
blocks, and a footer that says where that list is.

Each block of the index carries a checksum, which is verified. Those of the tensors are not: they would cost seconds in
Python, and who reads a checkpoint that he has pinned compares the hash of the whole file anyway.
"""

import math
import struct
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from training.errors import EvaluationError

MAGIC: Final = 0xDB4775248B80FB57  #: the last eight bytes of a LevelDB table
FOOTER_BYTES: Final = 48
TRAILER_BYTES: Final = 5  #: after each block: how it is compressed, and its checksum
HEADER_KEY: Final = b""  #: its value is not a tensor's entry, it describes the bundle
DTYPES: Final = {1: "<f4", 2: "<f8", 3: "<i4", 9: "<i8"}  #: numbers as in TensorFlow's types.proto

Message = dict[int, list[int | bytes]]


def read_tensor_bundle(index: bytes, data: bytes) -> dict[str, NDArray[Any]]:
    """The tensors of a checkpoint, by name, as views into ``data``.

    Args:
        index: the content of the ``.index`` file.
        data: the content of the one ``.data-00000-of-00001`` file.

    Raises:
        EvaluationError: a file is damaged, or uses what is not supported (several shards, compression, sliced tensors).
    """
    try:
        entries = dict(_entries(index))
        header = _message(entries.pop(HEADER_KEY, b"\x08\x00"))
        if _number(header, 1) != 1 or _number(header, 2) != 0:
            raise EvaluationError("the checkpoint is not in one little-endian shard")
        return {name.decode(): _tensor(name.decode(), _message(entry), data) for name, entry in entries.items()}
    except (IndexError, UnicodeDecodeError, struct.error) as error:
        raise EvaluationError(f"the checkpoint's index is damaged ({error})") from error


def _entries(table: bytes) -> Iterator[tuple[bytes, bytes]]:
    """All entries of a LevelDB table, in order."""
    footer = table[-FOOTER_BYTES:]
    if len(footer) < FOOTER_BYTES or int.from_bytes(footer[-8:], "little") != MAGIC:
        raise EvaluationError("the checkpoint's index is cut short, or is none")
    _, at = _handle(footer, 0)  # of the meta-index, which is empty in a checkpoint
    handle, _ = _handle(footer, at)
    keys = [b""]
    for _, place in _block(table, handle):
        for key, value in _block(table, _handle(place, 0)[0]):
            keys.append(key)
            yield key, value
    if not all(before < after for before, after in pairwise(keys[1:])):
        raise EvaluationError("the checkpoint's index is out of order")


def _block(table: bytes, handle: tuple[int, int]) -> Iterator[tuple[bytes, bytes]]:
    """The entries of one block. Each names only the end of its key that differs from the key before."""
    start, size = handle
    trailer = table[start + size : start + size + TRAILER_BYTES]
    if len(trailer) < TRAILER_BYTES:
        raise EvaluationError("the checkpoint's index is cut short")
    block = table[start : start + size]
    compression, checksum = struct.unpack("<BI", trailer)
    if checksum != _masked(_crc32c(block + trailer[:1])):
        raise EvaluationError("the checkpoint's index is damaged (its checksum is another)")
    if compression != 0:
        raise EvaluationError("the checkpoint's index is compressed")
    (restarts,) = struct.unpack_from("<I", block, size - 4)
    at, end, key = 0, size - 4 * (restarts + 1), b""
    while at < end:
        shared, at = _varint(block, at)
        fresh, at = _varint(block, at)
        length, at = _varint(block, at)
        key = key[:shared] + block[at : at + fresh]
        yield key, block[at + fresh : at + fresh + length]
        at += fresh + length


def _tensor(name: str, entry: Message, data: bytes) -> NDArray[Any]:
    dtype = DTYPES.get(_number(entry, 1))
    if dtype is None or 7 in entry:
        raise EvaluationError(f"{name} in the checkpoint is sliced, or of a type that is not supported")
    shape = tuple(
        _number(_message(size), 1) for size in _message(_bytes(entry, 2)).get(2, ()) if isinstance(size, bytes)
    )
    offset, size, count = _number(entry, 4), _number(entry, 5), math.prod(shape)
    if size != count * np.dtype(dtype).itemsize or offset + size > len(data):
        raise EvaluationError(f"{name} in the checkpoint reaches beyond its data, or is of another size than its shape")
    return np.frombuffer(data, dtype, count, offset).reshape(shape)


def _handle(buffer: bytes, at: int) -> tuple[tuple[int, int], int]:
    """Where a block is (its start and size), and where the handle ends."""
    start, at = _varint(buffer, at)
    size, at = _varint(buffer, at)
    return (start, size), at


def _varint(buffer: bytes, at: int) -> tuple[int, int]:
    """A number in groups of seven bits, the low ones first, and where it ends."""
    number = shift = 0
    while True:
        byte = buffer[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7


def _message(buffer: bytes) -> Message:
    """The fields of a Protocol Buffers message, by number."""
    fields: Message = {}
    at = 0
    while at < len(buffer):
        tag, at = _varint(buffer, at)
        value: int | bytes
        match tag & 7:
            case 0:  # a number
                value, at = _varint(buffer, at)
            case 2:  # bytes, a text or a message
                size, at = _varint(buffer, at)
                value, at = buffer[at : at + size], at + size
            case 5:  # four bytes
                (value,) = struct.unpack_from("<I", buffer, at)
                at += 4
            case kind:
                raise EvaluationError(f"the checkpoint's index is damaged (a field of kind {kind})")
        fields.setdefault(tag >> 3, []).append(value)
    return fields


def _number(message: Message, field: int) -> int:
    """A field's number; one that was left out is 0."""
    value = message.get(field, [0])[-1]
    if not isinstance(value, int):
        raise EvaluationError("the checkpoint's index is damaged (bytes where a number is due)")
    return value


def _bytes(message: Message, field: int) -> bytes:
    value = message.get(field, [b""])[-1]
    if not isinstance(value, bytes):
        raise EvaluationError("the checkpoint's index is damaged (a number where bytes are due)")
    return value


def _crc32c(buffer: bytes) -> int:
    """CRC-32C (Castagnoli), bit by bit reversed; RFC 3720, appendix B.4."""
    crc = 0xFFFFFFFF
    for byte in buffer:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def _masked(crc: int) -> int:
    """As LevelDB stores a checksum, so that the checksum of a checksum is no special case."""
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
