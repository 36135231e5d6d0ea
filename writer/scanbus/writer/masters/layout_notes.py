"""Add to a verdict what the layouts of its scan lack."""

from __future__ import annotations

from scanbus.schemas import Verdict
from scanbus.writer.layouts.expected import layout_notes
from scanbus.writer.model.layout_choice import LayoutChoice
from scanbus.writer.model.scan_contents import ScanContents
from scanbus.writer.storage.provenance import stamp_now

__all__ = ["current_notes", "with_layout_notes"]


def current_notes(contents: ScanContents) -> tuple[str, ...]:
    """Return what the layouts of a finished scan lack now, with its corrections.

    The verdict keeps what they lacked when the scan was written.
    """
    verdict = contents.record.verdict
    return () if verdict is None else layout_notes(contents, verdict, stamp_now())


def with_layout_notes(contents: ScanContents) -> tuple[Verdict, LayoutChoice]:
    """Return a scan's verdict, which names what its layouts lack, and these layouts.

    Parameters
    ----------
    contents : ScanContents
        The scan, with its final verdict in the record.
    """
    verdict = contents.record.verdict
    if verdict is None:
        raise ValueError("the scan has no verdict yet")
    notes = layout_notes(contents, verdict, stamp_now())
    return verdict.model_copy(
        update={"notes": (*verdict.notes, *notes)}
    ), contents.choice
