"""``scanbus publish dectris``: publish a DECTRIS detector's stream."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from scanbus.cli.logs import log_to_stderr
from scanbus.cli.options import DEFAULT_REDIS, RedisUrl, path_given
from scanbus.cli.output import print_verdict, stdout
from scanbus.cli.progress import shown_progress
from scanbus.schemas.exit_codes import ExitCode

__all__ = ["EXAMPLE", "run"]

EXAMPLE = "scanbus publish dectris tcp://eiger:9999 --once --sample lysozyme"


class _Stream(StrEnum):
    V1 = "v1"
    V2 = "v2"


def run(
    address: Annotated[
        str,
        typer.Argument(
            metavar="ADDRESS",
            help="ZeroMQ address of the detector: tcp://HOST:9999 (V1), :31001 (V2).",
        ),
    ],
    *,
    redis: RedisUrl = DEFAULT_REDIS,
    once: Annotated[
        bool, typer.Option("--once", help="Exit when one series has its verdict.")
    ] = False,
    proposal: Annotated[
        str, typer.Option(metavar="P", help="Proposal of the scans.")
    ] = "proposal",
    sample: Annotated[
        str,
        typer.Option(
            "--sample", "--collection", metavar="S", help="Collection of the scans."
        ),
    ] = "sample",
    dataset: Annotated[
        str, typer.Option(metavar="D", help="Dataset of the scans.")
    ] = "0001",
    beamline: Annotated[
        str, typer.Option(metavar="B", help="Beamline of the scans.")
    ] = "id00",
    detector: Annotated[
        str, typer.Option(metavar="NAME", help="Name of the detector in the scans.")
    ] = "detector",
    first_number: Annotated[
        int | None,
        typer.Option(metavar="N", min=0, help="First frame number, by default learnt."),
    ] = None,
    spool: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", parser=path_given, help="Folder on a local disk, to survive."
        ),
    ] = None,
    queue_mb: Annotated[
        int,
        typer.Option(metavar="MB", min=1, help="Messages that wait for Redis, in MB."),
    ] = 512,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            metavar="PORT", min=0, max=65535, help="Serve Prometheus metrics there."
        ),
    ] = None,
    wait: Annotated[
        bool, typer.Option(help="With --once, wait for the verdict of a live writer.")
    ] = True,
    simulate: Annotated[
        bool,
        typer.Option(
            "--simulate", help="Be the detector: listen at ADDRESS and send a series."
        ),
    ] = False,
    frames: Annotated[
        int, typer.Option(metavar="N", min=1, help="Frames to simulate.")
    ] = 100,
    rate: Annotated[
        float | None,
        typer.Option(metavar="HZ", help="Simulated frames per second; by default all."),
    ] = None,
    stream: Annotated[
        _Stream, typer.Option(help="Stream to simulate; both are received.")
    ] = _Stream.V1,
) -> int:
    """Publish each series of a DECTRIS detector as a scan, its frames unchanged.

    Exit code: with --once that of the verdict, at least 2 if messages were refused.
    """
    from scanbus.publisher.gateways.dectris import (  # noqa: PLC0415
        DectrisGateway,
        SimulatedDetector,
        simulate_series,
    )
    from scanbus.publisher.gateways.runner import (  # noqa: PLC0415
        GatewayRunner,
        GatewaySettings,
        ScanNames,
        metrics_served,
        stopped_by_signals,
    )

    if simulate:
        with SimulatedDetector(address) as simulated:
            stdout().print(f"listening at {simulated.address}, {frames} frames")
            simulate_series(
                simulated, n_frames=frames, stream=stream.value, rate_hz=rate
            )
        stdout().print(f"{simulated.dropped} messages were not taken in time")
        return ExitCode.PARTIAL if simulated.dropped else ExitCode.COMPLETE
    log_to_stderr(logging.INFO, is_service=True)
    scan = {
        "proposal": proposal,
        "collection": sample,
        "dataset": dataset,
        "beamline": beamline,
    }
    settings = GatewaySettings(
        redis,
        ScanNames(detector, scan, first_number),
        once=once,
        wait=wait,
        spool=spool,
        queue_bytes=queue_mb * 10**6,
    )
    with shown_progress(quiet=not once) as progress:
        runner = GatewayRunner(DectrisGateway(address), settings, progress)
        with ExitStack() as stack:
            if metrics_port is not None:
                stack.enter_context(metrics_served(runner, metrics_port))
            stack.enter_context(stopped_by_signals(runner))
            report = runner.run()
    for uid, counts in report.series[-1:] if once else ():
        stdout().print(
            f"scan {uid}: {counts.frames} frames published, {counts.missing} missing, "
            f"{counts.repeated} repeated, {counts.refused} messages refused"
        )
        if uid in report.verdicts:
            print_verdict(report.verdicts[uid], Path())
    return report.exit_code if once else ExitCode.COMPLETE
