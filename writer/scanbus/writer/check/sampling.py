"""Stratified sampling of the chunks and entries to compare: pure and reproducible.

A sample has at least 1 % and at least 20 of the items, and the first and the last one.
One item is picked at random from each of as many intervals of equal length. Random
picks do not miss periodic damage; the seed comes from the scan's uid, so two checks of
the same files agree.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import xxhash

__all__ = ["sampled"]

_AT_LEAST: Final = 20
_ONE_IN: Final = 100


def sampled(n_items: int, seed: str, *, everything: bool = False) -> list[int]:
    """Return the sampled indices in ``range(n_items)``, ascending.

    Parameters
    ----------
    seed : str
        Text from which the random generator is seeded.
    everything : bool
        Whether to return all indices.

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
