"""``scanbus icat watch``: send the message of each dataset once it is closed."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from scanbus.cli.icat_options import Brokers, BrokerTimeout, WithUsers, brokers_given
from scanbus.cli.logs import log_to_stderr
from scanbus.cli.options import AllowedRoots, other_roots, path_given

__all__ = ["EXAMPLE", "run"]

EXAMPLE = "scanbus icat watch /data/visitor --broker mq.example.org:61613"


def run(
    root: Annotated[
        Path,
        typer.Argument(
            metavar="ROOT", parser=path_given, help="Root folder of the data."
        ),
    ],
    *,
    broker: Brokers = None,
    idle: Annotated[
        float,
        typer.Option(
            metavar="S",
            min=1,
            help="Seconds without a new scan after which a dataset is closed.",
        ),
    ] = 3600.0,
    period: Annotated[
        float, typer.Option(metavar="S", min=0.1, help="Seconds between two looks.")
    ] = 10.0,
    days: Annotated[
        float,
        typer.Option(
            metavar="N",
            min=0,
            help="Leave datasets alone in which nothing changed for N days.",
        ),
    ] = 7.0,
    once: Annotated[bool, typer.Option("--once", help="Look once and exit.")] = False,
    with_users: WithUsers = False,
    timeout: BrokerTimeout = 10.0,
    allowed_roots: AllowedRoots = None,
) -> int:
    """Tell ICAT of each dataset once it is closed, until stopped.

    A dataset is closed when a scan of another dataset of the proposal begins at the
    beamline, or after --idle seconds. What no broker takes waits in __icat__.

    Exit code: 0 stopped; with --once 2 if ICAT is not told of all; 1 no root.
    """
    from scanbus.writer import WatchSettings, run_watch  # noqa: PLC0415

    log_to_stderr(logging.INFO, is_service=True)
    settings = WatchSettings(
        root,
        brokers_given(broker),
        idle_s=idle,
        period_s=period,
        days=days,
        timeout_s=timeout,
        with_users=with_users,
        allowed_roots=tuple(other_roots(allowed_roots)),
    )
    return run_watch(settings, once=once)
