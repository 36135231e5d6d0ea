"""What a check found, and the tally that it is gathered in.

Findings are what is wrong; notes are what a reader of the report should know of files
that are as they should be.
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
"""Called with a file, how many chunks or entries of it are done, and of how many."""

# What h5py, and what reads the texts in files, raise over damaged ones.
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
    """One thing that is wrong.

    Attributes
    ----------
    file, dataset : str
        Where; `dataset` is empty if it is the file as a whole.
    problem : str
        One sentence.
    points : tuple of PointRange
        The frames or points that it hits, counted in the scan; empty if unknown.
    """

    file: str
    dataset: str
    problem: str
    points: tuple[PointRange, ...] = ()


@dataclass(frozen=True)
class CheckReport:
    """What a check looked at and what it found.

    Attributes
    ----------
    findings : tuple of Finding
        What is wrong.
    notes : tuple of str
        What is not wrong, but should be known: a partial verdict, files without
        checksums, links that lead out of the folder.
    n_files, n_links, n_vds_sources : int
        Files, links and sources of virtual datasets, all of them looked at.
    n_chunks, n_entries : int
        Chunks and entries with a checksum; as many as ``…_checked`` were compared.
    unreadable : tuple of str
        Files that were asked for and could not be read at all.
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
    unreadable: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings

    @property
    def exit_code(self) -> ExitCode:
        """Complete if nothing is wrong; failed if a file cannot be read at all."""
        if self.unreadable:
            return ExitCode.FAILED
        return ExitCode.COMPLETE if self.ok else ExitCode.PARTIAL

    def to_json(self) -> str:
        """Return the report as JSON text."""
        return json.dumps({"ok": self.ok, **asdict(self)}, indent=2)


@dataclass(slots=True)
class Tally:
    """The report while it is being made."""

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

    def record(
        self,
        file: Path | str,
        dataset: str,
        problem: str,
        points: Iterable[PointRange] = (),
    ) -> None:
        """Take down something that is wrong."""
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
    ) -> None:
        """Count what was found, and what of it was compared."""
        self.n_files += files
        self.n_links += links
        self.n_vds_sources += vds_sources
        self.n_chunks += chunks
        self.n_chunks_checked += chunks_checked
        self.n_entries += entries
        self.n_entries_checked += entries_checked

    def note(self, text: str) -> None:
        """Take down something that should be known, once."""
        if text not in self.notes:
            self.notes.append(text)

    def report_progress(self, file: Path | str, done: int, total: int | None) -> None:
        """Tell whoever waits how far the check is."""
        if self.progress is not None:
            self.progress(str(file), done, total)

    @contextmanager
    def guard(
        self, file: Path | str, dataset: str, points: Iterable[PointRange] = ()
    ) -> Iterator[None]:
        """Make a finding of whatever a damaged file raises."""
        try:
            yield
        except UNREADABLE as error:
            sentence = f"cannot be read: {one_line(error)}"
            self.record(file, dataset, sentence, points)

    def at(self, file: Path | str, dataset: str) -> Spot:
        """Return a short hand for findings at one place."""
        return Spot(self, file, dataset)

    def report(self) -> CheckReport:
        """Return the report as it stands."""
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
            unreadable=tuple(self.unreadable),
        )


@dataclass(frozen=True, slots=True)
class Spot:
    """One dataset of one file, to take findings down at."""

    tally: Tally
    file: Path | str
    dataset: str

    def record(self, problem: str, points: Iterable[PointRange] = ()) -> None:
        """Take down something that is wrong here."""
        self.tally.record(self.file, self.dataset, problem, points)


def one_line(error: BaseException) -> str:
    """Return an error's text, short enough for a report."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else f"{text[:299]}…"
