"""``scanbus salvage``: recover partial scans from the disk after a loss of Redis."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from scanbus.cli.interrupts import raise_on_interrupt
from scanbus.cli.logs import log_to_stderr
from scanbus.cli.options import (
    AllowedRoots,
    AsJson,
    ExternalRoots,
    Root,
    external_roots_given,
    other_roots,
)
from scanbus.cli.output import (
    print_json,
    print_note,
    print_skipped,
    print_verdict,
    stdout,
)
from scanbus.cli.progress import shown_progress
from scanbus.schemas.wording import counted

if TYPE_CHECKING:
    from scanbus.writer import SalvageReport

__all__ = ["EXAMPLE", "run"]

EXAMPLE = "scanbus salvage --root /data/visitor"


def run(
    root: Root,
    scans: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SCAN]...",
            help="Uids or scan folders, by default all unfinished scans.",
        ),
    ] = None,
    *,
    force: Annotated[
        bool,
        typer.Option("--force", help="Include scans that a writer changed recently."),
    ] = False,
    allowed_roots: AllowedRoots = None,
    external_roots: ExternalRoots = None,
    as_json: AsJson = False,
) -> int:
    """Recover partial scans from files that writers left, after a loss of Redis.

    If Redis still has a scan, start a writer instead: it loses no data.

    Exit code: 0 nothing to recover, 2 scans are partial now, 3 some are refused.
    """
    from scanbus.writer import salvage  # noqa: PLC0415

    raise_on_interrupt()
    log_to_stderr()
    with shown_progress(quiet=as_json) as progress:
        report = salvage(
            root,
            scans or (),
            force=force,
            progress=progress,
            allowed_roots=other_roots(allowed_roots),
            external_roots=external_roots_given(external_roots),
        )
    if as_json:
        print_json(_as_json(report))
    else:
        for scan in report.scans:
            print_verdict(scan.verdict, root)
            for sentence in scan.unusable:
                print_note(sentence)
        print_skipped(report.skipped)
        stdout().print(f"{counted(len(report.scans), 'scan')} salvaged")
    return report.exit_code


def _as_json(report: SalvageReport) -> dict[str, object]:
    scans = [
        {
            "folder": scan.folder,
            "verdict": scan.verdict.model_dump(mode="json"),
            "unusable": scan.unusable,
        }
        for scan in report.scans
    ]
    return {"scans": scans, "skipped": [*map(asdict, report.skipped)]}
