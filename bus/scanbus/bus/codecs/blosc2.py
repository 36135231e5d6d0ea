"""Blosc2 frames, as HDF5 filter 32026 stores them. Needs ``scanbus[blosc2]``.

The filter reads two kinds of contiguous frame with one chunk: plain frames, and for two
and more dimensions also frames with a ``b2nd`` layer, where the chunk is cut into
blocks in all dimensions. The filter itself writes the second kind. This module writes
the first, which the filter reads as well, and reads both.

A frame controls what Blosc2 does: it can name codecs and filters that Blosc2 would
look for as plug-ins and load, it can leave the output memory uninitialized, and it
declares sizes in several places. All of that is checked against the short list of what
this module and the filter write, before and after Blosc2 has opened the frame. The
rest is left to Blosc2, whose authors fuzz its parser of frames.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from scanbus.bus.codecs.codec import Buffer, Filter, Octets
from scanbus.schemas.errors import PayloadError

_BLOSC2_ID = 32026
_ZSTD = 5
_BITSHUFFLE = 2
_ALLOWED_FILTERS = frozenset((0, 1, 2))  # none, shuffle, bitshuffle
_ALLOWED_CODECS = frozenset((0, 1, 2, 4, 5))  # blosclz, lz4, lz4hc, zlib, zstd
_ALLOWED_FORMATS = frozenset((0, 1, 3, 4))  # The same codecs by their chunk format.

# Positions in a frame's header (C-Blosc2, README_CFRAME_FORMAT). Integers are
# big-endian there and little-endian in a chunk's header.
_FRAME_BYTES = struct.Struct(">16xQ")
_UNPACKED_BYTES = struct.Struct(">30xq")
_CHUNK_BYTES = struct.Struct(">58xi")
_FRAME_CODEC_AT = 27
_FRAME_FILTERS_AT = slice(71, 77)
_LEAST_FRAME_BYTES = 87

_CHUNK_HEADER_BYTES = 32
_CHUNK_SIZES = struct.Struct("<4xiii")  # unpacked, block, packed
_MAX_DIMENSIONS = 8

# Exceptions that Blosc2 and its Python wrapper raise for an invalid frame.
_BLOSC2_ERRORS = (RuntimeError, ValueError, TypeError, KeyError, IndexError)


@dataclass(frozen=True)
class Blosc2Scheme:
    """The HDF5 filter for Blosc2, with Zstandard behind bitshuffle.

    Parameters
    ----------
    level : int
        1 (fast) to 9 (small).
    """

    level: int = 5

    def filters(self) -> tuple[Filter, ...]:
        """Return the filter; it adds the sizes and shape of the chunk by itself."""
        options = (0, 0, 0, 0, self.level, _BITSHUFFLE, _ZSTD)
        return (Filter(_BLOSC2_ID, options, "blosc2"),)

    def pack(self, data: Octets, itemsize: int) -> Buffer:
        """Return a plain frame with one chunk."""
        blosc2 = _import_blosc2()
        cparams = {
            "codec": blosc2.Codec.ZSTD,
            "clevel": self.level,
            "filters": [blosc2.Filter.NOFILTER] * 5 + [blosc2.Filter.BITSHUFFLE],
            "filters_meta": [0] * 6,
            "typesize": itemsize if itemsize < 256 else 1,
            "nthreads": 1,  # The callers already run one thread per core.
        }
        frame: bytes = blosc2.SChunk(
            chunksize=data.size, data=data, cparams=cparams
        ).to_cframe()
        return frame

    def unpack(
        self, payload: memoryview, n_bytes: int, itemsize: int, out: Octets | None
    ) -> Octets:
        """Return the bytes of the frame's only chunk, in C order."""
        blosc2 = _import_blosc2()
        _check_frame(payload, n_bytes)
        try:
            schunk = blosc2.schunk_from_cframe(bytes(payload))
            layout = _Layout.read(schunk, n_bytes, itemsize)
            stored_bytes = n_bytes if layout is None else layout.padded_bytes
            chunk = _only_chunk(schunk, stored_bytes)
            if out is not None and layout is None:
                stored = out
            else:
                stored = np.empty(stored_bytes, dtype=np.uint8)
            blosc2.decompress2(chunk, dst=stored, nthreads=1)
        except _BLOSC2_ERRORS as error:
            raise PayloadError(f"blosc2: {error}") from error
        return stored if layout is None else layout.in_order(stored, out)

    def check(self, payload: memoryview, n_bytes: int, itemsize: int) -> None:  # noqa: ARG002
        """Check the sizes, codec and filters that the frame's header declares."""
        _check_frame(payload, n_bytes)


def _import_blosc2() -> ModuleType:
    import blosc2  # noqa: PLC0415 - optional, and slow to import

    module: ModuleType = blosc2
    return module


def _check_frame(payload: memoryview, n_bytes: int) -> None:
    """Refuse a frame that is truncated, declares a wrong size or needs a plug-in."""
    if len(payload) < _LEAST_FRAME_BYTES or payload[2:9].tobytes() != b"b2frame":
        raise PayloadError("blosc2: not a frame")
    (frame_bytes,) = _FRAME_BYTES.unpack_from(payload)
    if frame_bytes != len(payload):
        raise PayloadError(
            f"blosc2: a frame of {frame_bytes} bytes in a payload of {len(payload)}"
        )
    (unpacked,) = _UNPACKED_BYTES.unpack_from(payload)
    (chunk_bytes,) = _CHUNK_BYTES.unpack_from(payload)
    if unpacked != chunk_bytes or not n_bytes <= unpacked <= _most_padded(n_bytes):
        raise PayloadError(
            f"blosc2: expected one chunk of {n_bytes} bytes, got {unpacked} in "
            f"chunks of {chunk_bytes}"
        )
    if payload[_FRAME_CODEC_AT] & 0x0F not in _ALLOWED_CODECS:
        raise PayloadError("blosc2: the frame names a codec that is not built in")
    if not _ALLOWED_FILTERS.issuperset(payload[_FRAME_FILTERS_AT]):
        raise PayloadError("blosc2: the frame names a filter that is not allowed")


def _most_padded(n_bytes: int) -> int:
    """Return the largest padded size of a chunk that is accepted, in bytes.

    Blocks pad each dimension to less than twice its length. Detector frames have two
    long dimensions, hence four times; the filter makes small chunks one block, hence
    the constant.
    """
    return 4 * n_bytes + 65536


def _only_chunk(schunk: Any, stored_bytes: int) -> bytes:
    """Return the frame's only chunk after checking its header."""
    if schunk.nchunks != 1:
        raise PayloadError(f"blosc2: expected one chunk, got {schunk.nchunks}")
    chunk: bytes = schunk.get_chunk(0)
    _check_chunk(chunk, stored_bytes)
    return chunk


def _check_chunk(chunk: bytes, stored_bytes: int) -> None:
    if len(chunk) < _CHUNK_HEADER_BYTES:
        raise PayloadError("blosc2: the chunk has no header")
    unpacked, _, packed = _CHUNK_SIZES.unpack_from(chunk)
    if unpacked != stored_bytes or packed != len(chunk):
        raise PayloadError(
            f"blosc2: a chunk of {packed} bytes for {unpacked}, expected "
            f"{len(chunk)} for {stored_bytes}"
        )
    flags, more_flags = chunk[2], chunk[31]
    if flags & 0b101 != 0b101 or flags >> 5 not in _ALLOWED_FORMATS:
        raise PayloadError("blosc2: the chunk names a codec that is not built in")
    if not _ALLOWED_FILTERS.issuperset(chunk[16:22]):
        raise PayloadError("blosc2: the chunk names a filter that is not allowed")
    # The upper nibble: 0 data, 1 zeros, 2 NaN, 3 one value; 4 would leave the output
    # memory uninitialized. The lower bits: dictionary, lazy chunk, instrumented.
    if more_flags >> 4 > 3 or more_flags & 0x0F:
        raise PayloadError("blosc2: the chunk has a kind that is not allowed")


@dataclass(frozen=True)
class _Layout:
    """Layout of the chunk of a ``b2nd`` frame: consecutive padded blocks."""

    itemsize: int
    shape: tuple[int, ...]
    block: tuple[int, ...]

    @classmethod
    def read(cls, schunk: Any, n_bytes: int, itemsize: int) -> _Layout | None:
        """Return the layout that the frame declares; None for a plain frame."""
        if "b2nd" not in schunk.meta:
            return None
        _, n_dimensions, shape, chunk, block, *_ = schunk.meta["b2nd"]
        layout = cls(itemsize, tuple(shape), tuple(block))
        lengths = (*shape, *block)
        whole = all(isinstance(length, int) for length in lengths)
        if not whole or not 1 <= len(shape) == len(block) <= _MAX_DIMENSIONS:
            raise PayloadError(f"blosc2: {n_dimensions} dimensions, {shape}, {block}")
        if list(chunk) != list(shape) or not layout.holds(n_bytes):
            raise PayloadError(
                f"blosc2: expected {n_bytes} bytes, got shape {shape} in chunks "
                f"{chunk} and blocks {block}"
            )
        return layout

    def holds(self, n_bytes: int) -> bool:
        """Whether this layout describes an array of `n_bytes`, padded within limits."""
        size = self.itemsize
        for length, block in zip(self.shape, self.block, strict=True):
            if not 1 <= block <= length:
                return False
            size *= length
        return size == n_bytes and self.padded_bytes <= _most_padded(n_bytes)

    @property
    def _grid(self) -> tuple[int, ...]:
        pairs = zip(self.shape, self.block, strict=True)
        return tuple(-(-length // block) for length, block in pairs)

    @property
    def padded_bytes(self) -> int:
        """Size of all blocks in bytes; padding less than doubles each dimension."""
        size = self.itemsize
        for count, block in zip(self._grid, self.block, strict=True):
            size *= count * block
        return size

    def in_order(self, stored: Octets, out: Octets | None) -> Octets:
        """Return the bytes of the array in C order from those of its blocks."""
        rank = len(self.shape)
        blocks = stored.reshape(*self._grid, *self.block, self.itemsize)
        order = np.arange(2 * rank).reshape(2, rank).T.ravel()  # grid, block, grid...
        lengths = [c * b for c, b in zip(self._grid, self.block, strict=True)]
        padded = blocks.transpose(*order, 2 * rank).reshape(*lengths, self.itemsize)
        whole = padded[tuple(slice(length) for length in self.shape)]
        if out is None:
            return np.ascontiguousarray(whole).reshape(-1)
        out.reshape(*self.shape, self.itemsize)[:] = whole
        return out
