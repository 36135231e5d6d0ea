"""``scanbus icat pending``: list the datasets that ICAT does not know."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scanbus.cli.interrupts import raise_on_interrupt
from scanbus.cli.logs import log_to_stderr
from scanbus.cli.options import AllowedRoots, AsJson, other_roots, path_given
from scanbus.cli.output import print_json, printable, stdout
from scanbus.schemas.exit_codes import ExitCode
from scanbus.schemas.wording import counted

__all__ = ["EXAMPLE", "run"]

EXAMPLE = "scanbus icat pending /data/visitor"


def run(
    root: Annotated[
        Path,
        typer.Argument(
            metavar="ROOT", parser=path_given, help="Root folder of the data."
        ),
    ],
    *,
    allowed_roots: AllowedRoots = None,
    as_json: AsJson = False,
) -> int:
    """List datasets of which ICAT does not know, or not all scans.

    Exit code: 0 none, 1 no root, 2 some.
    """
    from scanbus.writer import pending  # noqa: PLC0415

    raise_on_interrupt()
    log_to_stderr()
    found = pending(root, allowed_roots=other_roots(allowed_roots))
    if as_json:
        print_json([each._asdict() for each in found])
    else:
        for each in found:
            line = f"{printable(each.dataset)}: {printable(each.reason)}"
            stdout().print(line, soft_wrap=True, markup=False)
        stdout().print(f"{counted(len(found), 'dataset')} pending")
    return ExitCode.PARTIAL if found else ExitCode.COMPLETE
