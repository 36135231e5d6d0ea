"""Two backends for the C code of bitshuffle, with the same interface.

The package `bitshuffle` has wheels for some platforms only, and none for CPython
3.13. The package `hdf5plugin` has them for all, and its plugin for the bitshuffle
filter is a shared library that exports the same functions. It is called through
ctypes, which releases the GIL and needs no import of h5py or hdf5plugin.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Final, Literal, Protocol, TypeAlias

import numpy as np

from scanbus.bus.codecs.codec import Octets
from scanbus.schemas.errors import PayloadError

Compressor: TypeAlias = Literal["lz4", "zstd"]

_LOADING: Final = threading.Lock()


@dataclass(frozen=True)
class Cut:
    """How an array is cut into blocks; the last items may not fill one."""

    n_items: int
    itemsize: int
    block_items: int


class Backend(Protocol):
    """The two functions of bitshuffle that a codec needs."""

    def pack(
        self, compressor: Compressor, data: Octets, itemsize: int, level: int
    ) -> memoryview:
        """Return the packed blocks, a view into a buffer that may be far larger."""
        ...

    def unpack(
        self,
        compressor: Compressor,
        blocks: memoryview,
        cut: Cut,
        out: Octets | None,
    ) -> Octets:
        """Return the array's bytes from blocks whose sizes have been checked."""
        ...


def load_backend() -> Backend:
    """Return the first backend that can be loaded; the same for the whole process.

    Raises
    ------
    ImportError
        If neither is installed.
    """
    with _LOADING:  # The environment of the process is changed for it.
        return _loaded_backend()


@functools.cache
def _loaded_backend() -> Backend:
    try:
        return ExtensionBackend()
    except ImportError:
        return PluginBackend()


class ExtensionBackend:
    """The package `bitshuffle`.

    Unpacking into `out` needs a copy: the package always allocates its result.

    Raises
    ------
    ImportError
        If the package is not installed or was built without Zstandard.
    """

    def __init__(self) -> None:
        extension = _import_single_threaded("bitshuffle")
        try:
            self._pack_zstd = extension.compress_zstd
            self._unpackers = {
                "lz4": extension.decompress_lz4,
                "zstd": extension.decompress_zstd,
            }
        except AttributeError as error:
            raise ImportError("bitshuffle was built without Zstandard") from error
        self._pack_lz4 = extension.compress_lz4

    def pack(
        self, compressor: Compressor, data: Octets, itemsize: int, level: int
    ) -> memoryview:
        """Return the packed blocks."""
        items = data.view(f"V{itemsize}")
        if compressor == "lz4":
            return memoryview(self._pack_lz4(items, 0))
        return memoryview(self._pack_zstd(items, 0, level))

    def unpack(
        self,
        compressor: Compressor,
        blocks: memoryview,
        cut: Cut,
        out: Octets | None,
    ) -> Octets:
        """Return the unpacked bytes."""
        packed = np.frombuffer(blocks, dtype=np.uint8)
        item = np.dtype(f"V{cut.itemsize}")
        try:
            items = self._unpackers[compressor](
                packed, (cut.n_items,), item, cut.block_items
            )
        except RuntimeError as error:
            raise PayloadError(f"a block is damaged ({error})") from error
        octets: Octets = items.view(np.uint8)
        if out is None:
            return octets
        out[:] = octets
        return out


class PluginBackend:
    """The bitshuffle filter of the package `hdf5plugin`, through ctypes.

    Raises
    ------
    ImportError
        If the package is not installed or its filter does not export the functions.
    """

    def __init__(self) -> None:
        library = _load_plugin()
        self._packers = {
            name: _function(library, f"compress_{name}") for name in _NAMES
        }
        self._bounds = {
            name: _function(library, f"compress_{name}_bound") for name in _NAMES
        }
        self._unpackers = {
            name: _function(library, f"decompress_{name}") for name in _NAMES
        }

    def pack(
        self, compressor: Compressor, data: Octets, itemsize: int, level: int
    ) -> memoryview:
        """Return the packed blocks."""
        n_items = data.size // itemsize
        bound = self._bounds[compressor](n_items, itemsize, 0)
        packed = np.empty(bound, dtype=np.uint8)
        options = (level,) if compressor == "zstd" else ()
        n_packed = self._packers[compressor](
            data.ctypes.data, packed.ctypes.data, n_items, itemsize, 0, *options
        )
        if n_packed < 0:
            raise MemoryError(f"bitshuffle failed to pack, code {n_packed}")
        return packed.data[:n_packed]

    def unpack(
        self,
        compressor: Compressor,
        blocks: memoryview,
        cut: Cut,
        out: Octets | None,
    ) -> Octets:
        """Return the unpacked bytes."""
        packed = np.frombuffer(blocks, dtype=np.uint8)
        if out is None:
            out = np.empty(cut.n_items * cut.itemsize, dtype=np.uint8)
        n_read = self._unpackers[compressor](
            packed.ctypes.data,
            out.ctypes.data,
            cut.n_items,
            cut.itemsize,
            cut.block_items,
        )
        if n_read != packed.size:
            raise PayloadError(f"a block is damaged (code {n_read})")
        return out


_NAMES: tuple[Compressor, ...] = ("lz4", "zstd")
_POINTER, _SIZE = ctypes.c_void_p, ctypes.c_size_t
_SIGNATURES: dict[str, tuple[type, list[type]]] = {
    "compress_lz4": (ctypes.c_int64, [_POINTER, _POINTER, _SIZE, _SIZE, _SIZE]),
    "compress_zstd": (
        ctypes.c_int64,
        [_POINTER, _POINTER, _SIZE, _SIZE, _SIZE, ctypes.c_int],
    ),
    "compress_lz4_bound": (_SIZE, [_SIZE, _SIZE, _SIZE]),
    "compress_zstd_bound": (_SIZE, [_SIZE, _SIZE, _SIZE]),
    "decompress_lz4": (ctypes.c_int64, [_POINTER, _POINTER, _SIZE, _SIZE, _SIZE]),
    "decompress_zstd": (ctypes.c_int64, [_POINTER, _POINTER, _SIZE, _SIZE, _SIZE]),
}


def _function(library: ctypes.CDLL, name: str) -> Callable[..., int]:
    """Return a function of ``bitshuffle.h`` with its signature set."""
    try:
        function = library[f"bshuf_{name}"]
    except AttributeError as error:
        raise ImportError(f"hdf5plugin's bitshuffle filter: {error}") from error
    function.restype, function.argtypes = _SIGNATURES[name]
    return function


def _load_plugin() -> ctypes.CDLL:
    spec = importlib.util.find_spec("hdf5plugin")  # Finds it without importing it.
    folders = (spec.submodule_search_locations if spec else None) or []
    for folder in folders:
        for path in sorted((Path(folder) / "plugins").glob("*h5bshuf*")):
            try:
                return ctypes.CDLL(str(path))
            except OSError as error:
                raise ImportError(f"cannot load {path}: {error}") from error
    raise ImportError(
        "the codec bitshuffle needs the package bitshuffle, or hdf5plugin with its "
        "bitshuffle filter"
    )


def _import_single_threaded(name: str) -> ModuleType:
    with _one_openmp_thread():
        return importlib.import_module(name)


@contextmanager
def _one_openmp_thread() -> Iterator[None]:
    """Limit an OpenMP runtime that is loaded in this context to one thread.

    bitshuffle splits one call over all cores, but its callers already run one thread
    per core: more threads would only compete for them. The runtime reads the variable
    once, when it is loaded with the first import of the extension. It is unset
    afterwards so that other libraries of the process keep their threads. A value that
    the operator has set is not changed.
    """
    if "OMP_NUM_THREADS" in os.environ:
        yield
        return
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        del os.environ["OMP_NUM_THREADS"]
