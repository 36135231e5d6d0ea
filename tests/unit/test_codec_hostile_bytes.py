"""Bytes that lie, are cut or swell are refused before they do harm."""

from __future__ import annotations

import struct
import tracemalloc
import zlib

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from scanbus.bus.codecs import Codec, find_codec
from scanbus.schemas.errors import PayloadError
from tests.support.codec_cases import (
    BACKENDS,
    CASES,
    SAMPLE,
    counts,
    decode_sample,
    needs_blosc2,
    needs_package,
)


@pytest.fixture(params=CASES, scope="session")
def each(request: pytest.FixtureRequest) -> Codec:
    """Every codec that can be had here."""
    return CASES[request.param]()


@given(data=st.data())
def test_cut_bytes_are_refused(each: Codec, data: st.DataObject) -> None:
    payload = bytes(each.encode(SAMPLE))
    length = data.draw(st.integers(0, len(payload) - 1))
    with pytest.raises(PayloadError):
        decode_sample(each, payload[:length])


@given(more=st.binary(min_size=1, max_size=20))
def test_bytes_behind_the_end_are_refused(each: Codec, more: bytes) -> None:
    with pytest.raises(PayloadError):
        decode_sample(each, bytes(each.encode(SAMPLE)) + more)


@given(payload=st.binary(max_size=200))
def test_noise_is_refused(each: Codec, payload: bytes) -> None:
    with pytest.raises(PayloadError):
        decode_sample(each, payload)


@pytest.mark.parametrize("shape", [(2, 60, 70), (2, 60, 72), (1,)], ids=str)
def test_bytes_of_another_shape_are_refused(
    each: Codec, shape: tuple[int, ...]
) -> None:
    with pytest.raises(PayloadError):
        each.decode(each.encode(SAMPLE), "u2", shape)


def size_table(block_bytes: int, *sizes: int, total: int = SAMPLE.nbytes) -> bytes:
    """Return a frame whose blocks are noise of the declared sizes."""
    blocks = (struct.pack(">I", size) + bytes(min(size, 100)) for size in sizes)
    return struct.pack(">QI", total, block_bytes) + b"".join(blocks)


@pytest.mark.parametrize("name", ["lz4", "bitshuffle-lz4", "bitshuffle-zstd"])
@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (b"\0" * 11, "11 bytes, the header alone has 12"),
        (
            size_table(8192, total=2**62),
            f"expected {SAMPLE.nbytes} bytes, the header declares 4611686018",
        ),
        (size_table(0, 100), "blocks of 0 bytes"),
        (size_table(8192), "truncated before block 0 of 3"),
        (size_table(8192, 100), "truncated before block 1 of 3"),
        (size_table(8192, 100, 2**31), "block 1 of 3 is truncated: 2147483648 bytes"),
        (
            size_table(8192, 100, 2**32 - 1),
            "block 1 of 3 is truncated: 4294967295 bytes",
        ),
        (size_table(8192, 100, 100, 100, 100), "104 bytes follow the last of 3"),
        (size_table(8192, 100, 100, 100), "damaged|failed|unpacks to"),
        (size_table(8192, 0, 0, 0), "damaged|failed|unpacks to"),
    ],
)
def test_a_hostile_table_of_blocks_is_named(
    name: str, payload: bytes, message: str
) -> None:
    with pytest.raises(PayloadError, match=message):
        decode_sample(find_codec(name), payload)


@pytest.mark.parametrize("package", BACKENDS)
@pytest.mark.parametrize("block_bytes", [2, 24, 8200 * 2 + 2])
def test_bitshuffle_refuses_blocks_that_are_not_groups_of_eight(
    package: str, block_bytes: int
) -> None:
    each = needs_package(package, "lz4")
    with pytest.raises(PayloadError, match="whole groups of 8 items"):
        decode_sample(each, size_table(block_bytes, 100))


@pytest.mark.parametrize("package", BACKENDS)
@pytest.mark.parametrize("block_bytes", [0x4000, 0xFFFF_FFF0])
def test_a_block_declared_larger_than_the_array_is_one_block(
    package: str, block_bytes: int
) -> None:
    each = needs_package(package, "lz4")
    array = counts((1001,), "u2")  # One block of 1000 items and one raw item.
    payload = bytearray(each.encode(array))
    payload[8:12] = struct.pack(">I", block_bytes)
    np.testing.assert_array_equal(each.decode(bytes(payload), "u2", (1001,)), array)


@pytest.mark.parametrize("package", BACKENDS)
def test_the_c_code_does_not_read_beyond_a_block(package: str) -> None:
    """A block that is one byte short is refused at its end, not read over it.

    The codes differ: a library that calls LZ4_decompress_fast reads the byte behind
    the block, unpacks well, and complains (-91) only afterwards about the sizes.
    """
    each = needs_package(package, "lz4")
    payload = bytearray(each.encode(counts((1000,), "u2")))
    (size,) = struct.unpack_from(">I", payload, 12)
    payload[12:16] = struct.pack(">I", size - 1)
    with pytest.raises(PayloadError, match=r"-[12]\d\d\d\b"):
        each.decode(bytes(payload[:-1]), "u2", (1000,))


def test_a_zlib_bomb_is_not_inflated() -> None:
    bomb = zlib.compress(bytes(10**8))
    tracemalloc.start()
    try:
        with pytest.raises(PayloadError, match="not one whole zlib stream"):
            decode_sample(find_codec("gzip-shuffle"), bomb)
        assert tracemalloc.get_traced_memory()[1] < 10 * SAMPLE.nbytes + 10**6
    finally:
        tracemalloc.stop()


def test_a_zstd_frame_that_declares_another_size_is_refused() -> None:
    frame = zstandard.ZstdCompressor().compress(bytes(10**6))
    with pytest.raises(PayloadError, match="the frame declares 1000000"):
        decode_sample(find_codec("zstd"), frame)


def test_a_zstd_frame_without_size_is_refused() -> None:
    writer = zstandard.ZstdCompressor(write_content_size=False)
    with pytest.raises(PayloadError, match="expected"):
        decode_sample(find_codec("zstd"), writer.compress(SAMPLE.tobytes()))


@pytest.mark.parametrize(
    ("at", "value", "message"),
    [
        (2, 0, "not a frame"),
        (20, 1, "in a payload of"),
        (31, 1, "expected one chunk"),
        (58, 1, "expected one chunk"),
        (27, 0x56, "codec that is not built in"),
        (73, 35, "filter that is not allowed"),
    ],
)
def test_a_blosc2_frame_may_only_say_what_is_known(
    at: int, value: int, message: str
) -> None:
    payload = bytearray(needs_blosc2().encode(SAMPLE))
    payload[at] = value
    with pytest.raises(PayloadError, match=message):
        decode_sample(find_codec("blosc2"), bytes(payload))


@pytest.mark.parametrize(
    ("at", "value", "message"),
    [
        (4, 1, "expected"),
        (2, 0xD5, "codec that is not built in"),
        (16, 35, "filter that is not allowed"),
        (31, 0x40, "kind that is not allowed"),
        (31, 0x01, "kind that is not allowed"),
    ],
)
def test_a_blosc2_chunk_may_only_say_what_is_known(
    at: int, value: int, message: str
) -> None:
    payload = bytearray(needs_blosc2().encode(SAMPLE))
    chunk_at = int.from_bytes(payload[11:15], "big")  # It follows the frame's header.
    payload[chunk_at + at] = value
    with pytest.raises(PayloadError, match=message):
        decode_sample(find_codec("blosc2"), bytes(payload))
