"""``scanbus amend``: correct the metadata of a finished scan."""

from __future__ import annotations

import getpass
import json
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from scanbus.cli.interrupts import raise_on_interrupt
from scanbus.cli.logs import log_to_stderr
from scanbus.cli.options import (
    AsJson,
    ExternalRoots,
    external_roots_given,
    path_given,
)
from scanbus.cli.output import print_json, print_note, printable, stdout
from scanbus.schemas.exit_codes import ExitCode

if TYPE_CHECKING:
    from scanbus.writer import AmendedScan

__all__ = ["EXAMPLE", "run"]

EXAMPLE = (
    "scanbus amend scan0001/scan0001.h5 --set sample/name=lysozyme --reason 'typo'"
)

# Characters of a value.
_SHOWN = 200


def run(
    scan: Annotated[
        Path,
        typer.Argument(
            metavar="SCAN", parser=path_given, help="A scan's folder, or its master."
        ),
    ],
    *,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Set sample/name, title, sample/mass@units, …; VALUE is JSON, else "
            "text. May be repeated.",
        ),
    ] = None,
    removed: Annotated[
        list[str] | None,
        typer.Option(
            "--unset", metavar="KEY", help="Withdraw a value. May be repeated."
        ),
    ] = None,
    reason: Annotated[
        str, typer.Option(metavar="TEXT", help="Why; it stands in the master.")
    ] = "",
    author: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Who, by default user@host."),
    ] = None,
    history: Annotated[
        bool, typer.Option("--history", help="List all corrections so far.")
    ] = False,
    external_roots: ExternalRoots = None,
    as_json: AsJson = False,
) -> int:
    """Correct the metadata of a finished scan; its data stay as they are.

    The correction becomes a dated line beside the scan, and the master is new.

    Exit code: 0 done, 1 SCAN, KEY or VALUE is wrong, 3 files cannot be used.
    """
    from scanbus.writer import amend, amendments  # noqa: PLC0415

    raise_on_interrupt()
    log_to_stderr()
    if history:
        return _show_history(list(amendments(scan)), as_json=as_json)
    if not reason:
        raise typer.BadParameter("say why, with --reason")
    given = _given(changes or [], removed or [])
    done = amend(
        scan,
        given,
        reason=reason,
        author=author or _user(),
        external_roots=external_roots_given(external_roots),
    )
    if as_json:
        print_json(_as_json(done))
    else:
        for key, value in given.items():
            old = done.amendment.before.get(key)
            line = f"{key}: {_shown(old)} -> {_shown(value)}"
            stdout().print(printable(line), soft_wrap=True, markup=False)
        for problem in done.problems:
            print_note(problem)
        for note in done.notes:
            print_note(note)
        stdout().print(f"{done.master} was built again", soft_wrap=True, markup=False)
    return ExitCode.COMPLETE


def _given(changes: list[str], removed: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals or not key:
            raise typer.BadParameter(f"--set {change}: KEY=VALUE is needed")
        found[key.strip()] = _value(text)
    for key in removed:
        found[key.strip()] = None
    return found


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        raise typer.BadParameter(
            f"--set …={text[:20]}…: lists are nested too deeply"
        ) from None
    except ValueError:
        return text


def _user() -> str:
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (OSError, KeyError):  # A user without a name, as in containers.
        return f"unknown@{socket.gethostname()}"


def _shown(value: Any) -> str:
    if value is None:
        return "(none)"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def _as_json(done: AmendedScan) -> dict[str, Any]:
    return {
        "master": str(done.master),
        "history": str(done.history),
        "problems": list(done.problems),
        "notes": list(done.notes),
        "amendment": done.amendment.model_dump(mode="json"),
    }


def _show_history(found: list[Any], *, as_json: bool) -> ExitCode:
    if as_json:
        print_json([each.model_dump(mode="json") for each in found])
        return ExitCode.COMPLETE
    table = Table("date", "author", "reason", "changed", box=None)
    for each in found:
        keys = ", ".join(each.before)
        texts = each.date, each.author, each.reason, keys
        table.add_row(*map(printable, texts))
    stdout().print(table if found else "never corrected")
    return ExitCode.COMPLETE
