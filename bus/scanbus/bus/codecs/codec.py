"""Interface of all codecs: argument checks, encoding, decoding.

A codec encodes one array as exactly the bytes that an HDF5 filter would store for it
as one chunk. So a frame is compressed once, by its publisher, and stored by direct
chunk write. Arguments are checked here for all codecs; the compression itself is a
:class:`Scheme`, one small class per filter. Nothing here uses HDF5, Redis or files.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from scanbus.bus.codecs.thread_pool import ThreadPool
from scanbus.schemas.errors import PayloadError, UnknownCodecError

Buffer: TypeAlias = bytes | memoryview
Octets: TypeAlias = npt.NDArray[np.uint8]

CODEC_NAMES = (
    "none",
    "gzip-shuffle",
    "bitshuffle-lz4",
    "bitshuffle-zstd",
    "lz4",
    "zstd",
    "blosc2",
)

# The filters count bytes in a C int; LZ4_MAX_INPUT_SIZE is a little less.
MAX_CHUNK_BYTES = 0x7E00_0000
_MAX_PAYLOAD_BYTES = 2**31 - 1


@dataclass(frozen=True)
class Filter:
    """One filter of an HDF5 pipeline, as ``H5Pset_filter`` takes it.

    Some filters complete their options when the dataset is created (bitshuffle
    prepends version and item size), so the options in the file can be longer.

    Parameters
    ----------
    id : int
        Registered number of the filter.
    options : tuple of int
        The ``cd_values``.
    name : str
        Name for messages and listings.
    """

    id: int
    options: tuple[int, ...]
    name: str


class Scheme(Protocol):
    """Packs and unpacks bytes as one HDF5 filter pipeline does."""

    def filters(self) -> tuple[Filter, ...]:
        """Return the pipeline, in the order of application."""
        ...

    def pack(self, data: Octets, itemsize: int) -> Buffer:
        """Return the stored form of `data`, which is flat and not empty."""
        ...

    def unpack(
        self, payload: memoryview, n_bytes: int, itemsize: int, out: Octets | None
    ) -> Octets:
        """Return `n_bytes` bytes, in `out` if given, or raise PayloadError."""
        ...

    def check(self, payload: memoryview, n_bytes: int, itemsize: int) -> None:
        """Raise PayloadError if `payload` cannot unpack to `n_bytes`.

        Cheaper than unpacking and needs no optional library. It finds every wrong size,
        not every wrong byte.
        """
        ...


def view_or_copy(data: Buffer, out: Octets | None) -> Octets:
    """Return `data` as an array: a view of it, or `out` with a copy in it."""
    octets = np.frombuffer(data, dtype=np.uint8)
    if out is None:
        return octets
    out[:] = octets
    return out


@dataclass(frozen=True)
class Codec:
    """A named codec: encodes arrays as HDF5 stores them, and decodes them.

    It has no state and is safe to share between threads.

    Parameters
    ----------
    name : str
        Name on the bus, one of `CODEC_NAMES`.
    releases_gil : bool
        Whether packing and unpacking in several threads run in parallel.
    scheme : Scheme
        Packs and unpacks the bytes.
    share : callable or None
        Returns the scheme using a given thread pool; None if one array is always
        packed by one thread.
    """

    name: str
    releases_gil: bool
    scheme: Scheme
    share: Callable[[ThreadPool], Scheme] | None = None

    @property
    def is_shared(self) -> bool:
        """Whether several threads may pack or unpack one array."""
        return self.share is not None

    def with_threads(self, threads: ThreadPool | None) -> Codec:
        """Return the same codec, using a thread pool if it supports one."""
        if threads is None or self.share is None:
            return self
        return replace(self, scheme=self.share(threads))

    def filters(
        self, dtype: npt.DTypeLike, chunk_shape: tuple[int, ...]
    ) -> tuple[Filter, ...]:
        """Return the filter pipeline of a dataset that stores what `encode` returns.

        Needs none of the compression libraries, so a writer that only stores encoded
        chunks can do without them.

        Parameters
        ----------
        dtype : numpy.dtype
            Type of the dataset.
        chunk_shape : tuple of int
            Shape of its chunks: the shape of the encoded arrays.

        Returns
        -------
        tuple of Filter
            In the order of application; empty for ``none``.

        Raises
        ------
        ValueError
            If a chunk of this type and shape cannot be stored.

        Examples
        --------
        >>> from scanbus.bus.codecs import find_codec
        >>> find_codec("bitshuffle-lz4").filters(np.dtype("u2"), (1, 2048, 2048))
        (Filter(id=32008, options=(0, 2), name='bitshuffle'),)
        """
        _size_of(np.dtype(dtype), chunk_shape)
        return self.scheme.filters()

    def encode(self, array: npt.NDArray[Any]) -> Buffer:
        """Return the bytes that the HDF5 filter stores for `array` as one chunk.

        Parameters
        ----------
        array : numpy.ndarray
            C-contiguous, of any dtype without Python objects. An empty array is
            encoded as empty bytes.

        Returns
        -------
        bytes or memoryview
            With ``none`` a view of the array itself: it changes with the array.

        Raises
        ------
        ValueError
            If `array` is not C-contiguous, holds Python objects, or is larger than
            `MAX_CHUNK_BYTES`.
        UnknownCodecError
            If the compression library is not installed.
        """
        if not array.flags.c_contiguous:
            raise ValueError(f"{self.name}: the array to encode is not C-contiguous")
        if _size_of(array.dtype, array.shape) == 0:
            return b""
        data = array.reshape(-1).view(np.uint8)
        try:
            return self.scheme.pack(data, array.dtype.itemsize)
        except ImportError as error:
            raise self._unavailable() from error

    def decode(
        self,
        payload: Buffer,
        dtype: npt.DTypeLike,
        shape: tuple[int, ...],
        out: npt.NDArray[Any] | None = None,
    ) -> npt.NDArray[Any]:
        """Return the array that is encoded in `payload`.

        The payload is not trusted. Every size that it declares is compared with the
        size of `dtype` and `shape` before memory is allocated, and the size that is
        allocated is the latter, not the declared one.

        Parameters
        ----------
        payload : bytes or memoryview
            Result of `encode` or of the HDF5 filter.
        dtype : numpy.dtype
            Type of the result.
        shape : tuple of int
            Shape of the result.
        out : numpy.ndarray, optional
            Array to decode into: C-contiguous, writable, of this type and shape. Its
            content is undefined after an error.

        Returns
        -------
        numpy.ndarray
            `out` if given. Else an array that may be read-only and may share memory
            with `payload`: copy it before writing into it.

        Raises
        ------
        PayloadError
            If the bytes are truncated, too long, or do not decode to `dtype` and
            `shape`.
        ValueError
            If `dtype`, `shape` and `out` are not consistent.
        UnknownCodecError
            If the compression library is not installed.
        """
        dtype = np.dtype(dtype)
        n_bytes = _size_of(dtype, shape)
        _check_out(out, dtype, shape)
        octets = self._unpack(
            memoryview(payload).cast("B"), n_bytes, dtype.itemsize, out
        )
        return octets.view(dtype).reshape(shape) if out is None else out

    def check(
        self, payload: Buffer, dtype: npt.DTypeLike, shape: tuple[int, ...]
    ) -> None:
        """Check that the sizes declared in `payload` are those of such an array.

        For code that stores the bytes without unpacking them: the sizes on which the
        filter of a reader relies are right then, so that it stays within its buffers.
        The compressed data themselves are not checked.

        Raises
        ------
        PayloadError
            If the bytes are truncated, too long, or declare another size.
        ValueError
            If an array of this type and shape cannot be stored.
        """
        dtype = np.dtype(dtype)
        n_bytes = _size_of(dtype, shape)
        flat = memoryview(payload).cast("B")
        self._check_length(flat, n_bytes)
        if n_bytes:
            self.scheme.check(flat, n_bytes, dtype.itemsize)

    def _check_length(self, payload: memoryview, n_bytes: int) -> None:
        if len(payload) > (_MAX_PAYLOAD_BYTES if n_bytes else 0):
            raise PayloadError(
                f"{self.name}: {len(payload)} bytes cannot be an array of {n_bytes} "
                "bytes"
            )

    def _unpack(
        self,
        payload: memoryview,
        n_bytes: int,
        itemsize: int,
        out: npt.NDArray[Any] | None,
    ) -> Octets:
        self._check_length(payload, n_bytes)
        if n_bytes == 0:
            return np.empty(0, dtype=np.uint8)
        flat = None if out is None else out.reshape(-1).view(np.uint8)
        try:
            return self.scheme.unpack(payload, n_bytes, itemsize, flat)
        except ImportError as error:
            raise self._unavailable() from error

    def _unavailable(self) -> UnknownCodecError:
        others = tuple(name for name in CODEC_NAMES if name != self.name)
        return UnknownCodecError(self.name, others)


def _size_of(dtype: np.dtype[Any], shape: tuple[int, ...]) -> int:
    """Return the size of an array in bytes; Python integers do not overflow."""
    if dtype.hasobject or dtype.itemsize == 0:
        raise ValueError(f"dtype {dtype} has no fixed number of bytes")
    if any(length < 0 for length in shape):
        raise ValueError(f"shape {shape} has a negative length")
    n_bytes = math.prod(shape) * dtype.itemsize
    if n_bytes > MAX_CHUNK_BYTES:
        raise ValueError(
            f"shape {shape} of {dtype} is {n_bytes} bytes; a chunk holds at most "
            f"{MAX_CHUNK_BYTES}"
        )
    return n_bytes


def _check_out(
    out: npt.NDArray[Any] | None, dtype: np.dtype[Any], shape: tuple[int, ...]
) -> None:
    if out is None:
        return
    if out.dtype != dtype or out.shape != tuple(shape):
        raise ValueError(
            f"out has shape {out.shape} of {out.dtype}, expected {shape} of {dtype}"
        )
    if not (out.flags.c_contiguous and out.flags.writeable):
        raise ValueError("out must be C-contiguous and writable")
