"""``scanbus publish watch``: publish the files of a detector as it writes them."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Annotated

import typer

from scanbus.cli.gateways import (
    Beamline,
    Dataset,
    DetectorName,
    MetricsPort,
    Once,
    Proposal,
    QueueMb,
    Sample,
    Spool,
    Wait,
    run_gateway,
)
from scanbus.cli.options import DEFAULT_REDIS, Layouts, RedisUrl, TimeZone, path_given

__all__ = ["EXAMPLE", "run"]

EXAMPLE = "scanbus publish watch /data/pilatus --match '*.cbf' --sample lysozyme"


def run(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="DIR",
            parser=path_given,
            help="Folder into which the detector writes; those below it count too.",
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
    match: Annotated[
        str, typer.Option(metavar="PATTERN", help="Names of the files to publish.")
    ] = "*",
    frames: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Frames of a series, to end it at once."),
    ] = None,
    idle: Annotated[
        float,
        typer.Option(metavar="S", min=0.1, help="Seconds without a file end a series."),
    ] = 10.0,
    settle: Annotated[
        float,
        typer.Option(
            metavar="S",
            min=0.1,
            help="Seconds without a change make a file whole that no one closed here.",
        ),
    ] = 2.0,
    by_arrival: Annotated[
        bool,
        typer.Option(
            "--by-arrival", help="Number files as they come, not by their names."
        ),
    ] = False,
    skip_existing: Annotated[
        bool,
        typer.Option(
            "--skip-existing", help="Leave files that are there at the first start."
        ),
    ] = False,
    remove: Annotated[
        bool,
        typer.Option("--remove", help="Remove the files of a complete scan."),
    ] = False,
    link_into: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", parser=path_given, help="Link the files of a complete scan."
        ),
    ] = None,
    state: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            parser=path_given,
            help="Where to note which files were taken, by default in the spool.",
        ),
    ] = None,
    time_zone: TimeZone = None,
    spool: Spool = None,
    queue_mb: QueueMb = 512,
    metrics_port: MetricsPort = None,
    wait: Wait = True,
) -> int:
    """Publish each series of files as a scan, each file once, when it is whole.

    Exit code: with --once that of the verdict, at least 2 if files were refused.
    """
    from scanbus.publisher.gateways.files import (  # noqa: PLC0415
        WatchGateway,
        WatchSettings,
        zone_of,
    )
    from scanbus.publisher.gateways.runner import (  # noqa: PLC0415
        GatewaySettings,
        ScanNames,
    )

    folder = folder.absolute()
    gateway = WatchGateway(
        redis,
        WatchSettings(
            folder,
            _database(state or spool, folder),
            match=match,
            n_frames=frames,
            idle_s=idle,
            settle_s=settle,
            by_arrival=by_arrival,
            skip_existing=skip_existing,
            remove=remove,
            link_into=link_into,
            zone=None if time_zone is None else zone_of(time_zone),
        ),
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
        ScanNames(detector, scan),
        once=once,
        wait=wait,
        spool=spool,
        queue_bytes=queue_mb * 10**6,
    )
    exit_code = run_gateway(gateway, settings, metrics_port)
    gateway.look_after()
    return exit_code


def _database(folder: Path | None, watched: Path) -> Path:
    """Return the file that keeps which files of a folder were taken."""
    if folder is None:
        home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state"
        folder = Path(home) / "scanbus"
    digest = hashlib.sha256(os.fsencode(watched)).hexdigest()[:12]
    return folder / f"watch-{digest}.sqlite"
