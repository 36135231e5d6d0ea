"""The address of a Redis server: checked once, and shown without its password.

The only place that knows the form of an address. Errors are made from
`ServerAddress`, never from the text that was given: a malformed address may have its
password anywhere.
"""

from __future__ import annotations

import os
import re
from typing import Any, Self
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from scanbus.schemas.errors import ServerAddressError

__all__ = ["DEFAULT_URL", "REDIS_VARIABLE", "ServerAddress", "address_of"]

DEFAULT_URL = "redis://127.0.0.1:6379"
REDIS_VARIABLE = "SCANBUS_REDIS"
_HOST = re.compile(r"[0-9A-Za-z._-]+|\[[0-9A-Fa-f:.]+(%25[0-9A-Za-z._-]+)?\]")
_SERVER = re.compile(r"(?P<host>.*?)(?::(?P<port>\d{1,5}))?")
_DATABASE = re.compile(r"/?\d*")
# Text that a password may contain, and that has another meaning in an address.
_ODD = re.compile(r"[\s#\\\x00-\x1f\x7f]")


class ServerAddress(str):
    """An address as text without user, password and options, for messages.

    A connection is made with `secret`. No repr, log or traceback shows that.

    Parameters
    ----------
    url : str
        ``redis://host:port/db``, ``rediss://…`` (TLS) or ``unix:///path``.

    Raises
    ------
    ServerAddressError
        If it has none of these forms.

    Examples
    --------
    >>> ServerAddress("redis://:hidden@example.org:6379/1")
    'redis://…@example.org:6379/1'
    """

    __slots__ = ("_secret",)
    _secret: str

    def __new__(cls, url: str) -> Self:
        """Check the address; one that was checked is returned unchanged."""
        if isinstance(url, cls):
            return url
        self = super().__new__(cls, _shown(url))
        self._secret = url
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        """Have copies, also in other processes, keep the password."""
        return type(self), (self._secret,)

    @property
    def secret(self) -> str:
        """The whole address."""
        return self._secret

    def hidden_in(self, text: str) -> str:
        """Return a text without the passwords of this address."""
        for word in _passwords(urlsplit(self._secret)):
            text = text.replace(word, "…")
        return text


def address_of(url: str | None) -> ServerAddress:
    """Return the address that a program gave, or that of its environment.

    Parameters
    ----------
    url : str or None
        None for that in ``SCANBUS_REDIS``, or if that is not set, for
        ``redis://127.0.0.1:6379``: as the commands do.

    Raises
    ------
    ServerAddressError
        If it does not have one of the forms of an address, or is empty.
    """
    if url is None:
        url = os.environ.get(REDIS_VARIABLE, DEFAULT_URL)
    return ServerAddress(url)


def _passwords(parts: SplitResult) -> list[str]:
    found = [value for _, value in parse_qsl(parts.query)]
    found.append(parts.netloc.rpartition("@")[0].partition(":")[2])
    # Longest first: one may contain another.
    both = {each for one in found for each in (one, unquote(one)) if len(each) > 1}
    return sorted(both, key=len, reverse=True)


def _shown(url: str) -> str:
    parts = None if _ODD.search(url) else _split(url)
    # Raised here: no other error, with parts of the text, may be its cause.
    if parts is None or not _is_query(parts.query):
        raise ServerAddressError
    _, at, server = parts.netloc.rpartition("@")
    if parts.scheme == "unix":
        is_good = not server and parts.path.startswith("/") and "@" not in parts.path
    else:
        is_good = parts.scheme in {"redis", "rediss"} and _is_server(server, parts.path)
    if not is_good:
        raise ServerAddressError
    hidden = "…@" if at else ""
    options = "?…" if parts.query else ""
    return f"{parts.scheme}://{hidden}{server}{parts.path}{options}"


def _split(url: str) -> SplitResult | None:
    try:
        return urlsplit(url)
    except ValueError:
        return None


def _is_server(server: str, path: str) -> bool:
    found = _SERVER.fullmatch(server)
    if found is None or not _DATABASE.fullmatch(path):
        return False
    is_port = int(found["port"] or 1) in range(1, 65536)
    return is_port and _HOST.fullmatch(found["host"]) is not None


def _is_query(query: str) -> bool:
    """Return whether all are options: what else follows a "?" may be of a password."""
    return "@" not in query and all(
        re.fullmatch(r"[a-z_]+=[^=]*", each) for each in query.split("&") if query
    )
