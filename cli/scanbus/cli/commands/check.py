"""``scanbus check``: verify files against the checksums made by the publisher."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scanbus.cli.interrupts import raise_on_interrupt
from scanbus.cli.logs import log_to_stderr
from scanbus.cli.options import (
    AsJson,
    ExternalRoots,
    external_roots_given,
    path_given,
)
from scanbus.cli.output import point_ranges, printable, stdout
from scanbus.cli.progress import shown_progress
from scanbus.schemas.wording import counted

if TYPE_CHECKING:
    from scanbus.writer import CheckReport, Finding

__all__ = ["EXAMPLE", "run"]

EXAMPLE = "scanbus check scan0001/scan0001.h5 --all"


# Most findings printed as text; --json prints all.
SHOWN_FINDINGS = 50


def run(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="DIR|FILE...",
            parser=path_given,
            help="Masters, data files, manifests (.sha256), or folders with them.",
        ),
    ],
    *,
    everything: Annotated[
        bool,
        typer.Option(
            "--all",
            help="Read all chunks and files; by default 1 % of a channel's chunks, at "
            "least 20, and of the files in manifests 1 GiB, the smallest first.",
        ),
    ] = False,
    external_roots: ExternalRoots = None,
    as_json: AsJson = False,
) -> int:
    """Verify files: all links, all counts, chunks against checksums, and manifests.

    Exit code: 0 valid, 2 data missing or wrong, 3 a file cannot be read at all.
    """
    from scanbus.writer import check_files  # noqa: PLC0415

    raise_on_interrupt()
    log_to_stderr()
    with shown_progress(quiet=as_json) as progress:
        report = check_files(
            files,
            everything=everything,
            progress=progress,
            external_roots=external_roots_given(external_roots),
        )
    if as_json:
        print(report.to_json())
    else:
        _print_report(report)
    return report.exit_code


def _print_report(report: CheckReport) -> None:
    console = stdout()
    for finding in report.findings[:SHOWN_FINDINGS]:
        console.print(printable(_finding_line(finding)), soft_wrap=True, markup=False)
    n_more = len(report.findings) - SHOWN_FINDINGS
    if n_more > 0:
        console.print(f"and {n_more} more; --json lists all")
    for note in report.notes:
        console.print(printable(f"note: {note}"), soft_wrap=True, markup=False)
    word = "in order" if report.ok else counted(len(report.findings), "problem")
    console.print(
        f"{word}: {counted(report.n_files, 'file')}, "
        f"{counted(report.n_links, 'link')}; compared "
        f"{report.n_chunks_checked} of {counted(report.n_chunks, 'chunk')} and "
        f"{report.n_entries_checked} of {counted(report.n_entries, 'entry')}, "
        f"{report.n_digests_checked} of {counted(report.n_digests, 'file')} "
        f"with manifests",
        soft_wrap=True,
        style="green" if report.ok else "red",
    )


def _finding_line(finding: Finding) -> str:
    where = f"{finding.file}::{finding.dataset}" if finding.dataset else finding.file
    hits = f" (points {point_ranges(finding.points)})" if finding.points else ""
    return f"{where}: {finding.problem}{hits}"
