"""What the checks with h5py say of an item."""

from __future__ import annotations

from tests.checklist.sample import Sample
from tests.support.checklist import check_file, check_stamp

__all__ = ["problems", "unstamped"]


def problems(sample: Sample, number: int) -> list[str]:
    """Return what the checks with h5py say of an item, in all scan masters."""
    found = [said for path in sample.masters.values() for said in check_file(path)]
    return [said for said in found if said.startswith(f"{number}:")]


def unstamped(sample: Sample, number: int) -> list[str]:
    """Return what files of any kind do not say of their making."""
    found = [f"{said} of {path}" for path in sample.files for said in check_stamp(path)]
    return [said for said in found if said.startswith(f"{number}:")]
