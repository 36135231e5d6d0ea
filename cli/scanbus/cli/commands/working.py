"""Commands that work: writer, replay, check, publish files, demo.

Each only turns its arguments into one call of the component that does it.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from scanbus.cli.logs import log_to_stderr
from scanbus.cli.options import DEFAULT_REDIS, REDIS_VARIABLE, AsJson, RedisUrl
from scanbus.cli.output import coloured, print_json, stdout
from scanbus.cli.progress import shown_progress

if TYPE_CHECKING:
    from scanbus.schemas import PointRange, Verdict
    from scanbus.writer.check import CheckReport, Finding

__all__ = [
    "Root",
    "check",
    "close_scan",
    "demo",
    "print_verdict",
    "publish_files",
    "replay",
    "writer",
]

# A list of findings on a screen; --json has them all.
SHOWN_FINDINGS = 50

Root = Annotated[
    Path,
    typer.Option("--root", metavar="DIR", help="Folder under which files are made."),
]


def writer(
    root: Annotated[
        Path | None,
        typer.Option(
            "--root", metavar="DIR", help="Folder under which files are made."
        ),
    ] = None,
    *,
    once: Annotated[
        bool,
        typer.Option("--once", help="Leave when every announced scan has a verdict."),
    ] = False,
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="FILE", help="Settings, TOML."),
    ] = None,
    redis: Annotated[
        str | None,
        typer.Option(
            "--redis",
            metavar="URL",
            envvar=REDIS_VARIABLE,
            help=f"Where the bus is.  [default: {DEFAULT_REDIS}]",
        ),
    ] = None,
    memory_bytes: Annotated[
        int | None,
        typer.Option(help="Taken as Redis's memory where it has no maxmemory."),
    ] = None,
    lease_s: Annotated[
        float | None, typer.Option(help="How long a silent writer keeps its scans.")
    ] = None,
) -> int:
    """Write every scan on the bus into NeXus files; runs until it is stopped.

    Exit code with --once: 0 all complete, 2 some partial, 3 some failed.
    """
    from scanbus.writer import WriterSettings, run_writer  # noqa: PLC0415

    log_to_stderr(logging.INFO)
    settings = WriterSettings.load(
        config, root=root, redis=redis, memory_bytes=memory_bytes, lease_s=lease_s
    )
    if not once:
        return run_writer(settings, once=False, progress=None)
    with shown_progress() as progress:
        return run_writer(settings, once=True, progress=progress)


def replay(
    scan: Annotated[
        str, typer.Argument(metavar="SCAN", help="Uid, its start, number, or 'last'.")
    ],
    root: Root,
    *,
    redis: RedisUrl = DEFAULT_REDIS,
    as_json: AsJson = False,
) -> int:
    """Write a scan that is still on the bus once more, below another folder.

    Exit code: 0 complete, 2 partial, 3 failed.
    """
    from scanbus.writer import replay as write_again  # noqa: PLC0415

    log_to_stderr()
    with shown_progress(quiet=as_json) as progress:
        verdict = write_again(redis, scan, root, progress=progress)
    if as_json:
        print_json(verdict.model_dump(mode="json"))
    else:
        print_verdict(verdict, root)
    return verdict.verdict.exit_code


def print_verdict(verdict: Verdict, root: Path) -> None:
    """Print the word, its reason and what became of every channel."""
    console = stdout()
    console.print(coloured(verdict.verdict.value), verdict.reason, soft_wrap=True)
    table = Table("channel", "expected", "written", "missing", box=None)
    for name, ledger in verdict.channels.items():
        counts = str(ledger.expected), str(ledger.written)
        table.add_row(name, *counts, point_ranges(ledger.missing))
    console.print(table)
    if verdict.master:
        console.print(str(root / verdict.master), soft_wrap=True, markup=False)


def point_ranges(ranges: tuple[PointRange, ...], shown: int = 5) -> str:
    """Return ranges of points for a table, the first few of them.

    Examples
    --------
    >>> point_ranges(((3, 4), (7, 10)))
    '3, 7-9'
    """
    texts = [
        str(start) if stop == start + 1 else f"{start}-{stop - 1}"
        for start, stop in ranges[:shown]
    ]
    more = len(ranges) - shown
    return ", ".join(texts) + (f" and {more} more ranges" if more > 0 else "")


def check(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Masters or data files.")
    ],
    *,
    everything: Annotated[
        bool,
        typer.Option(
            "--all", help="Read every chunk, not 1 % and 20 chunks of each channel."
        ),
    ] = False,
    as_json: AsJson = False,
) -> int:
    """Prove files: every link, every count, and chunks against their checksums.

    Exit code: 0 in order, 2 data missing or wrong, 3 a file cannot be read at all.
    """
    from scanbus.writer.check import check_files  # noqa: PLC0415

    log_to_stderr()
    with shown_progress(quiet=as_json) as progress:
        report = check_files(files, everything=everything, progress=progress)
    if as_json:
        print(report.to_json())
    else:
        _print_report(report)
    return report.exit_code


def _print_report(report: CheckReport) -> None:
    console = stdout()
    for finding in report.findings[:SHOWN_FINDINGS]:
        console.print(_finding_line(finding), soft_wrap=True, markup=False)
    n_more = len(report.findings) - SHOWN_FINDINGS
    if n_more > 0:
        console.print(f"and {n_more} more; --json lists all")
    for note in report.notes:
        console.print(f"note: {note}", soft_wrap=True, markup=False)
    word = "in order" if report.ok else f"{len(report.findings)} problems"
    console.print(
        f"{word}: {report.n_files} files, {report.n_links} links; compared "
        f"{report.n_chunks_checked} of {report.n_chunks} chunks and "
        f"{report.n_entries_checked} of {report.n_entries} entries",
        soft_wrap=True,
        style="green" if report.ok else "red",
    )


def _finding_line(finding: Finding) -> str:
    where = f"{finding.file}::{finding.dataset}" if finding.dataset else finding.file
    hits = f" (points {point_ranges(finding.points)})" if finding.points else ""
    return f"{where}: {finding.problem}{hits}"


def publish_files(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH...", help="Images, in order: CBF, EDF, TIFF, also .gz, .bz2."
        ),
    ],
    *,
    redis: RedisUrl = DEFAULT_REDIS,
    proposal: Annotated[
        str | None, typer.Option(metavar="P", help="'files' if not given.")
    ] = None,
    sample: Annotated[
        str | None,
        typer.Option(
            "--sample",
            "--collection",
            metavar="S",
            help="The collection, if not the folder's name.",
        ),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(metavar="D", help="'0001' if not given.")
    ] = None,
    beamline: Annotated[
        str | None, typer.Option(metavar="B", help="'files' if not given.")
    ] = None,
    scan_number: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="The next free one if not given."),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(metavar="HZ", help="Frames per second; as fast as possible else."),
    ] = None,
    title: Annotated[
        str | None,
        typer.Option(metavar="T", help="By default the first file and how many."),
    ] = None,
    wait: Annotated[
        bool, typer.Option(help="Wait for the verdict, if a writer is alive.")
    ] = True,
) -> int:
    """Publish detector frames from files as one scan, with their headers' metadata."""
    from scanbus.publisher.gateways.files import (  # noqa: PLC0415
        publish_files as send_files,
    )

    log_to_stderr()
    with shown_progress() as progress:
        scan = send_files(
            redis,
            paths,
            proposal=proposal,
            beamline=beamline,
            collection=sample,
            dataset=dataset,
            scan_number=scan_number,
            title=title,
            rate_hz=rate,
            wait=wait,
            progress=progress,
        )
    stdout().print(f"scan {scan.uid}: {scan.n_frames} frames published")
    if scan.verdict is not None:
        print_verdict(scan.verdict, Path())
        return scan.verdict.verdict.exit_code
    if wait:
        stdout().print("no writer is alive: the scan stays on the bus until one is")
    return 0


def close_scan(
    scan: Annotated[str, typer.Argument(metavar="SCAN", help="uid or number.")],
    *,
    redis: RedisUrl = DEFAULT_REDIS,
    text: Annotated[
        str, typer.Option(metavar="T", help="Why; stands in the file.")
    ] = "closed by an operator",
) -> int:
    """End a scan whose publisher is gone for good; the writer then judges it."""
    from scanbus.publisher.recovery.operator_close import close_scan as close  # noqa: PLC0415

    uid = close(redis, scan, text=text)
    stdout().print(f"scan {uid} is closed; a writer gives the final verdict")
    return 0


def demo(
    *,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Where the files go."),
    ] = None,
    frames: Annotated[
        int, typer.Option("--frames", metavar="N", min=1, help="Detector frames.")
    ] = 100,
) -> int:
    """Watch a simulated scan go through a private Redis into a NeXus file."""
    from scanbus.cli.demo import run_demo  # noqa: PLC0415

    log_to_stderr()
    return run_demo(out, frames)
