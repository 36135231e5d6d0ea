"""``scanbus root init``: make a folder the root of a writer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scanbus.cli.options import AsJson, path_given
from scanbus.cli.output import print_json, stdout
from scanbus.schemas.exit_codes import ExitCode

__all__ = ["EXAMPLE", "run"]

EXAMPLE = "scanbus root init /data/visitor --existing"


def run(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="DIR",
            parser=path_given,
            help="The folder; the one above it must exist.",
        ),
    ],
    *,
    existing: Annotated[
        bool,
        typer.Option("--existing", help="Accept a folder with files; they stay."),
    ] = False,
    as_json: AsJson = False,
) -> int:
    """Make a folder a root, below which a writer may write.

    Do this once, with the file system mounted. The folder gets an id; a writer refuses
    a folder without one, such as an empty mount point. If it is a root already, the
    command only prints the id.

    Exit code: 0 a root, 1 it has files or cannot be written, 3 .scanbus is no folder.
    """
    from scanbus.writer import init_root  # noqa: PLC0415

    root = init_root(folder, existing=existing)
    if as_json:
        print_json({"root": str(root.path), "id": root.id, "is_new": root.is_new})
    else:
        word = "now" if root.is_new else "already"
        sentence = f"{root.path} is a root {word}, id {root.id}"
        stdout().print(sentence, soft_wrap=True, markup=False)
    return ExitCode.COMPLETE
