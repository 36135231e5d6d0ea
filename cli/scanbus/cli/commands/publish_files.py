"""``scanbus publish files``: publish detector frames from files as one scan."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scanbus.cli.interrupts import raise_on_interrupt
from scanbus.cli.logs import log_to_stderr
from scanbus.cli.options import (
    DEFAULT_REDIS,
    AsJson,
    Layouts,
    RedisUrl,
    TimeZone,
    path_given,
)
from scanbus.cli.output import print_json, print_note, print_verdict, stdout
from scanbus.cli.progress import shown_progress
from scanbus.schemas.exit_codes import ExitCode
from scanbus.schemas.wording import counted

if TYPE_CHECKING:
    from scanbus.publisher.gateways.files import PublishedScan

__all__ = ["EXAMPLE", "run"]

EXAMPLE = "scanbus publish files frames/*.cbf.bz2 --sample lysozyme"


def run(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH...",
            parser=path_given,
            help="Images or folders, in order: what fabio reads, and HDF5.",
        ),
    ],
    *,
    redis: RedisUrl = DEFAULT_REDIS,
    proposal: Annotated[
        str | None, typer.Option(metavar="P", help="Proposal, by default 'files'.")
    ] = None,
    sample: Annotated[
        str | None,
        typer.Option(
            "--sample",
            "--collection",
            metavar="S",
            help="Collection, by default the name of the first file's folder.",
        ),
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(metavar="D", help="Dataset, by default '0001'.")
    ] = None,
    beamline: Annotated[
        str | None, typer.Option(metavar="B", help="Beamline, by default 'files'.")
    ] = None,
    scan_number: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Scan number, by default the next one."),
    ] = None,
    layout: Layouts = None,
    rate: Annotated[
        float | None,
        typer.Option(metavar="HZ", help="Frames per second, by default unlimited."),
    ] = None,
    title: Annotated[
        str | None,
        typer.Option(metavar="T", help="Title, by default first file and file count."),
    ] = None,
    time_zone: TimeZone = None,
    wait: Annotated[
        bool, typer.Option(help="Wait for the verdict if a writer is alive.")
    ] = True,
    as_json: AsJson = False,
) -> int:
    """Publish detector frames from files as one scan, with metadata of their headers.

    Exit code: that of the verdict if it was waited for, 0 complete, 2 partial, 3
    failed; otherwise 0.
    """
    from scanbus.publisher.gateways.files import publish_files  # noqa: PLC0415

    raise_on_interrupt()
    log_to_stderr()
    with shown_progress(quiet=as_json) as progress:
        scan = publish_files(
            redis,
            paths,
            proposal=proposal,
            beamline=beamline,
            collection=sample,
            dataset=dataset,
            scan_number=scan_number,
            title=title,
            layouts=layout or (),
            rate_hz=rate,
            time_zone=time_zone,
            wait=wait,
            progress=progress,
        )
    exit_code = ExitCode.COMPLETE
    if scan.verdict is not None:
        exit_code = scan.verdict.verdict.exit_code
    if as_json:
        print_json(_as_json(scan))
        return exit_code
    stdout().print(f"scan {scan.uid}: {counted(scan.n_frames, 'frame')} published")
    for note in scan.notes:
        print_note(note)
    if scan.verdict is not None:
        print_verdict(scan.verdict, None)
    elif wait:
        stdout().print("no writer is alive: the scan stays on the bus until one is")
    return exit_code


def _as_json(scan: PublishedScan) -> dict[str, object]:
    verdict = scan.verdict
    return {
        "uid": scan.uid,
        "frames": scan.n_frames,
        "notes": scan.notes,
        "scan": scan.identity.model_dump(mode="json"),
        "verdict": None if verdict is None else verdict.model_dump(mode="json"),
    }
