"""What came of one series, in numbers."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["SeriesCounts"]


@dataclass(slots=True)
class SeriesCounts:
    """What came of one series.

    Attributes
    ----------
    frames, repeated, refused, missing : int
        Number of frames that were sent, came again, could not be used, never came.
    left_out : int
        Values of frames that their channels could not take; each is a hole there.
    """

    frames: int = 0
    repeated: int = 0
    refused: int = 0
    missing: int = 0
    left_out: int = 0

    def add(self, other: SeriesCounts) -> None:
        """Add the numbers of another series."""
        self.frames += other.frames
        self.repeated += other.repeated
        self.refused += other.refused
        self.missing += other.missing
        self.left_out += other.left_out
