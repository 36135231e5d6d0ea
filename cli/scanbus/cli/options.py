"""Options that several commands share, and the subscriber that they open."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from scanbus.subscriber import Subscriber

__all__ = [
    "DEFAULT_REDIS",
    "REDIS_VARIABLE",
    "AllowedRoots",
    "AsJson",
    "RedisUrl",
    "Root",
    "subscriber_at",
]

REDIS_VARIABLE = "SCANBUS_REDIS"
# The same as DEFAULT_URL of scanbus.bus.store, without importing numpy for --help.
DEFAULT_REDIS = "redis://127.0.0.1:6379"

RedisUrl = Annotated[
    str,
    typer.Option(
        "--redis",
        metavar="URL",
        envvar=REDIS_VARIABLE,
        help="Address of Redis: redis://host:port, rediss://… (TLS), unix:///path.",
    ),
]
Root = Annotated[
    Path,
    typer.Option("--root", metavar="DIR", help="Root folder of the data."),
]
AllowedRoots = Annotated[
    list[Path] | None,
    typer.Option(
        "--allowed-root",
        metavar="DIR",
        envvar="SCANBUS_ALLOWED_ROOTS",
        help="Another root, to which symbolic links may lead; may be repeated.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


@contextmanager
def subscriber_at(url: str) -> Iterator[Subscriber]:
    """Open a subscriber for one command."""
    from scanbus.subscriber import Subscriber  # noqa: PLC0415

    with Subscriber(url, name=f"scanbus-cli-{os.getpid()}") as subscriber:
        yield subscriber
