"""What the commands of gateways share: their options, and how one is run."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from scanbus.cli.interrupts import leave_on_interrupt
from scanbus.cli.logs import log_to_stderr
from scanbus.cli.options import path_given
from scanbus.cli.output import print_verdict, stdout
from scanbus.cli.progress import shown_progress
from scanbus.schemas.errors import ScanbusError
from scanbus.schemas.exit_codes import ExitCode
from scanbus.schemas.wording import counted

if TYPE_CHECKING:
    from scanbus.publisher.gateways.runner import (
        Gateway,
        GatewayReport,
        GatewaySettings,
    )

__all__ = [
    "SIMULATED_FRAMES",
    "Beamline",
    "Dataset",
    "DetectorName",
    "FirstNumber",
    "MetricsPort",
    "Once",
    "Proposal",
    "QueueMb",
    "Sample",
    "Simulate",
    "SimulatedFrames",
    "SimulatedRate",
    "Socket",
    "SocketKind",
    "Spool",
    "Wait",
    "refuse_without_simulate",
    "run_gateway",
]


SIMULATED_FRAMES = 100


class SocketKind(StrEnum):
    """How a gateway takes the messages of a sender."""

    PULL = "pull"
    SUB = "sub"

    @property
    def sender(self) -> Literal["push", "pub"]:
        """Socket of the sender."""
        return "push" if self is SocketKind.PULL else "pub"


Once = Annotated[
    bool, typer.Option("--once", help="Exit when one series has its verdict.")
]
Proposal = Annotated[str, typer.Option(metavar="P", help="Proposal of the scans.")]
Sample = Annotated[
    str,
    typer.Option(
        "--sample", "--collection", metavar="S", help="Collection of the scans."
    ),
]
Dataset = Annotated[str, typer.Option(metavar="D", help="Dataset of the scans.")]
Beamline = Annotated[str, typer.Option(metavar="B", help="Beamline of the scans.")]
DetectorName = Annotated[
    str, typer.Option(metavar="NAME", help="Name of the detector in the scans.")
]
FirstNumber = Annotated[
    int | None,
    typer.Option(metavar="N", min=0, help="First frame number, by default learnt."),
]
Spool = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        parser=path_given,
        help="Local folder that keeps data until a file has them.",
    ),
]
QueueMb = Annotated[
    int, typer.Option(metavar="MB", min=1, help="Messages that wait for Redis, in MB.")
]
MetricsPort = Annotated[
    int | None,
    typer.Option(
        metavar="PORT", min=0, max=65535, help="Serve Prometheus metrics there."
    ),
]
Wait = Annotated[
    bool, typer.Option(help="With --once, wait for the verdict of a live writer.")
]
Socket = Annotated[
    SocketKind,
    typer.Option(
        help="Pull from a sender that pushes, or subscribe to one that publishes."
    ),
]
Simulate = Annotated[
    bool,
    typer.Option(
        "--simulate", help="Be the detector: listen at ADDRESS and send a series."
    ),
]
SimulatedFrames = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, help="Frames to simulate, by default 100."),
]
SimulatedRate = Annotated[
    float | None,
    typer.Option(
        metavar="HZ", min=0.001, help="Simulated frames per second; by default all."
    ),
]


def refuse_without_simulate(**given: object) -> None:
    """Refuse options of a simulated sender where none is simulated.

    Raises
    ------
    typer.BadParameter
        If one of them is given.
    """
    for name, value in given.items():
        if value is not None:
            raise typer.BadParameter(f"--{name} needs --simulate")


def run_gateway(
    gateway: Gateway, settings: GatewaySettings, metrics_port: int | None
) -> ExitCode:
    """Run a gateway until it ends or is stopped; print what it did, with ``--once``.

    Raises
    ------
    ScanbusError
        If Redis does not answer at the start, or the source cannot be opened or fails.
    """
    from scanbus.publisher.gateways.runner import (  # noqa: PLC0415 - loads numpy
        GatewayRunner,
        metrics_served,
        stopped_by_signals,
    )

    log_to_stderr(logging.INFO, is_service=True)
    with shown_progress(quiet=not settings.once) as progress:
        runner = GatewayRunner(gateway, settings, progress)
        with ExitStack() as stack:
            if metrics_port is not None:
                stack.enter_context(metrics_served(runner, metrics_port))
            stack.enter_context(stopped_by_signals(runner, leave_on_interrupt))
            try:
                report = runner.run()
            except ScanbusError:
                if settings.once:
                    _print_series(runner.so_far)
                raise
    if not settings.once:
        return ExitCode.COMPLETE
    if not report.series:
        stdout().print("no series came: there is no scan")
    _print_series(report)
    return report.exit_code


def _print_series(report: GatewayReport) -> None:
    """Print what became of the last series, if there was one."""
    for uid, counts in report.series[-1:]:
        stdout().print(
            f"scan {uid}: {counted(counts.frames, 'frame')} published, "
            f"{counts.missing} missing, "
            f"{counts.repeated} repeated, {counted(counts.refused, 'message')} refused"
        )
        if uid in report.verdicts:
            print_verdict(report.verdicts[uid], None)
        elif report.interrupted is not None:
            stdout().print(
                "interrupted before the verdict: the scan is safe on the bus, to its "
                "end; its verdict comes when a writer has written it (scanbus ls)"
            )
