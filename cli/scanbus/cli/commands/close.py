"""``scanbus close``: close a scan whose publisher is gone for good."""

from __future__ import annotations

from typing import Annotated

import typer

from scanbus.cli.interrupts import raise_on_interrupt
from scanbus.cli.options import DEFAULT_REDIS, RedisUrl
from scanbus.cli.output import stdout
from scanbus.schemas.exit_codes import ExitCode

__all__ = ["EXAMPLE", "run"]

EXAMPLE = "scanbus close 3f2a91c0 --text 'it crashed'"


def run(
    scan: Annotated[
        str, typer.Argument(metavar="SCAN", help="Uid, its start, or number.")
    ],
    *,
    redis: RedisUrl = DEFAULT_REDIS,
    text: Annotated[
        str, typer.Option(metavar="T", help="Reason, for the notes in the file.")
    ] = "closed by an operator",
    dismiss: Annotated[
        bool,
        typer.Option(
            "--dismiss", help="Give it up: verdict failed, and nothing more is written."
        ),
    ] = False,
) -> int:
    """Close a scan whose publisher is gone for good.

    Its lanes are sealed and the scan ends with FAILURE; a writer then gives the final
    verdict. A scan that ended, and cannot be written, can only be dismissed.
    """
    from scanbus.publisher import close_scan  # noqa: PLC0415

    raise_on_interrupt()
    uid = close_scan(redis, scan, text=text, dismiss=dismiss)
    what = "dismissed" if dismiss else "closed; a writer gives the final verdict"
    stdout().print(f"scan {uid} is {what}")
    return ExitCode.COMPLETE
