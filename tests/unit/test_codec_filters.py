"""Codecs make the bytes of the HDF5 filters, and read them."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from scanbus.bus.codecs import CODEC_NAMES, Codec, find_codec
from scanbus.bus.codecs.lz4 import Lz4Scheme
from tests.support.codec_cases import (
    BACKENDS,
    CASES,
    DTYPES,
    SHAPES,
    chunk_of,
    counts,
    dataset,
    filtered,
    h5py,
    needs_package,
    pipeline,
)


@pytest.fixture(params=CASES, scope="session")
def each(request: pytest.FixtureRequest) -> Codec:
    """Every codec that can be had here."""
    return CASES[request.param]()


@pytest.fixture
def file() -> Iterator[Any]:
    with h5py.File(io.BytesIO(), "w") as opened:
        yield opened


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_hdf5_reads_an_encoded_array_as_a_chunk(
    each: Codec, file: Any, shape: tuple[int, ...], dtype: str
) -> None:
    array = counts(shape, dtype)
    stored = dataset(file, each.filters(array.dtype, array.shape), array)

    stored.id.write_direct_chunk((0,) * array.ndim, each.encode(array))

    np.testing.assert_array_equal(stored[()], array)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_chunk_that_the_filter_made_is_decoded(
    each: Codec, file: Any, shape: tuple[int, ...], dtype: str
) -> None:
    array = counts(shape, dtype)
    chunk = chunk_of(filtered(file, each.name, array))
    out = np.empty_like(array)

    decoded = each.decode(chunk, array.dtype, array.shape)
    returned = each.decode(chunk, array.dtype, array.shape, out=out)

    np.testing.assert_array_equal(decoded, array)
    np.testing.assert_array_equal(out, array)
    assert returned is out


@pytest.mark.parametrize("shape", [(13,), (1, 31, 33)], ids=str)
@pytest.mark.parametrize("name", CODEC_NAMES)
def test_the_stored_pipeline_is_the_one_of_hdf5plugin(
    file: Any, name: str, shape: tuple[int, ...]
) -> None:
    array = counts(shape, "u4")

    ours = dataset(file, find_codec(name).filters(array.dtype, shape), array)

    assert pipeline(ours) == pipeline(filtered(file, name, array))


def test_bitshuffle_options_are_those_that_readers_of_crystallography_know(
    file: Any,
) -> None:
    array = counts((1, 31, 33), "u4")
    lz4 = dataset(file, find_codec("bitshuffle-lz4").filters("u4", (1, 31, 33)), array)
    assert pipeline(lz4) == [(32008, (0, 4, 4, 0, 2))]


@pytest.mark.parametrize("dtype", [*DTYPES, "S3", "S100"])
@pytest.mark.parametrize("shape", [*SHAPES, (8193,), (100003,)], ids=str)
@pytest.mark.parametrize("package", BACKENDS)
def test_bitshuffle_lz4_bytes_are_identical_with_the_filters(
    file: Any, package: str, shape: tuple[int, ...], dtype: str
) -> None:
    array = counts(shape, "u1" if dtype[0] == "S" else dtype).astype(dtype)
    made = needs_package(package, "lz4").encode(array)
    assert bytes(made) == chunk_of(filtered(file, "bitshuffle-lz4", array))


def test_incompressible_data_are_stored_and_read(each: Codec, file: Any) -> None:
    array = np.random.default_rng(2).integers(0, 2**16, (1, 90, 91), dtype="u2")
    stored = dataset(file, each.filters(array.dtype, array.shape), array)

    stored.id.write_direct_chunk((0, 0, 0), each.encode(array))

    np.testing.assert_array_equal(stored[()], array)


def test_the_decoder_of_dectris_reads_bitshuffle_lz4() -> None:
    dectris = pytest.importorskip(
        "dectris.compression", reason="dectris-compression is not installed"
    )
    array = counts((1, 100, 103), "u4")

    payload = bytes(find_codec("bitshuffle-lz4").encode(array))

    unpacked = dectris.decompress(payload, "bslz4", elem_size=4)
    np.testing.assert_array_equal(np.frombuffer(unpacked, "u4"), array.ravel())


@pytest.mark.parametrize("block_bytes", [1, 1000, 4096])
def test_lz4_in_several_blocks_is_read_by_both(file: Any, block_bytes: int) -> None:
    cut = Codec("lz4", releases_gil=True, scheme=Lz4Scheme(block_bytes))
    array = counts((50, 83), "u2")
    payload = cut.encode(array)
    stored = dataset(file, find_codec("lz4").filters("u2", array.shape), array)

    stored.id.write_direct_chunk((0, 0), payload)

    np.testing.assert_array_equal(stored[()], array)
    np.testing.assert_array_equal(cut.decode(payload, "u2", array.shape), array)
