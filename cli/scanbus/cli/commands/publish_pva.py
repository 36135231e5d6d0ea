"""``scanbus publish pva``: publish images of an EPICS 7 IOC, and PVs beside them."""

from __future__ import annotations

from typing import Annotated

import typer

from scanbus.cli.gateways import (
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
    SimulatedRate,
    Spool,
    Wait,
    refuse_without_simulate,
    run_gateway,
)
from scanbus.cli.options import DEFAULT_REDIS, Layouts, RedisUrl
from scanbus.cli.output import stdout
from scanbus.schemas.exit_codes import ExitCode

__all__ = ["EXAMPLE", "run"]

EXAMPLE = "scanbus publish pva 13SIM1:Pva1:Image --pv energy=BL13:MONO:ENERGY"

_SIMULATED_FRAMES, _SIMULATED_HZ = 100, 10.0
# An image that nobody has subscribed to is lost.
_CLIENT_S = 60.0


def run(
    pv: Annotated[
        str, typer.Argument(metavar="PV", help="PV of the images (NTNDArray).")
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
    slow: Annotated[
        list[str] | None,
        typer.Option(
            "--pv",
            metavar="[NAME=]PV",
            help="Another PV, as a channel of its own; may be given many times.",
        ),
    ] = None,
    stale: Annotated[
        float | None,
        typer.Option(
            metavar="S", min=0, help="Age that makes a PV's value stale, in seconds."
        ),
    ] = None,
    frames: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Frames of a series, to end it at once."),
    ] = None,
    idle: Annotated[
        float,
        typer.Option(
            metavar="S", min=0.1, help="Seconds without an image end a series."
        ),
    ] = 10.0,
    find: Annotated[
        float,
        typer.Option(
            metavar="S", min=1, help="With --once, longest wait for an IOC, in seconds."
        ),
    ] = 60.0,
    queue_images: Annotated[
        int,
        typer.Option(metavar="N", min=2, help="Images that the IOC keeps for us."),
    ] = 100,
    spool: Spool = None,
    queue_mb: QueueMb = 512,
    metrics_port: MetricsPort = None,
    wait: Wait = True,
    simulate: Simulate = False,
    rate: SimulatedRate = None,
) -> int:
    """Publish each series of images as a scan; addresses as in EPICS's environment.

    Exit code: with --once that of the verdict, at least 2 if images were refused.
    """
    from scanbus.publisher.gateways.epics import (  # noqa: PLC0415
        PvaGateway,
        PvaSettings,
        SimulatedIoc,
        channels_of,
        simulate_images,
    )
    from scanbus.publisher.gateways.runner import (  # noqa: PLC0415
        GatewaySettings,
        ScanNames,
    )

    channels = channels_of(slow or (), detector)
    if simulate:
        values = dict.fromkeys(channels.values(), 1.0)
        with SimulatedIoc(pv, values) as ioc:
            stdout().print(f"serving {pv} at port {ioc.conf['EPICS_PVA_SERVER_PORT']}")
            simulate_images(
                ioc,
                n_frames=frames or _SIMULATED_FRAMES,
                rate_hz=rate or _SIMULATED_HZ,
                wait_s=_CLIENT_S,
            )
        return ExitCode.COMPLETE
    refuse_without_simulate(rate=rate)
    gateway = PvaGateway(
        PvaSettings(
            pv,
            channels,
            n_frames=frames,
            idle_s=idle,
            stale_s=stale,
            queue_images=queue_images,
            find_s=find if once else None,
        )
    )
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
    return run_gateway(gateway, settings, metrics_port)
