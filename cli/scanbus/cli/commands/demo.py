"""``scanbus demo``: write a simulated scan to a NeXus file, and show it live."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scanbus.cli.interrupts import raise_on_interrupt
from scanbus.cli.logs import log_to_stderr
from scanbus.cli.options import path_given

__all__ = ["EXAMPLE", "run"]

EXAMPLE = "scanbus demo --out /tmp/scanbus-demo --frames 200"


def run(
    *,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="DIR",
            parser=path_given,
            help="Output folder, by default scanbus-demo.",
        ),
    ] = None,
    frames: Annotated[
        int, typer.Option("--frames", metavar="N", min=1, help="Detector frames.")
    ] = 100,
) -> int:
    """Send a simulated scan through a private Redis into a NeXus file."""
    from scanbus.cli.demo import run_demo  # noqa: PLC0415

    raise_on_interrupt()
    log_to_stderr()
    return run_demo(out, frames)
