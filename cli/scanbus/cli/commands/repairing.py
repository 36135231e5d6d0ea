"""Commands that work on files alone, without a bus: master rebuild, salvage.

Each only turns its arguments into one call of the component that does it.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from scanbus.cli.commands.working import Root, print_verdict
from scanbus.cli.logs import log_to_stderr
from scanbus.cli.options import AsJson
from scanbus.cli.output import print_json, print_note, stdout
from scanbus.cli.progress import shown_progress

if TYPE_CHECKING:
    from scanbus.writer.masters.rebuild import SkippedScan
    from scanbus.writer.recovery.salvage import SalvageReport

__all__ = ["rebuild_masters", "salvage"]


def rebuild_masters(root: Root, *, as_json: AsJson = False) -> int:
    """Make all masters again, from the scans' files alone.

    Scans that are still being written, or were interrupted, are left as they are.

    Exit code: 0 all made, 2 a finished scan is damaged.
    """
    from scanbus.writer.masters.rebuild import rebuild  # noqa: PLC0415

    log_to_stderr()
    with shown_progress(quiet=as_json) as progress:
        report = rebuild(root, progress=progress)
    if as_json:
        masters = [str(path) for path in report.masters]
        print_json({"masters": masters, "skipped": [*map(asdict, report.skipped)]})
    else:
        _print_skipped(report.skipped)
        stdout().print(f"{len(report.masters)} masters written")
    return report.exit_code


def salvage(
    root: Root,
    scans: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SCAN]...", help="Uids or scan folders; all unfinished if none."
        ),
    ] = None,
    *,
    force: Annotated[
        bool,
        typer.Option("--force", help="Also where a writer moved a short while ago."),
    ] = False,
    as_json: AsJson = False,
) -> int:
    """Make partial scans of what writers left on the disk, when Redis was lost.

    As long as Redis has the scan, start a writer instead: it loses nothing.

    Exit code: 0 nothing was to be done, 2 scans are partial now, 3 some are refused.
    """
    from scanbus.writer.recovery.salvage import salvage as salvage_scans  # noqa: PLC0415

    log_to_stderr()
    with shown_progress(quiet=as_json) as progress:
        report = salvage_scans(root, scans or (), force=force, progress=progress)
    if as_json:
        print_json(_as_json(report))
    else:
        for scan in report.scans:
            print_verdict(scan.verdict, root)
            for sentence in scan.unusable:
                print_note(sentence)
        _print_skipped(report.skipped)
        stdout().print(f"{len(report.scans)} scans salvaged")
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


def _print_skipped(skipped: tuple[SkippedScan, ...]) -> None:
    for scan in skipped:
        print_note(f"{scan.scan}: {scan.reason}")
