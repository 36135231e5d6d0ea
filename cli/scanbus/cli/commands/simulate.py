"""``scanbus simulate``: publish a scan with faults that a seed determines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from scanbus.cli.interrupts import raise_on_interrupt
from scanbus.cli.logs import log_to_stderr
from scanbus.cli.options import DEFAULT_REDIS, AsJson, RedisUrl
from scanbus.cli.output import point_ranges, print_json, stdout
from scanbus.cli.progress import shown_progress
from scanbus.schemas.exit_codes import ExitCode
from scanbus.schemas.wording import counted

if TYPE_CHECKING:
    from scanbus.publisher.faulty import Injected

__all__ = ["EXAMPLE", "run"]

EXAMPLE = "scanbus simulate --seed 7 --corrupt 0.05 --json"
_KINDS = ("missing", "duplicate", "late", "corrupt", "refused")


def _rate(text: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(
        metavar="P", min=0.0, max=1.0, help=text
    )
    return option


def run(
    *,
    seed: Annotated[
        int, typer.Option(metavar="N", min=0, help="Seed of points and faults.")
    ] = 0,
    points: Annotated[
        int, typer.Option(metavar="N", min=1, help="Points of small values.")
    ] = 200,
    frames: Annotated[
        int, typer.Option(metavar="N", min=1, help="Frames of each detector.")
    ] = 60,
    drop: Annotated[float, _rate("Points are not sent.")] = 0.02,
    gap: Annotated[float, _rate("Points are declared as a gap.")] = 0.02,
    duplicate: Annotated[float, _rate("Points are sent again.")] = 0.02,
    second: Annotated[float, _rate("Another publisher sends the points too.")] = 0.02,
    reorder: Annotated[float, _rate("Points are acquired after later ones.")] = 0.02,
    corrupt: Annotated[float, _rate("A bit flips after the checksum.")] = 0.02,
    refused: Annotated[float, _rate("The entry cannot be stored.")] = 0.02,
    stall: Annotated[float, _rate("Sending pauses for --stall-s.")] = 0.0,
    stall_s: Annotated[
        float, typer.Option(metavar="S", min=0.0, help="Duration of a stall, seconds.")
    ] = 0.05,
    die: Annotated[float, _rate("The publisher dies; per scan.")] = 0.0,
    window: Annotated[
        int, typer.Option(metavar="N", min=1, help="Entries held back to be sorted.")
    ] = 3,
    dataset: Annotated[str, typer.Option(metavar="D", help="Dataset.")] = "0001",
    redis: RedisUrl = DEFAULT_REDIS,
    as_json: AsJson = False,
) -> int:
    """Publish a scan with faults, and print the ledgers that a writer must produce.

    Faults are probabilities per entry. The simulator deliberately breaks the rules that
    a correct publisher follows.
    """
    from scanbus.publisher.faulty import Faults, simulate  # noqa: PLC0415

    raise_on_interrupt()
    log_to_stderr()
    rates = {
        "drop": drop,
        "gap": gap,
        "duplicate": duplicate,
        "second": second,
        "reorder": reorder,
        "corrupt": corrupt,
        "refused": refused,
        "stall": stall,
        "die": die,
    }
    try:
        faults = Faults(**rates, window=window, stall_s=stall_s)
    except ValueError as error:
        raise typer.BadParameter(f"{error}") from error
    with shown_progress(quiet=as_json) as progress:
        injected = simulate(
            redis,
            seed,
            faults,
            n_points=points,
            n_frames=frames,
            dataset=dataset,
            progress=progress,
        )
    if as_json:
        print_json(injected.model_dump(mode="json"))
    else:
        _print_injected(injected)
    return ExitCode.COMPLETE


def _print_injected(injected: Injected) -> None:
    console = stdout()
    done = ", ".join(f"{name} {count}" for name, count in injected.injected.items())
    console.print(
        f"scan {injected.uid} ({injected.scan_number}), seed {injected.seed}: "
        f"{counted(injected.entries, 'entry')} sent; {done or 'no faults'}",
        soft_wrap=True,
    )
    table = Table("channel", "expected", "written", *_KINDS, box=None)
    for name, ledger in injected.channels.items():
        found = (point_ranges(getattr(ledger, kind)) for kind in _KINDS)
        table.add_row(name, str(ledger.expected), str(ledger.written), *found)
    console.print(table)
