"""Frames of simulated detectors, and how they are packed. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from scanbus.bus.codecs import find_codec

__all__ = ["Compression", "Frame", "packed_frame", "simulated_frames"]

Compression: TypeAlias = Literal["bslz4", "lz4", "none"]
Frame: TypeAlias = npt.NDArray[Any]


def packed_frame(frame: Frame, compression: Compression) -> bytes:
    """Return a frame as the HDF5 filter stores it; its bytes with ``none``."""
    name = {"bslz4": "bitshuffle-lz4", "lz4": "lz4", "none": "none"}[compression]
    return bytes(find_codec(name).encode(np.ascontiguousarray(frame)))


def simulated_frames(
    shape: tuple[int, int], dtype: str = "<u2", seed: int = 0
) -> Iterator[npt.NDArray[Any]]:
    """Yield frames for ever: Poisson noise, of which each has the one after shifted."""
    rng = np.random.default_rng(seed)
    base = rng.poisson(20, shape).astype(dtype)
    while True:
        yield base
        base = np.roll(base, 1, axis=0)
