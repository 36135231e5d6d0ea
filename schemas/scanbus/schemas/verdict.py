"""What was written of a scan: a ledger per channel, and one word over all.

The verdict judges the writing; whether the acquisition went well is its
``end_reason``. The same verdict stands in the scan file, on the bus, in the metrics
and in the exit code.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from scanbus.schemas.exit_codes import ExitCode
from scanbus.schemas.names import NexusName, PlainText, ScanUid

__all__ = ["ChannelLedger", "PointRange", "Verdict", "VerdictWord", "ranges"]

PointRange = tuple[int, int]
"""Points ``[start, stop)``."""


class VerdictWord(StrEnum):
    """How the writing of a scan came out."""

    COMPLETE = "complete"
    """Every point up to every seal is in the files."""
    PARTIAL = "partial"
    """Named points are missing."""
    FAILED = "failed"
    """There is no usable file."""

    @property
    def exit_code(self) -> ExitCode:
        """How a command ends that this is the verdict of."""
        return ExitCode[self.name]


class ChannelLedger(BaseModel):
    """The account of one channel, in points.

    Attributes
    ----------
    expected : int
        Points up to the seal; up to the last one seen where there is no seal.
    written : int
        Points that are in the files.
    missing : tuple of PointRange
        Points up to the seal that are not in the files, whatever the reason.
    duplicate, late, corrupt, refused : tuple of PointRange
        Points that came twice, after their place was closed, damaged, or in a form
        that cannot be stored.
    sealed : bool
        Whether the publisher said how many points there are.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)

    expected: int = Field(ge=0)
    written: int = Field(ge=0)
    missing: tuple[PointRange, ...] = ()
    duplicate: tuple[PointRange, ...] = ()
    late: tuple[PointRange, ...] = ()
    corrupt: tuple[PointRange, ...] = ()
    refused: tuple[PointRange, ...] = ()
    sealed: bool = True

    @property
    def is_complete(self) -> bool:
        """Whether every point up to the seal is in the files."""
        return (
            self.sealed
            and self.written == self.expected
            and not (self.missing or self.late or self.corrupt or self.refused)
        )


class Verdict(BaseModel):
    """The word, its reason, and the accounts that it follows from.

    Attributes
    ----------
    uid : str
        The scan.
    verdict : VerdictWord
        The word.
    provisional : bool
        True while the publisher may still come back.
    reason : str
        One sentence; empty when complete.
    end_reason : str
        Why the acquisition ended, empty if nobody said.
    channels : dict
        Ledger per channel.
    master : str
        Path of the scan master, relative to the writer's root.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)

    uid: ScanUid
    verdict: VerdictWord
    provisional: bool = False
    reason: PlainText = ""
    end_reason: PlainText = ""
    channels: dict[NexusName, ChannelLedger] = Field(default_factory=dict)
    master: PlainText = ""


def ranges(points: Iterable[int]) -> tuple[PointRange, ...]:
    """Return ascending points as ranges.

    Examples
    --------
    >>> ranges([0, 1, 2, 7, 9, 10])
    ((0, 3), (7, 8), (9, 11))
    """
    found: list[PointRange] = []
    for point in points:
        if found and found[-1][1] == point:
            found[-1] = (found[-1][0], point + 1)
        else:
            found.append((point, point + 1))
    return tuple(found)
