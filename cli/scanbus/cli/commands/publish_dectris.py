"""``scanbus publish dectris``: publish a DECTRIS detector's stream."""

from __future__ import annotations

from contextlib import ExitStack
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
    once: Once = False,
    proposal: Proposal = "proposal",
    sample: Sample = "sample",
    dataset: Dataset = "0001",
    beamline: Beamline = "id00",
    detector: DetectorName = "detector",
    layout: Layouts = None,
    first_number: FirstNumber = None,
    socket: Socket = SocketKind.PULL,
    rest: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="REST interface of the detector, http://HOST: asked for its "
            "configuration if the header was missed or has none.",
        ),
    ] = None,
    spool: Spool = None,
    queue_mb: QueueMb = 512,
    metrics_port: MetricsPort = None,
    wait: Wait = True,
    simulate: Simulate = False,
    frames: SimulatedFrames = None,
    rate: SimulatedRate = None,
    stream: Annotated[
        _Stream | None,
        typer.Option(
            help="Stream to simulate, by default v1; both are received.",
        ),
    ] = None,
) -> int:
    """Publish each series of a DECTRIS detector as a scan, its frames unchanged.

    Exit code: with --once that of the verdict, at least 2 if messages were refused.
    """
    from scanbus.publisher.gateways.dectris import (  # noqa: PLC0415
        DectrisGateway,
        RestConfiguration,
    )
    from scanbus.publisher.gateways.runner import (  # noqa: PLC0415
        GatewaySettings,
        ScanNames,
    )

    if simulate:
        return _simulate(
            address,
            socket,
            rest,
            n_frames=frames or SIMULATED_FRAMES,
            rate_hz=rate,
            stream=stream or _Stream.V1,
        )
    refuse_without_simulate(frames=frames, rate=rate, stream=stream)
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
        describe=None if rest is None else RestConfiguration(rest).describe,
    )
    return run_gateway(DectrisGateway(address, socket.value), settings, metrics_port)


def _simulate(
    address: str,
    socket: SocketKind,
    rest: str | None,
    *,
    n_frames: int,
    rate_hz: float | None,
    stream: _Stream,
) -> ExitCode:
    """Be a detector that sends one series."""
    from scanbus.publisher.gateways.dectris import (  # noqa: PLC0415
        SimulatedSender,
        served_configuration,
        simulate_series,
        simulated_config,
    )

    with ExitStack() as stack:
        sender = stack.enter_context(SimulatedSender(address, kind=socket.sender))
        if rest is not None:
            config = simulated_config(n_frames)
            rest = stack.enter_context(served_configuration(rest, config))
            stdout().print(f"configuration at {rest}")
        stdout().print(f"listening at {sender.address}, {counted(n_frames, 'frame')}")
        simulate_series(sender, n_frames=n_frames, stream=stream.value, rate_hz=rate_hz)
    stdout().print(f"{counted(sender.dropped, 'message')} not taken in time")
    return ExitCode.PARTIAL if sender.dropped else ExitCode.COMPLETE
