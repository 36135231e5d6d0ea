"""Verdict on a scan: a ledger of points per channel, and one word for the scan.

The verdict is about the writing; ``end_reason`` tells how the acquisition went. The
same verdict is in the scan file, on the bus, in the metrics and in the exit code.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from scanbus.schemas.exit_codes import ExitCode
from scanbus.schemas.file_names import STATIC_PREFIX
from scanbus.schemas.valid_names import NexusName, PlainText, ScanUid

__all__ = ["ChannelLedger", "PointRange", "Verdict", "VerdictWord", "ranges"]

PointRange = tuple[int, int]
"""Range of points ``[start, stop)``."""


class VerdictWord(StrEnum):
    """Outcome of writing a scan."""

    COMPLETE = "complete"
    """Every point up to every seal is in the files."""
    PARTIAL = "partial"
    """Points are missing; the ledger names them."""
    FAILED = "failed"
    """There is no usable file."""

    @property
    def exit_code(self) -> ExitCode:
        """Exit code of a command whose scan has this verdict."""
        return ExitCode[self.name]


class ChannelLedger(BaseModel):
    """Counts and ranges of one channel's points.

    Attributes
    ----------
    expected : int
        Points up to the seal; up to the last one received if there is no seal.
    written : int
        Points that are in the files.
    missing : tuple of PointRange
        Points up to the seal that are not in the files, for any reason.
    duplicate : tuple of PointRange
        Points that were received twice.
    late : tuple of PointRange
        Points that were received after their place was closed.
    corrupt : tuple of PointRange
        Points that were damaged in transit.
    refused : tuple of PointRange
        Points that cannot be stored in the form in which they were sent.
    sealed : bool
        Whether the lane is sealed: the publisher stated the number of points.
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
        """Whether there is a seal and every point up to it is in the files."""
        return (
            self.sealed
            and self.written == self.expected
            and not (self.missing or self.late or self.corrupt or self.refused)
        )


class Verdict(BaseModel):
    """Verdict on a scan, its reason, and the ledgers from which it follows.

    Attributes
    ----------
    uid : str
        The scan's uid.
    verdict : VerdictWord
        The verdict in one word.
    provisional : bool
        True while the publisher may still come back.
    reason : str
        One sentence; empty when complete.
    end_reason : str
        Why the acquisition ended, empty if unknown.
    channels : dict
        Ledger per channel, and per static array of the metadata.
    master : str
        Path of the scan master, relative to the writer's root.
    notes : tuple of str
        What holds also of a complete scan, e.g. that frames are by reference and not
        checksummed.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)

    uid: ScanUid
    verdict: VerdictWord
    provisional: bool = False
    reason: PlainText = ""
    end_reason: PlainText = ""
    channels: dict[NexusName, ChannelLedger] = Field(default_factory=dict)
    master: PlainText = ""
    notes: tuple[PlainText, ...] = ()

    @property
    def is_dismissal(self) -> bool:
        """Whether somebody gave a scan up that its publisher had ended."""
        return (
            self.verdict is VerdictWord.FAILED
            and not self.provisional
            and not self.channels
            and bool(self.end_reason)
        )

    @property
    def of_data(self) -> dict[str, ChannelLedger]:
        """Ledgers of the channels that a program declared: without static arrays."""
        return {
            name: ledger
            for name, ledger in self.channels.items()
            if not name.startswith(STATIC_PREFIX)
        }


def ranges(points: Iterable[int]) -> tuple[PointRange, ...]:
    """Return ascending points as ranges of consecutive points.

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
