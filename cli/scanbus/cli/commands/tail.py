"""``scanbus tail``: print the values of a scan live."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Final

import typer

from scanbus.cli.logs import log_to_stderr
from scanbus.cli.options import DEFAULT_REDIS, RedisUrl, subscriber_at
from scanbus.cli.output import print_note, stdout, to_json_line
from scanbus.schemas.exit_codes import ExitCode

if TYPE_CHECKING:
    from scanbus.subscriber import Batch, ScanReader

__all__ = ["EXAMPLE", "run"]

EXAMPLE = "scanbus tail last th diode"
_END_S: Final = 2.0
_POLL_S: Final = 0.05


def run(
    scan: Annotated[
        str,
        typer.Argument(metavar="SCAN", help="Uid, its start, number, or 'last'."),
    ] = "last",
    channels: Annotated[
        list[str] | None,
        typer.Argument(metavar="[CHANNEL...]", help="Channels, by default all."),
    ] = None,
    *,
    redis: RedisUrl = DEFAULT_REDIS,
    from_start: Annotated[
        bool,
        typer.Option("--from-start", help="Begin at the first point, not at new ones."),
    ] = False,
    latest: Annotated[
        bool, typer.Option("--latest", help="Skip values that came while printing.")
    ] = False,
    timeout_s: Annotated[
        float | None,
        typer.Option(
            help="Longest time without data, in seconds, by default unlimited.",
            min=0.0,
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object per line.")
    ] = False,
) -> int:
    """Print the values of a scan's channels live, until the scan ends."""
    log_to_stderr()
    with subscriber_at(redis) as subscriber:
        reader = subscriber.scan(scan)
        reader.wait_prepared(timeout_s)
        names = channels or list(reader.channels)
        _warn_if_over(reader, names, from_start=from_start)
        stream = reader.stream(
            *names,
            start=0 if from_start else "now",
            latest_only=latest,
            timeout_s=timeout_s,
        )
        for batch in stream:
            _print(batch, as_json=as_json)
        _wait_for_end(reader)
        print_note(_ending(reader))
    return ExitCode.COMPLETE


def _warn_if_over(reader: ScanReader, names: list[str], *, from_start: bool) -> None:
    if not from_start and all(reader.is_over(name) for name in names):
        print_note("this scan is over; --from-start prints its values")


def _wait_for_end(reader: ScanReader) -> None:
    """Wait a moment for the end of the scan, which follows the last seal."""
    deadline = time.monotonic() + _END_S
    while not reader.is_judged() and reader.record.ended is None:
        if time.monotonic() > deadline:
            return
        time.sleep(_POLL_S)


def _ending(reader: ScanReader) -> str:
    record = reader.record
    text = f"scan {record.identity.scan_number} ({record.uid}): {reader.state}"
    return f"{text}, {record.ended.end_reason.value}" if record.ended else text


def _print(batch: Batch, *, as_json: bool) -> None:
    from scanbus.cli.values import batch_as_dict, batch_as_line  # noqa: PLC0415

    if as_json:
        print(to_json_line(batch_as_dict(batch)), flush=True)
    else:
        stdout().print(batch_as_line(batch), markup=False, soft_wrap=True)
