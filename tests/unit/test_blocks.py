"""Points become bytes and come back; blocks that lie are refused."""

import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanbus.bus.codecs import CODEC_NAMES
from scanbus.bus.protocol import (
    Variable,
    block_length,
    decode_block,
    encode_block,
    pack_variable,
)
from scanbus.schemas import ChannelDescription
from scanbus.schemas.errors import PayloadError
from tests.support.descriptions import channel

TEXT = channel("s", dtype="string", max_point_bytes=40)
RAGGED = channel("r", dtype="int16", shape=(-1,), max_point_bytes=40)
DTYPES = ["bool", "float32", "float64", "complex64", "complex128"]
DTYPES += [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]


def block_of(described: ChannelDescription, points: Any, codec: str = "none") -> bytes:
    return b"".join(encode_block(described, points, codec))


@pytest.mark.parametrize("codec", CODEC_NAMES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_frames_of_every_type_come_back(dtype: str, codec: str) -> None:
    described = channel("a", dtype=dtype, shape=(4, 5))
    points = (np.arange(60).reshape(3, 4, 5) % 2).astype(described.numpy_dtype)

    block = block_of(described, points, codec)
    came = decode_block(described, memoryview(block), 3, codec)

    assert isinstance(came, np.ndarray)
    assert came.dtype == described.numpy_dtype
    np.testing.assert_array_equal(came, points)


def test_the_bytes_of_codec_none_are_little_endian_and_not_copied() -> None:
    described = channel("a", dtype="uint16")
    points = np.array([1, 256], "<u2")

    (part,) = encode_block(described, points)

    assert bytes(part) == b"\x01\x00\x00\x01"
    assert np.shares_memory(np.frombuffer(part, "u1"), points)
    assert not np.asarray(
        decode_block(described, memoryview(bytes(part)), 2)
    ).flags.writeable


@given(
    st.lists(
        st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=10)
    )
)
def test_texts_come_back(texts: list[str]) -> None:
    variable = pack_variable(TEXT, texts)
    parts = encode_block(TEXT, variable)
    block = b"".join(parts)

    came = decode_block(TEXT, memoryview(block), len(texts))

    assert block_length(parts) == len(block)
    assert isinstance(came, Variable)
    assert came.texts() == texts
    assert len(came) == len(texts)


@given(st.lists(st.lists(st.integers(-(2**15), 2**15 - 1), max_size=20)))
def test_series_of_differing_length_come_back(points: list[list[int]]) -> None:
    block = block_of(RAGGED, pack_variable(RAGGED, points))

    came = decode_block(RAGGED, memoryview(block), len(points))

    assert isinstance(came, Variable)
    assert [part.tolist() for part in came.split()] == points


def test_lengths_count_values_not_bytes() -> None:
    block = block_of(RAGGED, pack_variable(RAGGED, [[1, 2, 3], []]))
    assert block == struct.pack("<2I3h", 3, 0, 1, 2, 3)
    assert block_of(TEXT, pack_variable(TEXT, ["é"])) == struct.pack(
        "<I2s", 2, b"\xc3\xa9"
    )


@pytest.mark.parametrize(
    ("described", "points", "reason"),
    [
        (TEXT, ["x" * 41], "41 bytes, declared at most 40"),
        (TEXT, ["é" * 21], "42 bytes"),
        (TEXT, ["a\0b"], "NUL"),
        (TEXT, [b"bytes"], "bytes instead of text"),
        (TEXT, ["\ud800"], "surrogates"),
        (RAGGED, [[0] * 21], "42 bytes"),
        (RAGGED, [[[1]]], "one-dimensional"),
        (RAGGED, [5], "one-dimensional"),
    ],
)
def test_points_that_do_not_fit_their_channel_are_refused(
    described: ChannelDescription, points: list[Any], reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        pack_variable(described, points)


def test_points_of_another_type_or_shape_are_not_sent() -> None:
    described = channel("a", dtype="uint16", shape=(2,))
    for points in (
        np.zeros((1, 2), "i2"),
        np.zeros((1, 2), ">u2"),
        np.zeros((1, 3), "u2"),
    ):
        with pytest.raises(ValueError, match="a: "):
            encode_block(described, points)
    with pytest.raises(ValueError, match="int64 instead of int16"):
        encode_block(RAGGED, Variable(np.array([1], "<u4"), np.array([1])))


@pytest.mark.parametrize(
    ("described", "block", "count", "reason"),
    [
        (TEXT, b"", 1, "ends within its lengths"),
        (TEXT, b"\0\0\0", 1, "ends within its lengths"),
        (TEXT, b"\0\0\0\0", 2**40, "ends within its lengths"),
        (TEXT, struct.pack("<I", 5) + b"four", 1, "do not fit"),
        (TEXT, struct.pack("<I", 3) + b"four", 1, "do not fit"),
        (TEXT, struct.pack("<2I", 2**32 - 1, 5) + b"four", 2, "do not fit"),
        (TEXT, struct.pack("<I", 41) + b"x" * 41, 1, "declared at most 40"),
        (TEXT, struct.pack("<I", 1) + b"\xff", 1, "not UTF-8"),
        (TEXT, struct.pack("<I", 3) + b"\xed\xa0\x80", 1, "not UTF-8"),
        (TEXT, struct.pack("<2I", 1, 1) + "é".encode(), 2, "not UTF-8"),
        (TEXT, struct.pack("<I", 1) + b"\0", 1, "NUL"),
        (RAGGED, struct.pack("<I", 1) + b"odd", 1, "do not fit"),
        (RAGGED, struct.pack("<I", 21) + bytes(42), 1, "declared at most 40"),
        (channel("b", dtype="bool"), b"\x02", 1, "neither 0 nor 1"),
        (channel("f"), b"7 bytes", 1, "expected 8 bytes"),
    ],
)
def test_a_block_that_lies_is_refused(
    described: ChannelDescription, block: bytes, count: int, reason: str
) -> None:
    with pytest.raises(PayloadError, match=reason):
        decode_block(described, memoryview(block), count)


@given(st.binary(max_size=60), st.integers(1, 20), st.sampled_from([TEXT, RAGGED]))
def test_any_bytes_are_points_or_a_payload_error(
    block: bytes, count: int, described: ChannelDescription
) -> None:
    try:
        came = decode_block(described, memoryview(block), count)
    except PayloadError:
        return
    assert isinstance(came, Variable)
    assert len(came.split()) == count
