"""Bitshuffle with LZ4 or Zstandard, as HDF5 filter 32008 stores it.

The default on the bus: fast, small, and what DECTRIS detectors and the readers of
macromolecular crystallography speak. For LZ4 the bytes are identical with those of
the filter. The packing itself is C, see :mod:`scanbus.bus.codecs.bitshuffle_backends`.

What the C code trusts, and what is done about it: it reads the size of each packed
block from the payload and goes on from there, without knowing where the payload
ends. So before it is called, the table of blocks is walked here, and each block must
end within the payload and the last exactly at its end. Within a block the C code is
safe: bitshuffle 0.5 and hdf5plugin call ``LZ4_decompress_safe``
with the sizes of both sides (early versions ``LZ4_decompress_fast``, which knows no
end of its input; a test tells them apart), and ``ZSTD_decompress``, which takes both
too. Walking costs 0.15 ms for a frame of 8 MiB that unpacks in 3.5 ms; going block by
block through Python's LZ4 instead takes 7 ms.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from scanbus.bus.codecs.bitshuffle_backends import (
    Backend,
    Compressor,
    Cut,
    load_backend,
)
from scanbus.bus.codecs.codec import Buffer, Filter, Octets
from scanbus.bus.codecs.framing import HEADER, check_blocks, read_header
from scanbus.schemas.errors import PayloadError

_BITSHUFFLE_ID = 32008
_COMPRESSOR_NUMBERS: dict[Compressor, int] = {"lz4": 2, "zstd": 3}
_ITEMS_MULTIPLE = 8  # Blocks are whole groups of eight items; the rest is stored raw.


@dataclass(frozen=True)
class BitshuffleScheme:
    """The HDF5 filter for bitshuffle.

    Parameters
    ----------
    compressor : {"lz4", "zstd"}
        What packs the shuffled blocks.
    level : int
        Compression level, for Zstandard only.
    backend : callable
        Returns the C library; called with the first array.
    """

    compressor: Compressor
    level: int = 3
    backend: Callable[[], Backend] = load_backend

    def filters(self) -> tuple[Filter, ...]:
        """Return the one filter, with its default block size.

        HDF5 puts version and item size in front: the file says
        ``(0, 4, itemsize, 0, 2)`` for LZ4.
        """
        options: tuple[int, ...] = (0, _COMPRESSOR_NUMBERS[self.compressor])
        if self.compressor == "zstd":
            options += (self.level,)
        return (Filter(_BITSHUFFLE_ID, options, "bitshuffle"),)

    def pack(self, data: Octets, itemsize: int) -> Buffer:
        """Return header and blocks."""
        blocks = self.backend().pack(self.compressor, data, itemsize, self.level)
        header = HEADER.pack(data.size, default_block_items(itemsize) * itemsize)
        # A copy of the packed bytes, on purpose: C wrote them into a buffer made for
        # the worst case, which must not stay alive as long as they do.
        return b"".join((header, blocks))

    def unpack(
        self, payload: memoryview, n_bytes: int, itemsize: int, out: Octets | None
    ) -> Octets:
        """Return the unpacked bytes; C is called once the table of blocks is right."""
        cut = self._check(payload, n_bytes, itemsize)
        blocks = payload[HEADER.size :]
        try:
            return self.backend().unpack(self.compressor, blocks, cut, out)
        except PayloadError as error:
            raise PayloadError(f"{self._name}: {error}") from error

    def check(self, payload: memoryview, n_bytes: int, itemsize: int) -> None:
        """Walk the table of blocks."""
        self._check(payload, n_bytes, itemsize)

    @property
    def _name(self) -> str:
        return f"bitshuffle-{self.compressor}"

    def _check(self, payload: memoryview, n_bytes: int, itemsize: int) -> Cut:
        """Walk the table of blocks and return what it says."""
        block_bytes = read_header(self._name, payload, n_bytes)
        if block_bytes % (itemsize * _ITEMS_MULTIPLE):
            raise PayloadError(
                f"{self._name}: blocks of {block_bytes} bytes are not whole groups of "
                f"{_ITEMS_MULTIPLE} items of {itemsize} bytes"
            )
        n_items = n_bytes // itemsize
        rest = n_items % _ITEMS_MULTIPLE
        n_blocks = -(-(n_items - rest) * itemsize // block_bytes)
        check_blocks(self._name, payload, n_blocks, rest * itemsize)
        # One larger than all items has the same meaning and fits into a C int.
        block_items = min(block_bytes // itemsize, n_items - rest + _ITEMS_MULTIPLE)
        return Cut(n_items, itemsize, block_items)


def default_block_items(itemsize: int) -> int:
    """Return the items per block of bitshuffle, which it promises never to change.

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
