"""Declare other scans of the dataset as parts of a sequence."""

from __future__ import annotations

from abc import abstractmethod

from scanbus.publisher.declare.references import FrameReferences
from scanbus.schemas import ScanIdentity

__all__ = ["Subscans"]


class Subscans(FrameReferences):
    """Other scans that a sequence has in its file; see ``Scan``."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[Subscans] = []

    @property
    @abstractmethod
    def identity(self) -> ScanIdentity:
        """Uid, folders and number of the scan."""

    def add_subscan(self, scan: Subscans) -> None:
        """Link another scan of the dataset in this one's file, as part of a sequence.

        Parameters
        ----------
        scan : Scan
            One that was opened; it need not be over.

        Raises
        ------
        ValueError
            If it is this scan, has it as a part, or is one of another dataset.
        ScanStateError
            If this scan is over, or the other one was never opened.
        """
        ours, part = self.identity, scan.identity
        if part.dataset_folder != ours.dataset_folder:
            raise ValueError(
                f"scan {part.uid} is in {part.dataset_folder}; a sequence links scans "
                f"of its own dataset, {ours.dataset_folder}"
            )
        if part.uid == ours.uid:
            raise ValueError(f"scan {ours.uid} cannot be part of itself")
        if self in scan._all_parts():
            raise ValueError(
                f"scan {part.uid} has {ours.uid} as a part: a reader that follows "
                "links would find no end"
            )
        self.update({"subscans": {f"{part.scan_number}.1": part.uid}})
        self._parts.append(scan)

    def _all_parts(self) -> list[Subscans]:
        """Return the scans of the sequence, and theirs."""
        found: list[Subscans] = []
        for part in self._parts:
            found += [part, *part._all_parts()]  # noqa: SLF001 - of this class
        return found
