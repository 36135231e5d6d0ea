"""Add to a verdict what the layouts of its scan lack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from scanbus.schemas import Verdict
from scanbus.writer.layouts.expected import layout_notes
from scanbus.writer.model.layout_choice import LayoutChoice
from scanbus.writer.model.scan_contents import ScanContents
from scanbus.writer.storage.provenance import stamp_now
from scanbus.writer.storage.sealed_numbers import sealed_numbers
from scanbus.writer.storage.shared_sections import Section

__all__ = ["current_notes", "with_layout_notes"]


def current_notes(contents: ScanContents) -> tuple[str, ...]:
    """Return what the layouts of a finished scan lack now, with its corrections.

    The verdict keeps what they lacked when the scan was written.
    """
    verdict = contents.record.verdict
    return () if verdict is None else layout_notes(contents, verdict, stamp_now())


def with_layout_notes(
    contents: ScanContents, sections: Mapping[str, Sequence[Section]]
) -> tuple[Verdict, LayoutChoice]:
    """Return a scan's verdict, which names what its layouts lack, and these layouts.

    Parameters
    ----------
    contents : ScanContents
        The scan, with its final verdict in the record.
    sections : mapping
        Of `sealed_numbers`, from which its scan file is made.
    """
    verdict, prepared = contents.record.verdict, contents.record.prepared
    if verdict is None:
        raise ValueError("the scan has no verdict yet")
    if contents.choice.names and prepared is not None:
        numbers = sealed_numbers(prepared, sections)
        contents = replace(contents, positions=numbers)
    notes = layout_notes(contents, verdict, stamp_now())
    return verdict.model_copy(
        update={"notes": (*verdict.notes, *notes)}
    ), contents.choice
