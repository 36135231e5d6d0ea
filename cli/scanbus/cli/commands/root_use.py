"""``scanbus root use``: let a bus have another root."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from scanbus.cli.options import DEFAULT_REDIS, AsJson, RedisUrl, path_given
from scanbus.cli.output import print_json, stdout
from scanbus.schemas.exit_codes import ExitCode

__all__ = ["EXAMPLE", "run"]

EXAMPLE = "scanbus root use /newdisk/visitor"


def run(
    folder: Annotated[
        Path,
        typer.Argument(metavar="DIR", parser=path_given, help="The new root."),
    ],
    *,
    redis: RedisUrl = DEFAULT_REDIS,
    as_json: AsJson = False,
) -> int:
    """Let the scans of a bus be written below another root from now on.

    Stop the writers first. Copy the files of open scans, or their scans wait for them.
    A root that was copied as a whole keeps its id, and needs no command.

    Exit code: 0 done; 1 no root, a writer with another root is alive, or no Redis.
    """
    from scanbus.writer import use_root  # noqa: PLC0415

    root = use_root(redis, folder)
    if as_json:
        print_json(asdict(root))
    else:
        sentence = f"this bus writes below {root.path} from now on, id {root.id}"
        stdout().print(sentence, soft_wrap=True, markup=False)
    return ExitCode.COMPLETE
