"""Codecs: the bytes of the HDF5 filters, and no harm from bytes of others."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from scanbus.bus.codecs import (
    CODEC_NAMES,
    DEFAULT_CODEC,
    Codec,
    Filter,
    ThreadPool,
    find_codec,
)
from scanbus.bus.codecs.bitshuffle import BitshuffleScheme
from scanbus.bus.codecs.bitshuffle_backends import (
    Backend,
    Compressor,
    ExtensionBackend,
    PluginBackend,
)
from scanbus.bus.codecs.codec import MAX_CHUNK_BYTES
from scanbus.bus.codecs.lz4 import Lz4Scheme
from scanbus.schemas.errors import PayloadError, UnknownCodecError

h5py = pytest.importorskip("h5py")
hdf5plugin = pytest.importorskip("hdf5plugin")

Array = npt.NDArray[Any]
DTYPES = ("u1", "u2", "u4", "i4", "f4", "f8", "u8")
SHAPES = ((1,), (7,), (8,), (13,), (4099,), (1, 31, 33), (2, 64, 130), (20000,))
BACKENDS: dict[str, Callable[[], Backend]] = {
    "bitshuffle": ExtensionBackend,
    "hdf5plugin": PluginBackend,
}
COMPRESSORS: tuple[Compressor, ...] = ("lz4", "zstd")


# Small parts: every array of more than a few blocks is shared.
CREW = ThreadPool(3, "test", part_bytes=1 << 13)


def through_backend(package: str, compressor: Compressor) -> Codec:
    """Return the codec as it is where only that package is installed."""
    scheme = BitshuffleScheme(compressor, backend=BACKENDS[package])
    return Codec(f"bitshuffle-{compressor}", True, scheme, scheme.helped_by)


def needs_blosc2() -> Codec:
    pytest.importorskip("blosc2")
    return find_codec("blosc2")


def needs_package(package: str, compressor: Compressor) -> Codec:
    pytest.importorskip(package)
    return through_backend(package, compressor)


def shared(package: str) -> Codec:
    return needs_package(package, "lz4").helped_by(CREW)


# Every codec, and bitshuffle once through each of the packages that bring it, alone and
# by several threads.
CASES: dict[str, Callable[[], Codec]] = {
    name: partial(find_codec, name) for name in ("none", "gzip-shuffle", "lz4", "zstd")
} | {"blosc2": needs_blosc2}
for _compressor in COMPRESSORS:
    for _package in BACKENDS:
        CASES[f"bitshuffle-{_compressor}-by-{_package}"] = partial(
            needs_package, _package, _compressor
        )


for _package in BACKENDS:
    CASES[f"bitshuffle-lz4-by-{_package}-shared"] = partial(shared, _package)


@pytest.fixture(params=CASES, scope="session")
def each(request: pytest.FixtureRequest) -> Codec:
    """Every codec that can be had here."""
    return CASES[request.param]()


@pytest.fixture
def file() -> Iterator[Any]:
    with h5py.File(io.BytesIO(), "w") as opened:
        yield opened


def counts(shape: tuple[int, ...], dtype: str) -> Array:
    """Return photons as a detector counts them."""
    photons: Array = np.random.default_rng(20).poisson(2, shape).astype(dtype)
    return photons


def dataset(file: Any, filters: tuple[Filter, ...], array: Array) -> Any:
    """Create a dataset of one chunk with this pipeline, by HDF5's own calls."""
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk(array.shape)
    for step in filters:
        plist.set_filter(step.id, h5py.h5z.FLAG_OPTIONAL, step.options)
    space = h5py.h5s.create_simple(array.shape)
    kind = h5py.h5t.py_create(array.dtype)
    return h5py.Dataset(h5py.h5d.create(file.id, b"data", kind, space, plist))


def pipeline(stored: Any) -> list[tuple[int, tuple[int, ...]]]:
    plist = stored.id.get_create_plist()
    steps = (plist.get_filter(i) for i in range(plist.get_nfilters()))
    return [(number, options) for number, _, options, _ in steps]


def by_hdf5plugin(name: str) -> dict[str, Any]:
    """Return what create_dataset takes for the filter that a codec stands for."""
    return {
        "none": {},
        "gzip-shuffle": {"compression": "gzip", "shuffle": True},
        "bitshuffle-lz4": {"compression": hdf5plugin.Bitshuffle(cname="lz4")},
        "bitshuffle-zstd": {"compression": hdf5plugin.Bitshuffle(cname="zstd")},
        "lz4": {"compression": hdf5plugin.LZ4()},
        "zstd": {"compression": hdf5plugin.Zstd(clevel=3)},
        "blosc2": {"compression": hdf5plugin.Blosc2("zstd", clevel=5, filters=2)},
    }[name]


def filtered(file: Any, name: str, array: Array) -> Any:
    """Return a dataset of one chunk that went through the filter itself."""
    return file.create_dataset(
        "filtered", data=array, chunks=array.shape, **by_hdf5plugin(name)
    )


def chunk_of(stored: Any) -> bytes:
    _, chunk = stored.id.read_direct_chunk((0,) * stored.ndim)
    return bytes(chunk)


# ------------------------------------------------------------- with the filters


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


# ----------------------------------------------------------------- round trips

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


@pytest.mark.parametrize("block_bytes", [1, 1000, 4096])
def test_lz4_in_several_blocks_is_read_by_both(file: Any, block_bytes: int) -> None:
    cut = Codec("lz4", releases_gil=True, scheme=Lz4Scheme(block_bytes))
    array = counts((50, 83), "u2")
    payload = cut.encode(array)
    stored = dataset(file, find_codec("lz4").filters("u2", array.shape), array)

    stored.id.write_direct_chunk((0, 0), payload)

    np.testing.assert_array_equal(stored[()], array)
    np.testing.assert_array_equal(cut.decode(payload, "u2", array.shape), array)


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


# --------------------------------------------------------------- hostile bytes

SAMPLE = counts((2, 60, 71), "u2")


def decode_sample(each: Codec, payload: bytes) -> Array:
    return each.decode(payload, SAMPLE.dtype, SAMPLE.shape)


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


def damaged(payload: bytes, seed: int) -> Iterator[bytes]:
    """Yield many damaged forms: flipped bits, extreme sizes, bytes lost or added."""
    rng = np.random.default_rng(seed)
    extremes = (b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", bytes(4), b"\0\0\x20\0")
    for _ in range(400):
        copy = bytearray(payload)
        for _ in range(rng.integers(1, 4)):
            at = int(rng.integers(min(len(copy), int(rng.choice([16, 200, 10**6])))))
            kind = rng.integers(4)
            if kind < 2:
                copy[at] ^= 1 << int(rng.integers(8))
            elif kind == 2:
                copy[at : at + 4] = extremes[rng.integers(len(extremes))]
            else:
                copy[at : at + 1] = rng.bytes(int(rng.integers(3)))
        yield bytes(copy)


def survive_damage(each: Codec, payloads: list[bytes]) -> int:
    """Decode damaged bytes; return how many were refused."""
    refused = 0
    for seed, payload in enumerate(payloads):
        for copy in damaged(payload, seed):
            try:
                assert decode_sample(each, copy).shape == SAMPLE.shape
            except PayloadError:
                refused += 1
    return refused


@pytest.mark.parametrize("case", CASES)
def test_damaged_bytes_are_refused_or_decoded_but_never_crash(
    file: Any, case: str
) -> None:
    """In a process of its own: what is feared here is a segmentation fault."""
    each = CASES[case]()
    chunks = [bytes(each.encode(SAMPLE)), chunk_of(filtered(file, each.name, SAMPLE))]

    child = subprocess.run(
        [sys.executable, "-W", "error", __file__, case],
        input="\n".join(chunk.hex() for chunk in chunks),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )

    assert child.returncode == 0, child.stderr
    assert int(child.stdout) > 0


def size_table(block_bytes: int, *sizes: int, total: int = SAMPLE.nbytes) -> bytes:
    """Return a frame whose blocks are noise of the declared sizes."""
    blocks = (struct.pack(">I", size) + bytes(min(size, 100)) for size in sizes)
    return struct.pack(">QI", total, block_bytes) + b"".join(blocks)


@pytest.mark.parametrize("name", ["lz4", "bitshuffle-lz4", "bitshuffle-zstd"])
@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (b"\0" * 11, "11 bytes are no header"),
        (size_table(8192, total=2**62), f"expected {SAMPLE.nbytes} bytes, 4611686018"),
        (size_table(0, 100), "blocks of 0 bytes"),
        (size_table(8192), "cut before block 0 of 3"),
        (size_table(8192, 100), "cut before block 1 of 3"),
        (size_table(8192, 100, 2**31), "block 1 of 3 is cut: 2147483648 bytes"),
        (size_table(8192, 100, 2**32 - 1), "block 1 of 3 is cut: 4294967295 bytes"),
        (size_table(8192, 100, 100, 100, 100), "104 bytes behind the last of 3"),
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
    with pytest.raises(PayloadError, match="the frame has 1000000"):
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


@pytest.mark.parametrize("threads", [{}, {"OMP_NUM_THREADS": "2"}], ids=str)
def test_packing_imports_no_hdf5_and_keeps_the_environment(
    threads: dict[str, str],
) -> None:
    """A control computer needs no HDF5, and other libraries keep their threads."""
    code = (
        "import os, sys, numpy as np; from scanbus.bus.codecs import find_codec; "
        "find_codec('bitshuffle-lz4').encode(np.zeros(9, 'u2')); "
        "print('h5py' in sys.modules, 'hdf5plugin' in sys.modules, "
        "os.environ.get('OMP_NUM_THREADS'))"
    )
    others = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    child = subprocess.run(
        [sys.executable, "-c", code],
        env={
            **others,
            **threads,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    expected = threads.get("OMP_NUM_THREADS", "None")
    assert child.stdout.split() == ["False", "False", expected]


def main(case: str) -> None:
    """Run the dangerous part of one test, see `survive_damage`."""
    payloads = [bytes.fromhex(line) for line in sys.stdin]
    sys.stdout.write(str(survive_damage(CASES[case](), payloads)))


if __name__ == "__main__":
    main(sys.argv[1])
