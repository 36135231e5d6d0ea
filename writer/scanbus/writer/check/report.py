"""The report of a check, and the tally that collects it.

Findings are problems; notes are facts about valid files that a reader should know.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from scanbus.schemas import PointRange
from scanbus.schemas.errors import ScanbusError
from scanbus.schemas.exit_codes import ExitCode
from scanbus.writer.model.ledger import joined

__all__ = [
    "UNREADABLE",
    "CheckReport",
    "Finding",
    "Progress",
    "Spot",
    "Tally",
    "one_line",
]

Progress = Callable[[str, int, int | None], None]
"""Called with ``(file, chunks or entries done, total or None)``."""

# Errors of h5py and the parsers on damaged files.
UNREADABLE: Final = (
    OSError,
    RuntimeError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    ArithmeticError,
    MemoryError,
    ScanbusError,
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem.

    Attributes
    ----------
    file, dataset : str
        File, and path in it; `dataset` is empty if the file as a whole is concerned.
    problem : str
        One sentence.
    points : tuple of PointRange
        Affected points or frames, numbered in the scan; empty if unknown.
    """

    file: str
    dataset: str
    problem: str
    points: tuple[PointRange, ...] = ()


@dataclass(frozen=True)
class CheckReport:
    """Result of a check.

    Attributes
    ----------
    findings : tuple of Finding
        Problems.
    notes : tuple of str
        Facts that are not problems: a partial verdict, files without checksums, links
        that lead out of the folder.
    n_files, n_links, n_vds_sources : int
        Number of files, links and sources of virtual datasets; all were checked.
    n_chunks, n_entries : int
        Number of chunks and entries with a checksum.
    n_chunks_checked, n_entries_checked : int
        Number of those that were compared with their checksum.
    n_digests, n_digests_checked : int
        Number of files in manifests, and of those that were compared with them.
    unreadable : tuple of str
        Files given by the user that could not be read at all.
    """

    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()
    n_files: int = 0
    n_links: int = 0
    n_vds_sources: int = 0
    n_chunks: int = 0
    n_chunks_checked: int = 0
    n_entries: int = 0
    n_entries_checked: int = 0
    n_digests: int = 0
    n_digests_checked: int = 0
    unreadable: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether there are no findings."""
        return not self.findings

    @property
    def exit_code(self) -> ExitCode:
        """``FAILED`` if a given file is unreadable, ``PARTIAL`` if any has findings."""
        if self.unreadable:
            return ExitCode.FAILED
        return ExitCode.COMPLETE if self.ok else ExitCode.PARTIAL

    def to_json(self) -> str:
        """Return the report as JSON text."""
        return json.dumps({"ok": self.ok, **asdict(self)}, indent=2)


@dataclass(slots=True)
class Tally:
    """A report in the making."""

    progress: Progress | None = None
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    n_files: int = 0
    n_links: int = 0
    n_vds_sources: int = 0
    n_chunks: int = 0
    n_chunks_checked: int = 0
    n_entries: int = 0
    n_entries_checked: int = 0
    n_digests: int = 0
    n_digests_checked: int = 0

    def record(
        self,
        file: Path | str,
        dataset: str,
        problem: str,
        points: Iterable[PointRange] = (),
    ) -> None:
        """Record a finding."""
        self.findings.append(Finding(str(file), dataset, problem, joined(points)))

    def count(
        self,
        *,
        files: int = 0,
        links: int = 0,
        vds_sources: int = 0,
        chunks: int = 0,
        chunks_checked: int = 0,
        entries: int = 0,
        entries_checked: int = 0,
        digests: int = 0,
        digests_checked: int = 0,
    ) -> None:
        """Add to the counts of items found and compared."""
        self.n_files += files
        self.n_links += links
        self.n_vds_sources += vds_sources
        self.n_chunks += chunks
        self.n_chunks_checked += chunks_checked
        self.n_entries += entries
        self.n_entries_checked += entries_checked
        self.n_digests += digests
        self.n_digests_checked += digests_checked

    def note(self, text: str) -> None:
        """Add a note, unless it is there already."""
        if text not in self.notes:
            self.notes.append(text)

    def report_progress(self, file: Path | str, done: int, total: int | None) -> None:
        """Call the progress callback, if there is one."""
        if self.progress is not None:
            self.progress(str(file), done, total)

    @contextmanager
    def guard(
        self, file: Path | str, dataset: str, points: Iterable[PointRange] = ()
    ) -> Iterator[None]:
        """Convert errors caused by damaged files into findings."""
        try:
            yield
        except UNREADABLE as error:
            sentence = f"cannot be read: {one_line(error)}"
            self.record(file, dataset, sentence, points)

    def at(self, file: Path | str, dataset: str) -> Spot:
        """Return an object that records findings for one dataset."""
        return Spot(self, file, dataset)

    def report(self) -> CheckReport:
        """Return the report."""
        return CheckReport(
            findings=tuple(self.findings),
            notes=tuple(self.notes),
            n_files=self.n_files,
            n_links=self.n_links,
            n_vds_sources=self.n_vds_sources,
            n_chunks=self.n_chunks,
            n_chunks_checked=self.n_chunks_checked,
            n_entries=self.n_entries,
            n_entries_checked=self.n_entries_checked,
            n_digests=self.n_digests,
            n_digests_checked=self.n_digests_checked,
            unreadable=tuple(self.unreadable),
        )


@dataclass(frozen=True, slots=True)
class Spot:
    """Records findings for one dataset of one file."""

    tally: Tally
    file: Path | str
    dataset: str

    def record(self, problem: str, points: Iterable[PointRange] = ()) -> None:
        """Record a finding for this dataset."""
        self.tally.record(self.file, self.dataset, problem, points)


def one_line(error: BaseException) -> str:
    """Return an error's text on one line, at most 300 characters long."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else f"{text[:299]}…"
