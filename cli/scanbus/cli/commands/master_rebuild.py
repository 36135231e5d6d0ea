"""``scanbus master rebuild``: rebuild all master files, without a bus."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from scanbus.cli.interrupts import raise_on_interrupt
from scanbus.cli.logs import log_to_stderr
from scanbus.cli.options import (
    AllowedRoots,
    AsJson,
    ChosenLayouts,
    ExternalRoots,
    Root,
    Templates,
    external_roots_given,
    other_roots,
    path_given,
)
from scanbus.cli.output import print_json, print_note, print_skipped, stdout
from scanbus.cli.progress import shown_progress
from scanbus.schemas.wording import counted

__all__ = ["EXAMPLE", "run"]

EXAMPLE = "scanbus master rebuild --root /data"


def run(
    root: Root,
    *,
    allowed_roots: AllowedRoots = None,
    external_roots: ExternalRoots = None,
    layouts: ChosenLayouts = None,
    templates: Templates = None,
    scans: Annotated[
        list[Path] | None,
        typer.Option(
            "--scan",
            metavar="FOLDER",
            parser=path_given,
            help="Folder of the only scan to rebuild; may be repeated.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Rebuild all master files from the files of the scans.

    With --layout, all finished scans, or those of --scan, get the files of another
    layout, too, and keep it.

    Scans that are still being written, or were interrupted, are skipped.

    Exit code: 0 all rebuilt, 2 a finished scan is damaged.
    """
    from scanbus.writer import rebuild  # noqa: PLC0415

    raise_on_interrupt()
    log_to_stderr()
    with shown_progress(quiet=as_json) as progress:
        report = rebuild(
            root,
            progress=progress,
            allowed_roots=other_roots(allowed_roots),
            external_roots=external_roots_given(external_roots),
            layouts=layouts or (),
            templates=templates or (),
            scans=scans or (),
        )
    if as_json:
        masters = [str(path) for path in report.masters]
        print_json(
            {
                "masters": masters,
                "skipped": [*map(asdict, report.skipped)],
                "notes": [*report.notes],
            }
        )
    else:
        print_skipped(report.skipped)
        for note in report.notes:
            print_note(note)
        stdout().print(f"{counted(len(report.masters), 'master')} written")
    return report.exit_code
