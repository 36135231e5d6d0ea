"""What every codec does the same way, whatever packs the bytes.

A codec turns one array into exactly the bytes that an HDF5 filter would store for it
as one chunk, so a frame that is packed where it is born is written by direct chunk
write and never touched again. Here the arguments are checked once for all of them;
how bytes are packed is a :class:`Scheme`, one small class per filter. Nothing here
knows HDF5, Redis or files.
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

# The filters count in a C int, and LZ4 ends a little before it: LZ4_MAX_INPUT_SIZE.
MAX_CHUNK_BYTES = 0x7E00_0000
_MAX_PAYLOAD_BYTES = 2**31 - 1


@dataclass(frozen=True)
class Filter:
    """One filter of an HDF5 pipeline, as ``H5Pset_filter`` takes it.

    Some filters complete their options when the dataset is created (bitshuffle puts
    version and item size in front of them), so what the file holds can be longer.

    Parameters
    ----------
    id : int
        Registered number of the filter.
    options : tuple of int
        The ``cd_values``.
    name : str
        For messages and listings.
    """

    id: int
    options: tuple[int, ...]
    name: str


class Scheme(Protocol):
    """How one HDF5 pipeline packs and unpacks bytes."""

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
        """Raise PayloadError if `payload` cannot be `n_bytes`; cheaper than unpacking.

        Needs no library, and finds every size that is wrong, not every wrong byte.
        """
        ...


def deliver(data: Buffer, out: Octets | None) -> Octets:
    """Return `data` as an array: a view of it, or `out` with a copy in it."""
    octets = np.frombuffer(data, dtype=np.uint8)
    if out is None:
        return octets
    out[:] = octets
    return out


@dataclass(frozen=True)
class Codec:
    """A named way to pack arrays as HDF5 stores them.

    Without state: safe to share between threads.

    Parameters
    ----------
    name : str
        Name on the bus, one of `CODEC_NAMES`.
    releases_gil : bool
        Whether threads that pack or unpack run side by side.
    scheme : Scheme
        What packs the bytes.
    share : callable or None
        Returns the scheme at work with a thread pool; None where one array takes one
        thread.
    """

    name: str
    releases_gil: bool
    scheme: Scheme
    share: Callable[[ThreadPool], Scheme] | None = None

    @property
    def is_shared(self) -> bool:
        """Whether several threads may pack or unpack one array."""
        return self.share is not None

    def helped_by(self, threads: ThreadPool | None) -> Codec:
        """Return the same codec, at work with a thread pool if it can."""
        if threads is None or self.share is None:
            return self
        return replace(self, scheme=self.share(threads))

    def filters(
        self, dtype: npt.DTypeLike, chunk_shape: tuple[int, ...]
    ) -> tuple[Filter, ...]:
        """Return the pipeline that a dataset needs to hold what `encode` returns.

        Needs none of the packing libraries: whoever only passes bytes on to a file
        need not have them.

        Parameters
        ----------
        dtype : numpy.dtype
            Type of the dataset.
        chunk_shape : tuple of int
            Shape of its chunks: that of the arrays that are encoded.

        Returns
        -------
        tuple of Filter
            In the order of application; empty for ``none``.

        Raises
        ------
        ValueError
            If no chunk of this type and shape can be stored.

        Examples
        --------
        >>> from scanbus.bus.codecs import find_codec
        >>> find_codec("bitshuffle-lz4").filters(np.dtype("u2"), (1, 2048, 2048))
        (Filter(id=32008, options=(0, 2), name='bitshuffle'),)
        """
        _size_of(np.dtype(dtype), chunk_shape)
        return self.scheme.filters()

    def encode(self, array: npt.NDArray[Any]) -> Buffer:
        """Return `array` as the HDF5 filter stores it for one chunk.

        Parameters
        ----------
        array : numpy.ndarray
            C-contiguous, of any dtype without Python objects. An empty array is
            packed as no bytes.

        Returns
        -------
        bytes or memoryview
            With ``none`` a view of the array itself: it changes if the array does.

        Raises
        ------
        ValueError
            If `array` is not C-contiguous, holds Python objects, or is larger than
            `MAX_CHUNK_BYTES`.
        UnknownCodecError
            If the library that packs is not installed.
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
        """Return the array that `payload` holds, whoever sent it.

        The payload is not trusted. Every size that it declares is compared with the
        one that `dtype` and `shape` demand before anything is allocated, and what is
        allocated is that size, not the declared one.

        Parameters
        ----------
        payload : bytes or memoryview
            What `encode` or the HDF5 filter made.
        dtype : numpy.dtype
            Type of the result.
        shape : tuple of int
            Shape of the result.
        out : numpy.ndarray, optional
            C-contiguous and writable, of that type and shape, to decode into. Its
            content is undefined after an error.

        Returns
        -------
        numpy.ndarray
            `out` if given. Else it may be read-only and may share memory with
            `payload`: copy it before writing into it.

        Raises
        ------
        PayloadError
            If the bytes are cut, too long, or do not decode to `dtype` and `shape`.
        ValueError
            If `dtype`, `shape` or `out` do not fit together.
        UnknownCodecError
            If the library that unpacks is not installed.
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
        """Refuse bytes that declare anything else than an array of that size.

        For whoever passes them on without unpacking: the sizes that a reader of the
        file will believe are right then, and no filter is led beyond its buffers.
        What is packed within them is not looked at.

        Raises
        ------
        PayloadError
            If the bytes are cut, too long, or declare another size.
        ValueError
            If there is no such array.
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
                f"{self.name}: {len(payload)} bytes cannot be an array of {n_bytes}"
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
    """Return the bytes that an array takes; Python integers do not overflow."""
    if dtype.hasobject or dtype.itemsize == 0:
        raise ValueError(f"dtype {dtype} has no fixed number of bytes")
    if any(length < 0 for length in shape):
        raise ValueError(f"shape {shape} has a negative length")
    n_bytes = math.prod(shape) * dtype.itemsize
    if n_bytes > MAX_CHUNK_BYTES:
        raise ValueError(
            f"{shape} of {dtype} are {n_bytes} bytes; a chunk holds {MAX_CHUNK_BYTES}"
        )
    return n_bytes


def _check_out(
    out: npt.NDArray[Any] | None, dtype: np.dtype[Any], shape: tuple[int, ...]
) -> None:
    if out is None:
        return
    if out.dtype != dtype or out.shape != tuple(shape):
        raise ValueError(
            f"out is {out.shape} of {out.dtype}, expected {shape} of {dtype}"
        )
    if not (out.flags.c_contiguous and out.flags.writeable):
        raise ValueError("out must be C-contiguous and writable")
