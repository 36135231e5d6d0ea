"""``scanbus icat send``: send the message about one closed dataset."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scanbus.cli.icat_options import Brokers, BrokerTimeout, WithUsers, brokers_given
from scanbus.cli.interrupts import raise_on_interrupt
from scanbus.cli.logs import log_to_stderr
from scanbus.cli.options import AllowedRoots, AsJson, other_roots, path_given
from scanbus.cli.output import clock_time, print_json, print_note, stdout
from scanbus.cli.progress import shown_progress
from scanbus.schemas.wording import counted

if TYPE_CHECKING:
    from scanbus.writer import SendReport

__all__ = ["EXAMPLE", "run"]

EXAMPLE = "scanbus icat send lyso/lyso_0001 --broker mq.example.org:61613"

_SHOWN = 10


def run(
    dataset: Annotated[
        Path,
        typer.Argument(
            metavar="DATASET", parser=path_given, help="Folder of the dataset."
        ),
    ],
    *,
    broker: Brokers = None,
    again: Annotated[
        bool, typer.Option("--again", help="Send it although it was sent before.")
    ] = False,
    with_users: WithUsers = False,
    timeout: BrokerTimeout = 10.0,
    allowed_roots: AllowedRoots = None,
    as_json: AsJson = False,
) -> int:
    """Send the message about a closed dataset to ICAT, once.

    Without a broker, or while none answers, it waits as a file in __icat__.

    Exit code: 0 sent, now or before; 1 not closed, or no dataset; 2 it waits, or scans
    came after it was sent; 3 files are damaged.
    """
    from scanbus.writer import send_dataset  # noqa: PLC0415

    raise_on_interrupt()
    log_to_stderr()
    with shown_progress(quiet=as_json) as progress:
        report = send_dataset(
            dataset,
            brokers_given(broker),
            again=again,
            with_users=with_users,
            timeout_s=timeout,
            allowed_roots=other_roots(allowed_roots),
            progress=progress,
        )
    if as_json:
        path = report.message
        print_json({**asdict(report), "message": None if path is None else str(path)})
    else:
        _print(report)
    return report.exit_code


def _print(report: SendReport) -> None:
    stdout().print(_sentence(report), soft_wrap=True, markup=False)
    for scan in report.scans:
        if scan.reason:
            print_note(f"scan {scan.number} is {scan.verdict}: {scan.reason}")
    for sentence in report.problems:
        print_note(sentence)
    if report.unknown:
        named = ", ".join(report.unknown[:_SHOWN])
        more = ", …" if len(report.unknown) > _SHOWN else ""
        print_note(f"ICAT has no key for {named}{more}: they are in the files alone")


def _sentence(report: SendReport) -> str:
    dataset, when = report.dataset, clock_time(report.sent_s)
    match report.state:
        case "sent":
            n_scans = counted(len(report.scans), "scan")
            return f"sent: {dataset}, {n_scans}, to {report.broker}"
        case "waiting":
            return f"waiting: {report.message}: {report.reason}"
        case "sent before":
            return f"sent before: {dataset}, {when}, to {report.broker}"
    return (
        f"changed: {dataset} was sent {when}, and has other scans now; "
        "--again sends it anew"
    )
