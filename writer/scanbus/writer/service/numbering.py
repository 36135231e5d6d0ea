"""Scan numbers that stay unique after Redis has lost its counters."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from scanbus.bus.store import Bus, raise_scan_number
from scanbus.schemas.file_names import DATASETS_GLOB, parse_scan_folder

__all__ = ["numbers_on_disk", "raise_numbers"]


def numbers_on_disk(root: Path) -> Iterator[tuple[str, int]]:
    """Yield each dataset's folder, relative to the root, and largest scan number."""
    for dataset in root.glob(DATASETS_GLOB):
        if not dataset.is_dir():
            continue
        found = [parse_scan_folder(child.name) for child in dataset.iterdir()]
        numbers = [number for number in found if number is not None]
        if numbers:
            yield str(dataset.relative_to(root)), max(numbers)


def raise_numbers(client: Bus, root: Path) -> None:
    """Raise Redis's counters to at least the scan numbers on the disk."""
    for dataset, number in numbers_on_disk(root):
        raise_scan_number(client, dataset, number)
