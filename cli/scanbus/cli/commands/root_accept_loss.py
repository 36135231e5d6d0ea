"""``scanbus root accept-loss``: finish a scan whose files are gone for good."""

from __future__ import annotations

from typing import Annotated

import typer

from scanbus.cli.options import DEFAULT_REDIS, AsJson, RedisUrl
from scanbus.cli.output import print_json, stdout
from scanbus.schemas.exit_codes import ExitCode

__all__ = ["EXAMPLE", "run"]

EXAMPLE = "scanbus root accept-loss 3f2a91c0"


def run(
    scan: Annotated[
        str, typer.Argument(metavar="SCAN", help="Uid, its start, or number.")
    ],
    *,
    redis: RedisUrl = DEFAULT_REDIS,
    as_json: AsJson = False,
) -> int:
    """Let a scan go on without files that were written and are gone for good.

    It is paused until then, as the files may come back. Its verdict will be partial and
    name their points; of other files, and of points on the bus, nothing is lost.

    Exit code: 0 accepted; 1 no such scan, it is finished, or no Redis.
    """
    from scanbus.writer import accept_lost_files  # noqa: PLC0415

    uid, accepted = accept_lost_files(redis, scan)
    if as_json:
        print_json({"scan": uid, "lanes": accepted})
    else:
        sentence = f"scan {uid} goes on without the files that are gone"
        stdout().print(sentence, soft_wrap=True, markup=False)
    return ExitCode.COMPLETE
