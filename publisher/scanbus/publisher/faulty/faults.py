"""The faults of the simulated publisher, with the probability of each."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

__all__ = ["FAULTS", "Faults"]


@dataclass(frozen=True)
class Faults:
    """Probability of each fault, per entry; together at most 1.

    Attributes
    ----------
    drop : float
        Points are not sent, nor declared as a gap.
    gap : float
        Points are declared as a gap, for a lane or for one channel of it.
    duplicate : float
        Points are sent again, in an entry whose id Redis accepts, in some cases
        together with new points.
    second : float
        Another publisher, with another session, sends its points over the last ones.
    reorder : float
        Points are acquired after later ones: within `window` they are sorted, beyond
        it they go to the lanes of late points.
    corrupt : float
        A bit of the payload flips after its checksum was computed.
    refused : float
        An entry has a form that cannot be stored.
    stall : float
        Nothing is sent for `stall_s`.
    die : float
        For the whole scan: sending stops at some entry, without seal, end or
        heartbeat.
    window : int
        Number of entries held back to be sorted.
    stall_s : float
        Duration of a stall, in seconds.

    Raises
    ------
    ValueError
        If a probability is not from 0 to 1, they add up to more than 1, or `window` or
        `stall_s` is out of range.
    """

    drop: float = 0.0
    gap: float = 0.0
    duplicate: float = 0.0
    second: float = 0.0
    reorder: float = 0.0
    corrupt: float = 0.0
    refused: float = 0.0
    stall: float = 0.0
    die: float = 0.0
    window: int = 3
    stall_s: float = 0.05

    def __post_init__(self) -> None:
        """Refuse invalid probabilities, window and duration."""
        for name in (*FAULTS, "die"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be from 0 to 1")
        if sum(getattr(self, name) for name in FAULTS) > 1:
            raise ValueError(f"{', '.join(FAULTS)} must together be at most 1")
        if self.window < 1 or self.stall_s < 0:
            raise ValueError("window must be at least 1, stall_s not negative")

    def draw(self, random: np.random.Generator) -> str:
        """Return the name of a random fault for one entry; empty for none."""
        left = float(random.random())
        for name in FAULTS:
            left -= getattr(self, name)
            if left < 0:
                return name
        return ""


FAULTS = tuple(
    one.name for one in fields(Faults) if one.name not in {"die", "window", "stall_s"}
)
"""The faults that happen to entries."""
