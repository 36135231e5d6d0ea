"""Scan numbers that stay unique after Redis forgot its counters."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from scanbus.bus.store import Bus, raise_scan_number
from scanbus.writer.model.naming import RAW_DATA

__all__ = ["numbers_on_disk", "raise_numbers"]

_SCAN_FOLDER = re.compile(r"scan(\d{4,8})\Z")


def numbers_on_disk(root: Path) -> Iterator[tuple[str, int]]:
    """Yield every dataset's folder below the root, and its largest scan number."""
    for dataset in root.glob(f"*/*/*/{RAW_DATA}/*/*"):
        if not dataset.is_dir():
            continue
        found = [_SCAN_FOLDER.match(child.name) for child in dataset.iterdir()]
        numbers = [int(match[1]) for match in found if match]
        if numbers:
            yield str(dataset.relative_to(root)), max(numbers)


def raise_numbers(client: Bus, root: Path) -> None:
    """Have Redis count on from the numbers that stand on the disk."""
    for dataset, number in numbers_on_disk(root):
        raise_scan_number(client, dataset, number)
