"""``scanbus writer``: write every scan on the bus into NeXus files."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from scanbus.cli.interrupts import raise_on_interrupt
from scanbus.cli.logs import log_to_stderr
from scanbus.cli.options import DEFAULT_REDIS, REDIS_VARIABLE, path_given
from scanbus.cli.progress import shown_progress

__all__ = ["EXAMPLE", "run"]

EXAMPLE = "scanbus writer --root /data/visitor --once"


def run(
    root: Annotated[
        Path | None,
        typer.Option(
            "--root",
            metavar="DIR",
            parser=path_given,
            help="Root folder of the data, unless set in the settings.",
        ),
    ] = None,
    *,
    once: Annotated[
        bool,
        typer.Option("--once", help="Exit when all announced scans have a verdict."),
    ] = False,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", metavar="FILE", parser=path_given, help="Settings file, TOML."
        ),
    ] = None,
    redis: Annotated[
        str | None,
        typer.Option(
            "--redis",
            metavar="URL",
            envvar=REDIS_VARIABLE,
            help=f"Address of Redis, by default {DEFAULT_REDIS}.",
        ),
    ] = None,
    memory_bytes: Annotated[
        str | None,
        typer.Option(
            metavar="BYTES",
            help="Assumed memory of Redis if it has no maxmemory, by default 4 GiB.",
        ),
    ] = None,
    lease_s: Annotated[
        float | None,
        typer.Option(
            help="Lease duration, in seconds; after it another writer may take over."
        ),
    ] = None,
) -> int:
    """Write all scans on the bus to NeXus files, until stopped.

    Exit code with --once: 0 all complete, 2 some partial, 3 some failed.
    """
    from scanbus.writer import WriterSettings, run_writer  # noqa: PLC0415

    raise_on_interrupt()
    log_to_stderr(logging.INFO, is_service=True)
    settings = WriterSettings.load(
        config, root=root, redis=redis, memory_bytes=memory_bytes, lease_s=lease_s
    )
    if not once:
        return run_writer(settings, once=False, progress=None)
    with shown_progress() as progress:
        return run_writer(settings, once=True, progress=progress)
