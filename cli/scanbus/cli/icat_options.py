"""Options that the commands for ICAT share."""

from __future__ import annotations

import os
from typing import Annotated

import typer

__all__ = ["BrokerTimeout", "Brokers", "WithUsers", "brokers_given"]

_BROKERS_VARIABLE = "SCANBUS_ICAT_BROKERS"

Brokers = Annotated[
    list[str] | None,
    typer.Option(
        metavar="HOST:PORT",
        help="Message broker (STOMP); may be repeated, the first that answers is "
        f"used. By default those in {_BROKERS_VARIABLE}, with commas between.",
    ),
]
WithUsers = Annotated[
    bool,
    typer.Option("--with-users", help="Send personal data, such as authors of a DOI."),
]
BrokerTimeout = Annotated[
    float,
    typer.Option(
        metavar="S", min=0.1, max=3600, help="Longest wait for a broker, in seconds."
    ),
]


def brokers_given(given: list[str] | None) -> tuple[str, ...]:
    """Return the brokers that were given, or those of the environment."""
    if given:
        return tuple(given)
    named = os.environ.get(_BROKERS_VARIABLE, "").split(",")
    return tuple(each.strip() for each in named if each.strip())
