"""``scanbus publish zmq``: publish frames that come as JSON and bytes, or as CBOR."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from scanbus.cli.gateways import (
    SIMULATED_FRAMES,
    Beamline,
    Dataset,
    DetectorName,
    FirstNumber,
    MetricsPort,
    Once,
    Proposal,
    QueueMb,
    Sample,
    Simulate,
    SimulatedFrames,
    SimulatedRate,
    Socket,
    SocketKind,
    Spool,
    Wait,
    refuse_without_simulate,
    run_gateway,
)
from scanbus.cli.options import DEFAULT_REDIS, Layouts, RedisUrl
from scanbus.cli.output import stdout
from scanbus.schemas.exit_codes import ExitCode
from scanbus.schemas.wording import counted

__all__ = ["EXAMPLE", "run"]

EXAMPLE = "scanbus publish zmq tcp://std-daq:20000 --socket sub --detector gigafrost"


class _Convention(StrEnum):
    ARRAY = "array"
    MAXIV = "maxiv"
    JUNGFRAUJOCH = "jungfraujoch"


def run(
    address: Annotated[
        str,
        typer.Argument(
            metavar="ADDRESS", help="ZeroMQ address of the sender: tcp://HOST:PORT."
        ),
    ],
    *,
    redis: RedisUrl = DEFAULT_REDIS,
    once: Once = False,
    proposal: Proposal = "proposal",
    sample: Sample = "sample",
    dataset: Dataset = "0001",
    beamline: Beamline = "id00",
    detector: DetectorName = "detector",
    layout: Layouts = None,
    first_number: FirstNumber = None,
    socket: Socket = SocketKind.PULL,
    idle: Annotated[
        float,
        typer.Option(
            metavar="S",
            min=0.1,
            help="Frames without start and end: over after so many seconds of silence.",
        ),
    ] = 10.0,
    spool: Spool = None,
    queue_mb: QueueMb = 512,
    metrics_port: MetricsPort = None,
    wait: Wait = True,
    simulate: Simulate = False,
    frames: SimulatedFrames = None,
    rate: SimulatedRate = None,
    convention: Annotated[
        _Convention | None,
        typer.Option(
            help="Convention to simulate, by default array; all are received.",
        ),
    ] = None,
) -> int:
    """Publish frames of a std-daq, MAX IV or Jungfraujoch sender, unchanged.

    Exit code: with --once that of the verdict, at least 2 if messages were refused.
    """
    from scanbus.publisher.gateways.runner import (  # noqa: PLC0415
        GatewaySettings,
        ScanNames,
    )
    from scanbus.publisher.gateways.zmq import (  # noqa: PLC0415
        SimulatedSender,
        ZmqGateway,
        simulate_frames,
    )

    if simulate:
        with SimulatedSender(address, kind=socket.sender) as sender:
            n_frames = frames or SIMULATED_FRAMES
            stdout().print(
                f"listening at {sender.address}, {counted(n_frames, 'frame')}"
            )
            simulate_frames(
                sender,
                n_frames=n_frames,
                convention=(convention or _Convention.ARRAY).value,
                rate_hz=rate,
            )
        stdout().print(f"{counted(sender.dropped, 'message')} not taken in time")
        return ExitCode.PARTIAL if sender.dropped else ExitCode.COMPLETE
    refuse_without_simulate(frames=frames, rate=rate, convention=convention)
    scan = {
        "proposal": proposal,
        "collection": sample,
        "dataset": dataset,
        "beamline": beamline,
        "layouts": layout or (),
    }
    settings = GatewaySettings(
        redis,
        ScanNames(detector, scan, first_number),
        once=once,
        wait=wait,
        spool=spool,
        queue_bytes=queue_mb * 10**6,
    )
    gateway = ZmqGateway(address, socket.value, idle_s=idle)
    return run_gateway(gateway, settings, metrics_port)
