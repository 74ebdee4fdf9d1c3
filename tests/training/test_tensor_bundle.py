import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from training.errors import EvaluationError
from training.evaluation import tensor_bundle
from training.evaluation.tensor_bundle import read_tensor_bundle

Tensors = dict[str, NDArray[Any]]
NUMBERS = {np.dtype(text): number for number, text in tensor_bundle.DTYPES.items()}


def varint(number: int) -> bytes:
    groups = []
    while number >= 0x80:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*groups, number])


def field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def block(entries: list[tuple[bytes, bytes]], compression: int = 0) -> bytes:
    """A LevelDB block with its trailer; every key shares with the one before what it can."""
    body, before = b"", b""
    for key, value in entries:
        shared = 0
        while shared < min(len(key), len(before)) and key[shared] == before[shared]:
            shared += 1
        body += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        before = key
    body += struct.pack("<II", 0, 1) + bytes([compression])  # one restart, at 0
    return body + struct.pack("<I", tensor_bundle._masked(tensor_bundle._crc32c(body)))


def bundle(tensors: Tensors, header: bytes = field(1, 1), blocks: int = 2, compression: int = 0) -> tuple[bytes, bytes]:
    """What TensorFlow would write, in so many blocks."""
    entries, data = [(b"", header)], b""
    for name in sorted(tensors, key=str.encode):
        tensor = tensors[name]
        shape = b"".join(field(2, field(1, size)) for size in tensor.shape)
        entry = field(1, NUMBERS[tensor.dtype]) + field(2, shape) + field(4, len(data)) + field(5, tensor.nbytes)
        entries.append((name.encode(), entry + varint(6 << 3 | 5) + bytes(4)))
        data += tensor.tobytes()
    index, handles = b"", []
    share = -(-len(entries) // blocks)
    for first in range(0, len(entries), share):
        written = block(entries[first : first + share], compression)
        handles.append((entries[first : first + share][-1][0] + b"\xff", varint(len(index)) + varint(len(written) - 5)))
        index += written
    meta, listed = block([]), block(handles)
    footer = varint(len(index)) + varint(len(meta) - 5) + varint(len(index) + len(meta)) + varint(len(listed) - 5)
    return index + meta + listed + footer.ljust(40, b"\0") + struct.pack("<Q", tensor_bundle.MAGIC), data


SOME: Tensors = {
    "conv2d/bias": np.arange(3, dtype="<f4"),
    "conv2d/kernel": np.arange(24, dtype="<f4").reshape(2, 3, 4),
    "conv2d_1/bias": np.array([-1.5, 2.5], "<f8"),
    "global_step": np.array(7, "<i8"),
}

names = st.text("abc/_1ü", min_size=1, max_size=12)
shapes = st.lists(st.integers(0, 4), max_size=3).map(tuple)
bundles = st.dictionaries(names, st.tuples(shapes, st.sampled_from(sorted(NUMBERS, key=str))), min_size=1, max_size=8)


def same(one: Tensors, other: Tensors) -> bool:
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and np.array_equal(one[name], other[name]) for name in one
    )


@settings(max_examples=50)
@given(bundles, st.integers(1, 4))
def test_what_was_written_is_read(drawn: dict[str, tuple[tuple[int, ...], np.dtype[Any]]], blocks: int) -> None:
    tensors = {
        name: np.arange(np.prod(shape, dtype=int)).astype(dtype).reshape(shape)
        for name, (shape, dtype) in drawn.items()
    }
    assert same(read_tensor_bundle(*bundle(tensors, blocks=blocks)), tensors)


def test_the_checksum_is_crc_32c() -> None:
    assert tensor_bundle._crc32c(b"123456789") == 0xE3069283  # the check value of the catalogues
    assert tensor_bundle._crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720, B.4


@settings(max_examples=50)
@given(st.data())
def test_a_damaged_index_is_refused_or_read_aright(data: st.DataObject) -> None:
    """One byte is another: an error that says so, unless the byte (padding of the footer, say) means nothing."""
    index, content = bundle(SOME)
    at = data.draw(st.integers(0, len(index) - 1))
    damaged = bytearray(index)
    damaged[at] ^= data.draw(st.integers(1, 255))
    try:
        read = read_tensor_bundle(bytes(damaged), content)
    except EvaluationError:
        return
    assert same(read, SOME)


@pytest.mark.parametrize("length", range(0, len(bundle(SOME)[0]), 7))
def test_an_index_cut_short_is_refused(length: int) -> None:
    index, content = bundle(SOME)
    with pytest.raises(EvaluationError):
        read_tensor_bundle(index[:length], content)


def test_data_cut_short_is_refused_by_name() -> None:
    index, content = bundle(SOME)
    with pytest.raises(EvaluationError, match="global_step in the checkpoint reaches beyond its data"):
        read_tensor_bundle(index, content[:-1])


@pytest.mark.parametrize(
    ("written", "complaint"),
    [
        (bundle(SOME, header=field(1, 2)), "not in one little-endian shard"),
        (bundle(SOME, header=field(1, 1) + field(2, 1)), "not in one little-endian shard"),
        (bundle(SOME, header=field(1, b"")), "bytes where a number is due"),
        (bundle(SOME, compression=1), "compressed"),
    ],
)
def test_what_is_not_supported_is_said(written: tuple[bytes, bytes], complaint: str) -> None:
    with pytest.raises(EvaluationError, match=complaint):
        read_tensor_bundle(*written)
