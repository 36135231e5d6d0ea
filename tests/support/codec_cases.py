"""Every codec that can be had here, and what HDF5's own filters make of an array."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from scanbus.bus.codecs import Codec, Filter, ThreadPool, find_codec
from scanbus.bus.codecs.bitshuffle import BitshuffleScheme
from scanbus.bus.codecs.bitshuffle_backends import (
    Backend,
    Compressor,
    ExtensionBackend,
    PluginBackend,
)

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
THREADS = ThreadPool(3, "test", part_bytes=1 << 13)


def through_backend(package: str, compressor: Compressor) -> Codec:
    """Return the codec as it is where only that package is installed."""
    scheme = BitshuffleScheme(compressor, backend=BACKENDS[package])
    return Codec(f"bitshuffle-{compressor}", True, scheme, scheme.with_threads)


def needs_blosc2() -> Codec:
    pytest.importorskip("blosc2")
    return find_codec("blosc2")


def needs_package(package: str, compressor: Compressor) -> Codec:
    pytest.importorskip(package)
    return through_backend(package, compressor)


def shared(package: str) -> Codec:
    return needs_package(package, "lz4").with_threads(THREADS)


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


SAMPLE = counts((2, 60, 71), "u2")


def decode_sample(each: Codec, payload: bytes) -> Array:
    return each.decode(payload, SAMPLE.dtype, SAMPLE.shape)
