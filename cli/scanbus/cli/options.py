"""Options that several commands share, and the subscriber that they open."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scanbus.cli.output import print_note
from scanbus.schemas.errors import ServerAddressError
from scanbus.schemas.layout_names import (
    BUILT_IN_LAYOUTS,
    MAX_LAYOUTS,
    is_layout_name,
)

if TYPE_CHECKING:
    from scanbus.subscriber import Subscriber

__all__ = [
    "DEFAULT_REDIS",
    "REDIS_VARIABLE",
    "AllowedRoots",
    "AsJson",
    "ChosenLayouts",
    "ExternalRoots",
    "Layouts",
    "RedisUrl",
    "Root",
    "Templates",
    "TimeZone",
    "external_roots_given",
    "other_roots",
    "path_given",
    "subscriber_at",
]

REDIS_VARIABLE = "SCANBUS_REDIS"
_ROOTS_VARIABLE = "SCANBUS_ALLOWED_ROOTS"
_EXTERNAL_VARIABLE = "SCANBUS_EXTERNAL_ROOTS"
# The same as DEFAULT_URL of scanbus.bus.store, without importing numpy for --help.
DEFAULT_REDIS = "redis://127.0.0.1:6379"


def path_given(text: str) -> Path:
    """Return a path as the user gave it.

    Raises
    ------
    typer.BadParameter
        If it is empty, as from a variable of the shell that is not set: it would stand
        for the current folder.
    """
    if not text:
        raise typer.BadParameter("the path is empty")
    return Path(text)


def _address_given(context: typer.Context, url: str) -> str:
    """Refuse an empty variable, which typer takes for one that is not set."""
    source = context.get_parameter_source("redis")
    is_default = source is not None and source.name == "DEFAULT"
    if is_default and os.environ.get(REDIS_VARIABLE) == "":
        raise ServerAddressError
    return url


def _layouts_given(names: list[str] | None) -> list[str] | None:
    """Refuse what can be the name of no layout; the writer knows which there are."""
    for name in names or ():
        if not is_layout_name(name):
            raise typer.BadParameter(
                f"{name!r} is no name of a layout (lower-case letters, digits and "
                "underscores, as nxmx)"
            )
    if names and len(names) > MAX_LAYOUTS:
        raise typer.BadParameter(f"at most {MAX_LAYOUTS} layouts, got {len(names)}")
    for name in names or ():
        if name not in BUILT_IN_LAYOUTS:
            near = difflib.get_close_matches(name, BUILT_IN_LAYOUTS, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            print_note(
                f"{name} is no layout of scanbus: unless the writer has a template of "
                f"that name, the scan comes without it.{hint}"
            )
    return names


RedisUrl = Annotated[
    str,
    typer.Option(
        "--redis",
        metavar="URL",
        envvar=REDIS_VARIABLE,
        callback=_address_given,
        help="Address of Redis: redis://host:port, rediss://… (TLS), unix:///path.",
    ),
]
Root = Annotated[
    Path,
    typer.Option(
        "--root", metavar="DIR", parser=path_given, help="Root folder of the data."
    ),
]
AllowedRoots = Annotated[
    list[Path] | None,
    typer.Option(
        "--allowed-root",
        metavar="DIR",
        parser=path_given,
        help="Another root, to which symbolic links may lead; may be repeated. By "
        f"default those in {_ROOTS_VARIABLE}, with colons between.",
    ),
]
ExternalRoots = Annotated[
    list[Path] | None,
    typer.Option(
        "--external-root",
        metavar="DIR",
        parser=path_given,
        help="Folder below which files of frames by reference are opened; may be "
        f"repeated. By default those in {_EXTERNAL_VARIABLE}, with colons between.",
    ),
]
ChosenLayouts = Annotated[
    list[str] | None,
    typer.Option(
        "--layout",
        metavar="NAME",
        help="Layout of the files, besides the scan master; may be repeated.",
    ),
]
Templates = Annotated[
    list[Path] | None,
    typer.Option(
        "--template",
        metavar="FILE",
        parser=path_given,
        help="File with a layout of the site, TOML or JSON; may be repeated.",
    ),
]
TimeZone = Annotated[
    str | None,
    typer.Option(
        metavar="ZONE",
        help="Of times in headers without one: Europe/Paris, or +02:00.",
    ),
]
Layouts = Annotated[
    list[str] | None,
    typer.Option(
        "--layout",
        metavar="NAME",
        callback=_layouts_given,
        help="Layout of the files besides ESRF's, as nxmx; may be repeated. By default "
        "those of the writer, with 'esrf' none.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def other_roots(given: list[Path] | None) -> list[Path]:
    """Return the allowed roots that were given, or those of the environment."""
    return given or _paths_in(_ROOTS_VARIABLE)


def external_roots_given(given: list[Path] | None) -> list[Path]:
    """Return the external roots that were given, or those of the environment."""
    return given or _paths_in(_EXTERNAL_VARIABLE)


def _paths_in(variable: str) -> list[Path]:
    named = os.environ.get(variable, "")
    return [Path(part) for part in named.split(os.pathsep) if part]


@contextmanager
def subscriber_at(url: str) -> Iterator[Subscriber]:
    """Open a subscriber for one command."""
    from scanbus.subscriber import Subscriber  # noqa: PLC0415

    with Subscriber(url, name=f"scanbus-cli-{os.getpid()}") as subscriber:
        yield subscriber
