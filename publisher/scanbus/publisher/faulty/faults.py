"""Which faults there are, and how often each one happens."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

__all__ = ["FAULTS", "Faults"]


@dataclass(frozen=True)
class Faults:
    """How likely each fault is, for every entry; together at most 1.

    Attributes
    ----------
    drop : float
        Points are never sent, and nothing is said of them.
    gap : float
        Points are declared never to come, for a lane or for one channel of it.
    duplicate : float
        Points are sent again, in an entry whose id Redis accepts, some of them with
        new ones behind them.
    second : float
        Another publisher, of another session, sends its own points over the last ones.
    reorder : float
        Points are acquired later than those behind them: within `window` they are
        sorted, beyond it they go to the lanes of late points.
    corrupt : float
        A bit of the payload flips after its checksum was made.
    refused : float
        An entry in a form that cannot be stored.
    stall : float
        Nothing is sent for `stall_s` seconds.
    die : float
        For the whole scan: sending ends somewhere, without seal, end or heartbeat.
    window : int
        How many entries are held back to be sorted.
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
        """Refuse what is no probability."""
        for name in (*FAULTS, "die"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be from 0 to 1")
        if sum(getattr(self, name) for name in FAULTS) > 1:
            raise ValueError(f"{', '.join(FAULTS)} must together be at most 1")
        if self.window < 1 or self.stall_s < 0:
            raise ValueError("window must be at least 1, stall_s not negative")

    def draw(self, random: np.random.Generator) -> str:
        """Return the fault of one entry, empty for none."""
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
