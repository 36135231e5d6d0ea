"""Times of the points of an entry: two numbers where they suffice, else a block.

Every point keeps the float64 that it was given. Two times stand for all of an entry
only if :func:`evenly_spaced` computes each of them again, bit by bit; otherwise they
follow the blocks of the payload, with a checksum of their own. NaN: not known.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["TIME_BYTES", "Ends", "Times", "encode_times", "evenly_spaced", "time_array"]

Times: TypeAlias = npt.NDArray[np.float64]
"""Seconds since 1970 UTC, float64, shape ``(n_points,)``; NaN: not known."""
Ends: TypeAlias = tuple[float, float]
"""Times of the first and the last of points between which time is evenly spaced."""

_TIME: Final = np.dtype("<f8")
TIME_BYTES: Final = _TIME.itemsize
"""Bytes of one time in the block of times."""


def evenly_spaced(first: float, last: float, count: int) -> Times:
    """Return `count` times from `first` to `last`, as protocol 1 computes them.

    ``step = (last - first) / (count - 1)``, then ``first + k * step`` for point `k`,
    each operation rounded to float64; the first and the last are the given ones.

    Examples
    --------
    >>> evenly_spaced(1.0, 2.0, 5)
    array([1.  , 1.25, 1.5 , 1.75, 2.  ])
    """
    times = np.empty(count, _TIME)
    if count > 2:
        with np.errstate(over="ignore", invalid="ignore"):
            step = (np.float64(last) - np.float64(first)) / (count - 1)
            np.multiply(np.arange(count), step, out=times)
            times += first
    times[-1:] = last
    times[:1] = first
    return times


def encode_times(times: Times | Ends) -> tuple[Ends | None, bytes]:
    """Return the two times of a header, or else None and the block of times.

    Parameters
    ----------
    times : numpy.ndarray or tuple of float
        One time for each point of an entry; or the first and the last of evenly spaced
        ones.
    """
    if isinstance(times, tuple):
        return times, b""
    ends = float(times[0]), float(times[-1])
    if len(times) <= 2:
        return ends, b""
    block = np.ascontiguousarray(times, _TIME).tobytes()
    # Compared as bytes: 0.0 and -0.0 are equal as numbers, NaN never is.
    is_even = evenly_spaced(*ends, len(times)).tobytes() == block
    return (ends, b"") if is_even else (None, block)


def time_array(block: bytes | memoryview) -> Times:
    """Return a block of times as a read-only array.

    Examples
    --------
    >>> time_array(encode_times(np.array([0.0, 1.0, 5.0]))[1])
    array([0., 1., 5.])
    """
    return np.frombuffer(block, _TIME)
