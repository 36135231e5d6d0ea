"""Bitshuffle with LZ4 or Zstandard, as HDF5 filter 32008 stores it.

The default on the bus: fast, small, and the format of DECTRIS detectors and of the
readers of macromolecular crystallography. For LZ4 the bytes are identical to those of
the filter. Compression itself is C, see :mod:`scanbus.bus.codecs.bitshuffle_backends`.

The C code does not check the bounds of the payload: it reads the size of each packed
block from it and continues from there, without knowing where the payload ends. So
before it is called, the block sizes are checked here: each block must end within the
payload, and the last exactly at its end. Within a block the C code is safe: bitshuffle
0.5 and hdf5plugin call ``LZ4_decompress_safe`` with the sizes of input and output
(early versions ``LZ4_decompress_fast``, which does not know the end of its input; a
test tells them apart), and ``ZSTD_decompress``, which takes both sizes too. The check
takes 0.15 ms for a frame of 8 MiB that unpacks in 3.5 ms; unpacking block by block
with Python's LZ4 instead takes 7 ms.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from scanbus.bus.codecs.bitshuffle_backends import (
    Backend,
    Compressor,
    Cut,
    load_backend,
)
from scanbus.bus.codecs.block_table import HEADER, parts_of_blocks, read_header
from scanbus.bus.codecs.codec import MAX_CHUNK_BYTES, Buffer, Filter, Octets
from scanbus.bus.codecs.thread_pool import ThreadPool
from scanbus.schemas.errors import PayloadError

_BITSHUFFLE_ID = 32008
_COMPRESSOR_NUMBERS: dict[Compressor, int] = {"lz4": 2, "zstd": 3}
_ITEMS_MULTIPLE = 8  # Blocks are whole groups of 8 items; the rest is stored raw.

_T = TypeVar("_T")


@dataclass(frozen=True)
class BitshuffleScheme:
    """The HDF5 filter for bitshuffle.

    Parameters
    ----------
    compressor : {"lz4", "zstd"}
        Compressor of the shuffled blocks.
    level : int
        Compression level, for Zstandard only.
    backend : callable
        Returns the C library; called when the first array is packed or unpacked.
    threads : ThreadPool, optional
        Threads that share the blocks of one array. Blocks are packed independently, so
        the bytes do not depend on the number of threads.
    """

    compressor: Compressor
    level: int = 3
    backend: Callable[[], Backend] = load_backend
    threads: ThreadPool | None = None

    def filters(self) -> tuple[Filter, ...]:
        """Return the filter, with its default block size.

        The filter prepends its version and the item size: the options in the file are
        ``(0, 4, itemsize, 0, 2)`` for LZ4.
        """
        options: tuple[int, ...] = (0, _COMPRESSOR_NUMBERS[self.compressor])
        if self.compressor == "zstd":
            options += (self.level,)
        return (Filter(_BITSHUFFLE_ID, options, "bitshuffle"),)

    def with_threads(self, threads: ThreadPool) -> BitshuffleScheme:
        """Return the same scheme, using a thread pool."""
        return replace(self, threads=threads)

    def pack(self, data: Octets, itemsize: int) -> Buffer:
        """Return header and blocks."""
        backend = self.backend()
        block_bytes = default_block_items(itemsize) * itemsize
        part_bytes = self._part_bytes(block_bytes)

        def pack_part(number: int) -> memoryview:
            part = data[number * part_bytes : (number + 1) * part_bytes]
            return backend.pack(self.compressor, part, itemsize, self.level)

        parts = self._map(pack_part, -(-data.size // part_bytes))
        # Copied on purpose: the parts are views of buffers of the largest possible
        # size, which would stay in memory as long as the packed bytes.
        return b"".join((HEADER.pack(data.size, block_bytes), *parts))

    def unpack(
        self, payload: memoryview, n_bytes: int, itemsize: int, out: Octets | None
    ) -> Octets:
        """Return the unpacked bytes; block sizes are checked before C is called."""
        backend = self.backend()
        cut, edges = self._check(payload, n_bytes, itemsize)
        parts = len(edges) - 1
        if out is None and parts > 1:
            out = np.empty(n_bytes, np.uint8)
        part_bytes = self._part_bytes(cut.block_items * itemsize)

        def unpack_part(number: int) -> Octets:
            blocks = payload[edges[number] : edges[number + 1]]
            first = number * part_bytes
            stop = n_bytes if number == parts - 1 else first + part_bytes
            part = Cut((stop - first) // itemsize, itemsize, cut.block_items)
            into = None if out is None else out[first:stop]
            return backend.unpack(self.compressor, blocks, part, into)

        try:
            unpacked = self._map(unpack_part, parts)
        except PayloadError as error:
            raise PayloadError(f"{self._name}: {error}") from error
        return unpacked[0] if out is None else out

    def check(self, payload: memoryview, n_bytes: int, itemsize: int) -> None:
        """Check the header and the size of each block."""
        self._check(payload, n_bytes, itemsize)

    @property
    def _name(self) -> str:
        return f"bitshuffle-{self.compressor}"

    def _map(self, work: Callable[[int], _T], count: int) -> list[_T]:
        if self.threads is None or count == 1:
            return [work(number) for number in range(count)]
        return self.threads.map(work, count)

    def _part_bytes(self, block_bytes: int) -> int:
        """Return how many bytes one thread packs or unpacks at a time: whole blocks.

        All bytes where there is no thread pool.
        """
        part_bytes = (
            MAX_CHUNK_BYTES if self.threads is None else self.threads.part_bytes
        )
        return -(-part_bytes // block_bytes) * block_bytes

    def _check(
        self, payload: memoryview, n_bytes: int, itemsize: int
    ) -> tuple[Cut, list[int]]:
        """Check the header and the block sizes; return the cut and the part starts."""
        block_bytes = read_header(self._name, payload, n_bytes)
        if block_bytes % (itemsize * _ITEMS_MULTIPLE):
            raise PayloadError(
                f"{self._name}: blocks of {block_bytes} bytes are not whole groups of "
                f"{_ITEMS_MULTIPLE} items of {itemsize} bytes"
            )
        n_items = n_bytes // itemsize
        rest = n_items % _ITEMS_MULTIPLE
        n_blocks = -(-(n_items - rest) * itemsize // block_bytes)
        edges = parts_of_blocks(
            self._name,
            payload,
            n_blocks,
            rest * itemsize,
            per_part=self._part_bytes(block_bytes) // block_bytes,
        )
        edges[-1] = len(payload)  # Items that do not fill a group of 8 follow raw.
        # A block size above the number of items has no other effect, but could
        # overflow a C int.
        block_items = min(block_bytes // itemsize, n_items - rest + _ITEMS_MULTIPLE)
        return Cut(n_items, itemsize, block_items), edges


def default_block_items(itemsize: int) -> int:
    """Return bitshuffle's items per block, which its authors promise never to change.

    References
    ----------
    ``bshuf_default_block_size`` in bitshuffle's ``bitshuffle_core.c``.

    Examples
    --------
    >>> [default_block_items(itemsize) for itemsize in (1, 2, 3, 8, 100)]
    [8192, 4096, 2728, 1024, 128]
    """
    items = 8192 // itemsize // _ITEMS_MULTIPLE * _ITEMS_MULTIPLE
    return max(items, 128)
