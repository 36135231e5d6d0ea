"""Codecs: what is decoded is what was encoded, and wrong arguments are refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from scanbus.bus.codecs import CODEC_NAMES, DEFAULT_CODEC, Codec, find_codec
from scanbus.bus.codecs.bitshuffle import BitshuffleScheme
from scanbus.bus.codecs.bitshuffle_backends import Backend
from scanbus.bus.codecs.codec import MAX_CHUNK_BYTES
from scanbus.schemas.errors import PayloadError, UnknownCodecError
from tests.support.codec_cases import (
    BACKENDS,
    CASES,
    DTYPES,
    Array,
    counts,
    through_backend,
)


@pytest.fixture(params=CASES, scope="session")
def each(request: pytest.FixtureRequest) -> Codec:
    """Every codec that can be had here."""
    return CASES[request.param]()


any_array = hnp.arrays(
    dtype=st.sampled_from([*DTYPES, ">u2", "S3", "M8[s]", "?"]),
    shape=hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=40),
    elements={"allow_nan": False},
)


@given(array=any_array, into=st.booleans())
def test_what_is_decoded_is_what_was_encoded(
    each: Codec, array: Array, into: bool
) -> None:
    out = np.empty_like(array, order="C") if into else None

    decoded = each.decode(each.encode(array), array.dtype, array.shape, out=out)

    assert decoded.dtype == array.dtype
    assert decoded.shape == array.shape
    assert decoded.tobytes() == array.tobytes()


def test_none_does_not_copy() -> None:
    array = counts((3, 4), "u2")
    payload = find_codec("none").encode(array)
    assert np.shares_memory(np.frombuffer(payload, "u1"), array)
    assert np.shares_memory(find_codec("none").decode(payload, "u2", (3, 4)), array)


def test_a_read_only_array_can_be_encoded(each: Codec) -> None:
    array = counts((3, 100), "u2")
    array.flags.writeable = False
    payload = memoryview(each.encode(array))
    np.testing.assert_array_equal(each.decode(payload, "u2", (3, 100)), array)


def test_an_empty_array_is_no_bytes(each: Codec) -> None:
    assert len(each.encode(np.empty((0, 5), "u2"))) == 0
    assert each.decode(b"", "u2", (0, 5)).shape == (0, 5)
    with pytest.raises(PayloadError, match="1 bytes cannot be an array of 0"):
        each.decode(b"x", "u2", (0, 5))


def test_both_backends_make_the_same_bytes() -> None:
    pytest.importorskip("bitshuffle")
    array = counts((1, 333, 334), "u2")
    first, second = (through_backend(package, "lz4") for package in BACKENDS)
    assert first.encode(array) == second.encode(array)


# ------------------------------------------------------------- wrong arguments


def test_an_array_that_is_not_contiguous_is_refused(each: Codec) -> None:
    with pytest.raises(ValueError, match="not C-contiguous"):
        each.encode(counts((4, 6), "u2").T)


def test_a_dtype_with_objects_is_refused(each: Codec) -> None:
    with pytest.raises(ValueError, match="no fixed number of bytes"):
        each.encode(np.array([None]))
    with pytest.raises(ValueError, match="no fixed number of bytes"):
        each.filters("S0", (3,))


def test_an_impossible_shape_is_refused_before_anything_is_allocated(
    each: Codec,
) -> None:
    with pytest.raises(ValueError, match="a chunk holds"):
        each.decode(b"", "u1", (MAX_CHUNK_BYTES + 1,))
    with pytest.raises(ValueError, match="negative"):
        each.decode(b"", "u1", (-1,))


def test_out_must_fit(each: Codec) -> None:
    payload = each.encode(counts((4, 6), "u2"))
    with pytest.raises(ValueError, match="expected"):
        each.decode(payload, "u2", (4, 6), out=np.empty((6, 4), "u2"))
    with pytest.raises(ValueError, match="expected"):
        each.decode(payload, "u2", (4, 6), out=np.empty((4, 6), "i2"))
    with pytest.raises(ValueError, match="writable"):
        each.decode(payload, "u2", (4, 6), out=np.empty((6, 4), "u2").T)


def test_an_unknown_codec_is_named_with_those_that_are_known() -> None:
    with pytest.raises(UnknownCodecError, match=r"'zip'.*bitshuffle-lz4"):
        find_codec("zip")


def test_every_name_has_its_codec() -> None:
    assert [find_codec(name).name for name in CODEC_NAMES] == list(CODEC_NAMES)
    assert DEFAULT_CODEC in CODEC_NAMES


def test_a_library_that_is_missing_is_named_when_it_is_needed() -> None:
    def missing() -> Backend:
        raise ImportError("no such package")

    scheme = BitshuffleScheme("lz4", backend=missing)
    made = Codec("bitshuffle-lz4", releases_gil=True, scheme=scheme)
    payload = find_codec("bitshuffle-lz4").encode(counts((9,), "u2"))

    assert made.filters("u2", (9,))
    with pytest.raises(UnknownCodecError, match="not available"):
        made.encode(counts((9,), "u2"))
    with pytest.raises(UnknownCodecError, match="not available"):
        made.decode(payload, "u2", (9,))
