"""The REST interface of a simulated DECTRIS detector, as far as gateways ask it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

from scanbus.schemas.errors import ConfigurationError

__all__ = ["served_configuration"]

_VERSION = "1.8.0"


@contextmanager
def served_configuration(address: str, config: Mapping[str, Any]) -> Iterator[str]:
    """Answer at an address while the block runs; yield the address.

    Parameters
    ----------
    address : str
        ``http://HOST:PORT``; port 0 for a free one.
    config : mapping
        Values of the detector's configuration, by key.

    Raises
    ------
    ConfigurationError
        If it cannot listen there.
    """
    values = {"version": _VERSION}
    values |= {f"{_VERSION}/config/{key}": value for key, value in config.items()}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = self.path.removeprefix("/detector/api/")
            is_known = path in values
            found = {"value": values[path], "access_mode": "r"} if is_known else {}
            body = json.dumps(found).encode()
            self.send_response(200 if is_known else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - theirs
            """Log nothing."""

    parts = urlsplit(address)
    host = parts.hostname or "127.0.0.1"
    try:
        server = ThreadingHTTPServer((host, parts.port or 0), Handler)
    except (OSError, ValueError) as error:
        raise ConfigurationError("rest", f"{address!r}: {error}") from error
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, name="simulated-rest")
    thread.start()
    try:
        yield f"http://{host}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
