"""``scanbus ls``: list the scans on the bus."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from scanbus.cli.logs import log_to_stderr
from scanbus.cli.options import DEFAULT_REDIS, AsJson, RedisUrl, subscriber_at
from scanbus.cli.output import (
    age,
    clock_time,
    coloured,
    print_json,
    print_note,
    printable,
    short_uids,
    stdout,
)
from scanbus.schemas.exit_codes import ExitCode

if TYPE_CHECKING:
    from scanbus.subscriber import ScanInfo

__all__ = ["EXAMPLE", "points_text", "run", "scan_table"]

EXAMPLE = "scanbus ls --limit 10"


def run(
    *,
    redis: RedisUrl = DEFAULT_REDIS,
    limit: Annotated[
        int | None,
        typer.Option("--limit", metavar="N", min=1, help="Newest N only; default all."),
    ] = None,
    as_json: AsJson = False,
) -> int:
    """List the scans on the bus, the newest last."""
    log_to_stderr()
    with subscriber_at(redis) as subscriber:
        scans = subscriber.scans(limit)
    if as_json:
        print_json([asdict(scan) for scan in scans])
    elif scans:
        stdout().print(scan_table(scans, time.time()))
    else:
        print_note("no scans on this bus")
    return ExitCode.COMPLETE


def scan_table(scans: list[ScanInfo], now: float) -> Table:
    """Return the table of `scans`, with ages as of `now` (seconds since 1970)."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("number", justify="right", no_wrap=True)
    table.add_column("uid", no_wrap=True)
    table.add_column("title", overflow="ellipsis", no_wrap=True, ratio=1)
    table.add_column("proposal/sample/dataset", overflow="fold")
    table.add_column("state", no_wrap=True)
    table.add_column("points", justify="right", no_wrap=True)
    table.add_column("start", no_wrap=True)
    table.add_column("age", justify="right", no_wrap=True)
    uids = short_uids([scan.uid for scan in scans])
    for scan in scans:
        table.add_row(
            str(scan.number),
            uids[scan.uid],
            Text(printable(scan.title)),
            Text(f"{scan.proposal}/{scan.collection}/{scan.dataset}"),
            coloured(state_text(scan.state, scan.end_reason)),
            points_text(scan.points),
            clock_time(scan.start_time),
            age(now - scan.start_time),
        )
    return table


def state_text(state: str, end_reason: str) -> str:
    """Return a state, with the end reason unless it is SUCCESS.

    Both matter: a scan that was aborted can be written completely.

    Examples
    --------
    >>> state_text("complete", "SUCCESS"), state_text("complete", "USER_ABORT")
    ('complete', 'complete USER_ABORT')
    """
    return f"{state} {end_reason}" if end_reason not in {"", "SUCCESS"} else state


def points_text(points: dict[str, int]) -> str:
    """Return the number of points of the channels: one number, or fewest to most.

    Examples
    --------
    >>> points_text({"th": 10, "diode": 10, "eiger": 7})
    '7-10'
    >>> points_text({})
    ''
    """
    if not points:
        return ""
    fewest, most = min(points.values()), max(points.values())
    return str(most) if fewest == most else f"{fewest}-{most}"
