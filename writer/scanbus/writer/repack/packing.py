"""How the datasets of a converted file are divided and packed. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from scanbus.schemas.errors import ConfigurationError

__all__ = ["CODECS", "Packing"]

# The numbers of HDF5's registered filters, and their options as `Bitshuffle` sets them.
_BITSHUFFLE: Final = 32008
_FILTERS: Final[Mapping[str, Mapping[str, Any]]] = {
    "none": {},
    "gzip": {"compression": "gzip", "shuffle": True},
    "bitshuffle-lz4": {"compression": _BITSHUFFLE, "compression_opts": (0, 2)},
    "bitshuffle-zstd": {"compression": _BITSHUFFLE, "compression_opts": (0, 3, 3)},
}
CODECS: Final = tuple(_FILTERS)
# Smaller datasets are stored as they are: a filter would not pay for its chunk.
_LEAST_BYTES: Final = 1024
# Length of a chunk that is not an image.
_CHUNK_BYTES: Final = 2**20
# HDF5 has no larger ones.
_MAX_CHUNK_BYTES: Final = 2**32 - 1


@dataclass(frozen=True, slots=True)
class Packing:
    """How the datasets of a converted file are stored.

    Parameters
    ----------
    codec : str
        One of `CODECS`; gzip is what every reader of HDF5 has.
    level : int
        Level of gzip, 1 to 9.
    chunk : tuple of int
        Chunk of datasets with as many dimensions, slowest first; empty for one image
        per chunk.
    pages : bool
        Whether the file is divided into pages of 4 MiB, which readers of object stores
        fetch as a whole.

    Raises
    ------
    ConfigurationError
        If one of these is impossible.
    """

    codec: str = "gzip"
    level: int = 4
    chunk: tuple[int, ...] = ()
    pages: bool = False

    def __post_init__(self) -> None:
        if self.codec not in CODECS:
            raise ConfigurationError("codec", f"one of {', '.join(CODECS)} is needed")
        if not 1 <= self.level <= 9:
            raise ConfigurationError("level", f"1 to 9 is needed, not {self.level}")
        if any(length < 1 for length in self.chunk):
            raise ConfigurationError("chunk", "numbers from 1 on are needed")

    def options(self, shape: Sequence[int], itemsize: int) -> dict[str, Any]:
        """Return how a dataset of numbers is created.

        Examples
        --------
        >>> Packing("none").options((10, 64, 64), 2)
        {'chunks': (1, 64, 64)}
        >>> Packing("none").options((3,), 8)
        {}
        """
        if not shape or math.prod(shape) * itemsize < _LEAST_BYTES:
            return {}
        filters = dict(_FILTERS[self.codec])
        if self.codec == "gzip":
            filters["compression_opts"] = self.level
        return {"chunks": self._chunks(shape, itemsize), **filters}

    def _chunks(self, shape: Sequence[int], itemsize: int) -> tuple[int, ...]:
        if len(self.chunk) == len(shape):
            chunk = tuple(map(min, self.chunk, shape))
        elif len(shape) > 2:
            chunk = (*(1 for _ in shape[:-2]), *shape[-2:])
        else:
            row_bytes = math.prod(shape[1:]) * itemsize
            rows = max(1, _CHUNK_BYTES // max(1, row_bytes))
            chunk = (min(shape[0], rows), *shape[1:])
        n_bytes = math.prod(chunk) * itemsize
        if n_bytes > _MAX_CHUNK_BYTES:
            raise ConfigurationError(
                "chunk", f"{chunk} would be {n_bytes} bytes; HDF5 takes up to 4 GiB"
            )
        return chunk
