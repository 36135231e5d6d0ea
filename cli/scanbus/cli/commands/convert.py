"""``scanbus convert``: repack a scan or a dataset as one file that needs no other."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from scanbus.cli.interrupts import raise_on_interrupt
from scanbus.cli.logs import log_to_stderr
from scanbus.cli.options import (
    AsJson,
    ExternalRoots,
    external_roots_given,
    path_given,
)
from scanbus.cli.output import bytes_text, print_json, print_note, stdout
from scanbus.cli.progress import shown_progress
from scanbus.schemas.exit_codes import ExitCode
from scanbus.schemas.wording import counted

__all__ = ["EXAMPLE", "run"]

EXAMPLE = "scanbus convert scan0001/scan0001.h5 for_fiji.h5"


class _Codec(StrEnum):
    GZIP = "gzip"
    BITSHUFFLE_LZ4 = "bitshuffle-lz4"
    BITSHUFFLE_ZSTD = "bitshuffle-zstd"
    NONE = "none"


def run(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            parser=path_given,
            help="Master of a scan, dataset or collection; or the folder of a scan "
            "or dataset.",
        ),
    ],
    target: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", parser=path_given, help="The new file; none is replaced."
        ),
    ],
    *,
    codec: Annotated[
        _Codec, typer.Option(help="How values are packed; every reader has gzip.")
    ] = _Codec.GZIP,
    level: Annotated[
        int, typer.Option(metavar="N", min=1, max=9, help="Level of gzip.")
    ] = 4,
    chunk: Annotated[
        str | None,
        typer.Option(
            metavar="N,N,N",
            help="Chunk of the frames, such as 16,256,256; by default one image.",
        ),
    ] = None,
    pages: Annotated[
        bool,
        typer.Option(
            "--pages", help="Divide the file into pages of 4 MiB, for object stores."
        ),
    ] = False,
    external_roots: ExternalRoots = None,
    as_json: AsJson = False,
) -> int:
    """Repack a scan or dataset as one file, without links and virtual datasets.

    All of the source is checked before; each value of the copy is compared with it.

    Exit code: 0 done, 1 an argument is wrong, or FILE exists or cannot be written, 3
    the source is damaged.
    """
    from scanbus.writer import Packing, convert  # noqa: PLC0415

    raise_on_interrupt()
    log_to_stderr()
    packing = Packing(codec.value, level, _lengths(chunk), pages)
    with shown_progress(quiet=as_json) as progress:
        made = convert(
            source,
            target,
            packing,
            progress=progress,
            external_roots=external_roots_given(external_roots),
        )
    if as_json:
        print_json(asdict(made))
        return ExitCode.COMPLETE
    for path in made.dangling:
        print_note(f"{path} leads nowhere in the source, and is not in the file")
    stdout().print(
        f"{made.path}: {counted(len(made.entries), 'scan')}, "
        f"{counted(made.n_objects, 'object')} compared, "
        f"{bytes_text(made.n_values_bytes)} in {bytes_text(made.n_bytes)}",
        soft_wrap=True,
        markup=False,
    )
    return ExitCode.COMPLETE


def _lengths(text: str | None) -> tuple[int, ...]:
    if text is None:
        return ()
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise typer.BadParameter(
            f"--chunk {text}: numbers with commas between are needed"
        ) from None
