"""``scanbus publish resume``: finish the scans in the spool of a dead publisher."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from scanbus.cli.interrupts import raise_on_interrupt
from scanbus.cli.logs import log_to_stderr
from scanbus.cli.options import DEFAULT_REDIS, RedisUrl, path_given
from scanbus.cli.output import coloured, stdout
from scanbus.schemas.exit_codes import ExitCode

__all__ = ["EXAMPLE", "run"]

EXAMPLE = "scanbus publish resume --spool /var/spool/scanbus"


def run(
    spool: Annotated[
        Path,
        typer.Option(
            "--spool",
            metavar="DIR",
            parser=path_given,
            help="The publisher's spool folder.",
        ),
    ],
    *,
    redis: RedisUrl = DEFAULT_REDIS,
    timeout_s: Annotated[
        float, typer.Option(help="Longest wait for the verdicts, in seconds.")
    ] = 600.0,
) -> int:
    """Finish sending and close scans of dead publishers.

    Scans of a live publisher are skipped. A scan that was closed meanwhile does not
    change: what it lacks is published as a new scan. Of a damaged scan all is sent that
    can be read, and its folder is kept as .damaged-UID.

    Exit code: 0 all complete, 2 some partial, 3 some failed, cannot be read, or are
    without a verdict yet, or there is no spool.
    """
    from scanbus.publisher import Publisher, check_spool  # noqa: PLC0415

    raise_on_interrupt()
    log_to_stderr()
    check_spool(spool)
    with Publisher(
        redis, name="scanbus-resume", spool=spool, close_timeout_s=timeout_s
    ) as publisher:
        pass  # Leaving waits for the verdicts.
    table = Table("scan", "verdict", "reason", box=None)
    exit_code = ExitCode.COMPLETE
    for uid, verdict in publisher.resumed.items():
        if verdict is None:
            reason = publisher.why_not_judged(uid) or "its data stay in the spool"
            table.add_row(uid, "none", reason)
            exit_code = ExitCode.FAILED
        else:
            word = verdict.verdict
            table.add_row(uid, coloured(word.value), verdict.reason)
            exit_code = max(exit_code, word.exit_code)
    for error in publisher.unreadable:
        table.add_row(_folder_in(spool, Path(error.path)), "none", str(error))
        exit_code = ExitCode.FAILED
    if table.row_count:
        stdout().print(table)
    else:
        stdout().print(f"nothing to resume in {spool}", markup=False)
    return exit_code


def _folder_in(spool: Path, path: Path) -> str:
    """Return the folder of a spool's scan that a path is in: the scan's uid."""
    inside = path.absolute().relative_to(spool.absolute())
    return inside.parts[0] if inside.parts else path.name
