"""Compare the files of a scan with its manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from scanbus.schemas.errors import NameTakenError
from scanbus.schemas.file_names import (
    SegmentName,
    amendments_name,
    parse_scan_folder,
    parse_segment_file,
    parse_shared_segment,
    scan_master_name,
    values_file_name,
)
from scanbus.schemas.layout_names import added_layouts_name
from scanbus.schemas.running_files import parse_values_part
from scanbus.writer.check.report import Tally
from scanbus.writer.layouts.profiles import LAYOUT_ATTRIBUTE
from scanbus.writer.storage.hashing import hash_file
from scanbus.writer.storage.hdf5 import open_hdf5
from scanbus.writer.storage.manifest import read_manifest

__all__ = ["LAYOUT_SUFFIXES", "MANIFEST_SUFFIX", "check_manifest"]

LAYOUT_SUFFIXES: Final = (".h5", ".nxs", ".cxi", ".hdf5")
"""Of files of layouts."""
MANIFEST_SUFFIX: Final = ".sha256"
# A check that looks at samples hashes files of together so many bytes, smallest first.
_SAMPLE_BYTES: Final = 2**30
# Names in one sentence.
_SHOWN: Final = 5


def check_manifest(path: Path, tally: Tally, *, everything: bool) -> None:
    """Compare files with a manifest; those beyond a gibibyte only if all are asked for.

    Parameters
    ----------
    path : pathlib.Path
        The manifest; its files are beside it.
    everything : bool
        Whether all files are compared, however large they are.
    """
    with tally.guard(path, ""):
        digests = read_manifest(path)
        # A running scan joins segments, and removes those that it has joined.
        joined = _joined(digests)
        for name in tuple(digests):
            if _is_part_of(name, joined) and _size_of(path.with_name(name)) < 0:
                del digests[name]
        tally.count(digests=len(digests))
        sizes = {name: _size_of(path.with_name(name)) for name in digests}
        budget = _SAMPLE_BYTES
        for name, size in sorted(sizes.items(), key=lambda one: one[1]):
            file = path.with_name(name)
            if size < 0:
                tally.record(
                    file, "", f"not there, but the manifest {path.name} has it"
                )
                continue
            budget -= size
            if everything or budget >= 0:
                _compare(file, digests[name], path, tally)
        _check_added(path, digests, tally)


def _check_added(path: Path, digests: Mapping[str, str], tally: Tally) -> None:
    """Name what stands beside a finished scan, but was not written with it."""
    number = parse_scan_folder(path.parent.name)
    if number is None or values_file_name(number) not in digests:
        return
    ours = {
        path.name,
        scan_master_name(number),
        amendments_name(number),
        added_layouts_name(number),
    }
    others: list[str] = []
    joined = _joined(digests)
    for name in sorted(each.name for each in path.parent.iterdir()):
        is_ours = name in ours or name in digests or name.startswith(".")
        if is_ours or _is_part_of(name, joined) or _is_of_running_scan(name):
            continue
        if parse_segment_file(name) is None:
            if not _is_layout(path.with_name(name)):
                others.append(name)
            continue
        sentence = f"it was added later: the manifest {path.name} does not have it"
        tally.record(path.with_name(name), "", sentence)
    if others:
        names = ", ".join(others[:_SHOWN])
        more = f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
        tally.note(f"{path.parent}: not files of the scan: {names}{more}")


def _joined(digests: Mapping[str, str]) -> list[SegmentName]:
    found = (parse_segment_file(name) for name in digests)
    return [part for part in found if part is not None and part.is_joined]


def _is_part_of(name: str, joined: Sequence[SegmentName]) -> bool:
    """Whether a segment was replaced by a joined one, and stays for a grace period."""
    part = parse_segment_file(name)
    return part is not None and any(
        whole.lane == part.lane
        and whole.number <= part.number <= part.last <= whole.last
        and whole != part
        for whole in joined
    )


def _is_of_running_scan(name: str) -> bool:
    """Whether the writer removes it when the scan is over, after a grace period."""
    is_shared = parse_shared_segment(name) is not None
    return is_shared or parse_values_part(name) is not None


def _is_layout(path: Path) -> bool:
    """Whether it is a master of another layout, which can be made again at any time."""
    if path.suffix not in LAYOUT_SUFFIXES or not path.name.startswith(path.parent.name):
        return False
    try:
        with open_hdf5(path) as file:
            return LAYOUT_ATTRIBUTE in file.attrs
    except (OSError, NameTakenError):
        return False


def _size_of(path: Path) -> int:
    """Return the size of a file in bytes; -1 if it is not there."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return -1


def _compare(file: Path, expected: str, manifest: Path, tally: Tally) -> None:
    done, total = 0, file.stat().st_size

    def report(n_bytes: int) -> None:
        nonlocal done
        done += n_bytes
        tally.report_progress(file, done, total)

    with tally.guard(file, ""):
        found = hash_file(file, report)
        tally.count(digests_checked=1)
        if found != expected:
            tally.record(
                file,
                "",
                "it was changed, or its disk is damaged: its SHA-256 is "
                f"{found[:12]}…, in the manifest {manifest.name} {expected[:12]}…",
            )
