"""What is known of a closed dataset: pure data, read by `dataset`."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

from scanbus.schemas import VerdictWord

__all__ = ["NEVER_S", "Activity", "DatasetContents", "DatasetPlace", "FinishedScan"]

NEVER_S: Final = float("-inf")
"""Time of what did not happen."""


class DatasetPlace(NamedTuple):
    """Where a dataset is.

    Attributes
    ----------
    root : pathlib.Path
        Root of all files.
    folder : pathlib.Path
        Folder of the dataset, absolute.
    proposal, beamline, session, collection, dataset : str
        As the names of the folders have them.
    """

    root: Path
    folder: Path
    proposal: str
    beamline: str
    session: str
    collection: str
    dataset: str

    @property
    def session_folder(self) -> Path:
        """Folder of all collections of the session."""
        return self.folder.parent.parent

    @property
    def name(self) -> str:
        """Path of the folder below the root, for people."""
        return str(self.folder.relative_to(self.root))


@dataclass(frozen=True, slots=True)
class FinishedScan:
    """A finished scan of a dataset.

    Attributes
    ----------
    number : int
        Its number.
    uid : str
        Its uid.
    verdict : VerdictWord
        In one word.
    reason : str
        Why it is not complete; empty if it is.
    """

    number: int
    uid: str
    verdict: VerdictWord
    reason: str = ""


@dataclass(frozen=True, slots=True)
class DatasetContents:
    """What the files say of a closed dataset.

    Attributes
    ----------
    place : DatasetPlace
        Where it is.
    proposal, beamline, sample : str
        As the publisher has them.
    start, end : datetime
        When its first scan began, and the last one ended.
    scans : tuple of FinishedScan
        By number.
    metadata : dict
        Those of all scans, merged in the order of their numbers, with corrections.
    codecs : dict
        By detector, the codec of its frames.
    """

    place: DatasetPlace
    proposal: str
    beamline: str
    sample: str
    start: datetime
    end: datetime
    scans: tuple[FinishedScan, ...]
    metadata: dict[str, Any] = field(default_factory=dict)
    codecs: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Activity:
    """What moves in a dataset's folder.

    Attributes
    ----------
    n_finished : int
        Scans with a scan file.
    began_s : float
        When its latest scan began, seconds since 1970 UTC; minus infinity if there is
        none.
    changed_s : float
        When the latest scan file was written, likewise.
    unfinished : tuple of str
        Names of scans that are being written, or were interrupted.
    """

    n_finished: int = 0
    began_s: float = NEVER_S
    changed_s: float = NEVER_S
    unfinished: tuple[str, ...] = ()
