"""Which chunks and entries are compared when not all are: pure, and the same each time.

At least one in a hundred, at least twenty, the first and the last. One is picked at
random in each of as many equal stretches, by a seed from the scan's uid: a pattern in
the data cannot hide from it, and two checks of the same files agree.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import xxhash

__all__ = ["sampled"]

_AT_LEAST: Final = 20
_ONE_IN: Final = 100


def sampled(n_items: int, seed: str, *, everything: bool = False) -> list[int]:
    """Return which of `n_items` to look at, ascending.

    Examples
    --------
    >>> sampled(3, "uid")
    [0, 1, 2]
    >>> picked = sampled(5000, "uid")
    >>> len(picked), picked[0], picked[-1]
    (50, 0, 4999)
    """
    n_picked = max(_AT_LEAST, -(-n_items // _ONE_IN))
    if everything or n_items <= n_picked:
        return list(range(n_items))
    generator = np.random.default_rng(xxhash.xxh3_64_intdigest(seed.encode()))
    edges = np.linspace(0, n_items, n_picked + 1).astype(np.int64)
    picked = generator.integers(edges[:-1], edges[1:])
    picked[0], picked[-1] = 0, n_items - 1
    return [int(index) for index in picked]
