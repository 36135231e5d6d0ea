"""``scanbus replay``: write a scan that is still on the bus again."""

from __future__ import annotations

from typing import Annotated

import typer

from scanbus.cli.interrupts import raise_on_interrupt
from scanbus.cli.logs import log_to_stderr
from scanbus.cli.options import (
    DEFAULT_REDIS,
    AsJson,
    ChosenLayouts,
    ExternalRoots,
    RedisUrl,
    Root,
    Templates,
    external_roots_given,
)
from scanbus.cli.output import print_json, print_verdict
from scanbus.cli.progress import shown_progress

__all__ = ["EXAMPLE", "run"]

EXAMPLE = "scanbus replay last --root /tmp/again"


def run(
    scan: Annotated[
        str, typer.Argument(metavar="SCAN", help="Uid, its start, number, or 'last'.")
    ],
    root: Root,
    *,
    redis: RedisUrl = DEFAULT_REDIS,
    as_number: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Write it as scan N of its dataset, also below the writer's root.",
            min=1,
            max=10**8 - 1,
        ),
    ] = None,
    external_roots: ExternalRoots = None,
    layouts: ChosenLayouts = None,
    templates: Templates = None,
    as_json: AsJson = False,
) -> int:
    """Write a scan that is still on the bus again, under another root or number.

    Exit code: 0 complete, 2 partial, 3 failed.
    """
    from scanbus.writer import replay  # noqa: PLC0415

    raise_on_interrupt()
    log_to_stderr()
    with shown_progress(quiet=as_json) as progress:
        verdict = replay(
            redis,
            scan,
            root,
            as_number=as_number,
            progress=progress,
            external_roots=external_roots_given(external_roots),
            layouts=layouts or (),
            templates=templates or (),
        )
    if as_json:
        print_json(verdict.model_dump(mode="json"))
    else:
        print_verdict(verdict, root)
    return verdict.verdict.exit_code
