"""Compare the files of a scan with its manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from scanbus.writer.check.report import Tally
from scanbus.writer.storage.hashing import hash_file
from scanbus.writer.storage.manifest import read_manifest

__all__ = ["MANIFEST_SUFFIX", "check_manifest"]

MANIFEST_SUFFIX: Final = ".sha256"
# A check that looks at samples hashes files of together so many bytes, smallest first.
_SAMPLE_BYTES: Final = 2**30


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
