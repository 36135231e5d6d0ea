"""What the scans of the fault tests hold: a pure function of seed, scan and point.

Plain numpy. The publisher process sends it and the judge computes it again; neither has
to believe the other.
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

__all__ = [
    "CHANNELS",
    "FRAME_SHAPE",
    "SPECTRUM_LENGTH",
    "UID_PREFIX",
    "n_points",
    "points",
    "scan_uid",
]

FRAME_SHAPE: Final = (64, 64)
UID_PREFIX: Final = "faults"
SPECTRUM_LENGTH: Final = 64
# Name, dtype, shape of one point, points per point of the scan.
CHANNELS: Final[dict[str, tuple[str, tuple[int, ...], int]]] = {
    "th": ("<f8", (), 1),
    "c1": ("<i4", (), 1),
    "i0": ("<f8", (), 1),
    "label": ("text", (), 1),
    "mca": ("<u4", (SPECTRUM_LENGTH,), 1),
    "eiger": ("<u2", FRAME_SHAPE, 1),
    "fast": ("<u4", FRAME_SHAPE, 2),
}
_NAMES: Final = tuple(CHANNELS)
Numbers = npt.NDArray[np.uint64]


def scan_uid(seed: int, scan: int) -> str:
    return f"{UID_PREFIX}{seed:012x}x{scan:05d}"


def n_points(length: int, channel: str) -> int:
    """Points of a channel in a scan of so many points."""
    return length * CHANNELS[channel][2]


def points(seed: int, scan: int, channel: str, start: int, stop: int) -> Any:
    """The points of a channel: an array, or a list of texts.

    Frames and spectra begin with the number of their point, so that one that stands in
    another's place is recognised; their other values are small, as counts are.
    """
    dtype, shape, _ = CHANNELS[channel]
    numbers = np.arange(start, stop, dtype=np.uint64)
    key = np.uint64((seed * 1_000_003 + scan * 101 + _NAMES.index(channel)) % 2**63)
    if not shape:
        return _scalars(dtype, numbers, key)
    size = int(np.prod(shape))
    cells: Numbers = np.arange(start * size, stop * size, dtype=np.uint64)
    cells = cells.reshape(-1, size)
    values = (_mixed(cells, key) >> np.uint64(60)).astype(dtype)
    values[:, 0] = numbers.astype(dtype)
    return values.reshape(len(numbers), *shape)


def _scalars(dtype: str, numbers: Numbers, key: np.uint64) -> Any:
    mixed = _mixed(numbers, key)
    if dtype == "text":
        pairs = zip(numbers, mixed, strict=True)
        return [f"point {number} \N{MICRO SIGN}{int(one):x}" for number, one in pairs]
    if dtype == "<i4":
        return (mixed >> np.uint64(33)).astype(dtype)
    return numbers.astype(dtype) + (mixed >> np.uint64(40)).astype(dtype) / 2**24


def _mixed(numbers: Numbers, key: np.uint64) -> Numbers:
    """Scramble numbers: splitmix64 (Steele, Lea and Flood, 2014)."""
    with np.errstate(over="ignore"):
        z = (numbers + key) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
