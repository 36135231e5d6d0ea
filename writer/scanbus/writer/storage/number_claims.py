"""Claims of scan numbers, and the numbers that are taken in a dataset.

A number is claimed in the dataset's work folder before the first file of its scan
exists, so that two scans never share a folder. The claim is removed when the scan file
says the same. No file is opened here but claims: the service never loads HDF5.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from scanbus.schemas import MAX_COUNTED_NUMBER
from scanbus.schemas.claim_names import claim_name, parse_claim
from scanbus.schemas.errors import NameTakenError
from scanbus.schemas.file_names import (
    WORK_FOLDER,
    parse_scan_folder,
    parse_segment_file,
    parse_shared_segment,
    scan_folder_name,
    scan_master_name,
    values_file_name,
)
from scanbus.writer.storage.regular_file import read_regular

__all__ = [
    "claims",
    "files_of_number",
    "folder_of_number",
    "is_number_free",
    "last_number",
    "numbers",
    "release_claims",
    "release_unused_claims",
]


def is_number_free(dataset: Path, number: int) -> bool:
    """Return whether no scan of a dataset has a number, nor claims it."""
    if any(claimed == number for claimed, _ in claims(dataset)):
        return False
    try:
        return not list(files_of_number(folder_of_number(dataset, number), number))
    except NotADirectoryError:
        return False


def last_number(dataset: Path) -> int:
    """Return the largest number of a dataset that counts; 0 if none does.

    Not one like ``scan20261126235959``, which no scan has, or ``scan99999999``: the
    numbers would be used up.
    """
    claimed = (number for number, _ in claims(dataset))
    taken = (*numbers(dataset), *claimed)
    return max((each for each in taken if each <= MAX_COUNTED_NUMBER), default=0)


def release_claims(dataset: Path, owner: str) -> None:
    """Remove the claims of an owner whose files say its number."""
    for number, holder in tuple(claims(dataset)):
        if holder == owner:
            with suppress(FileNotFoundError):
                (dataset / WORK_FOLDER / claim_name(number)).unlink()


def release_unused_claims(dataset: Path, uid: str) -> None:
    """Remove the claims of a scan that was given up, of numbers without any file."""
    for number, holder in tuple(claims(dataset)):
        folder = folder_of_number(dataset, number)
        if holder == uid and not any(files_of_number(folder, number)):
            with suppress(FileNotFoundError):
                (dataset / WORK_FOLDER / claim_name(number)).unlink()


def folder_of_number(dataset: Path, number: int) -> Path:
    """Return the folder of the scan with a number."""
    return dataset / scan_folder_name(number)


def files_of_number(folder: Path, number: int) -> Iterator[Path]:
    """Yield what has the name of a file that scanbus writes for a scan.

    Raises
    ------
    NotADirectoryError
        If the folder is none.
    """
    own = (scan_master_name(number), values_file_name(number))
    with suppress(FileNotFoundError):
        for name in sorted(os.listdir(folder)):  # noqa: PTH208
            is_segment = parse_segment_file(name) or parse_shared_segment(name)
            if name in own or is_segment is not None:
                yield folder / name


def numbers(dataset: Path) -> Iterator[int]:
    """Yield the numbers of a dataset that have a folder."""
    with suppress(FileNotFoundError):
        for name in os.listdir(dataset):  # noqa: PTH208
            number = parse_scan_folder(name)
            if number is not None:
                yield number


def claims(dataset: Path) -> Iterator[tuple[int, str]]:
    """Yield each claimed number of a dataset, and its owner: a scan, or a replay."""
    base = dataset / WORK_FOLDER
    with suppress(FileNotFoundError, NotADirectoryError):
        for name in os.listdir(base):  # noqa: PTH208
            number = parse_claim(name)
            if number is not None:
                with suppress(FileNotFoundError, NameTakenError):
                    yield number, read_regular(base / name).decode("ascii", "replace")
