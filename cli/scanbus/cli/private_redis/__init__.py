"""Start a private Redis server, for the demo and the tests.

It listens on a unix socket in a temporary folder, is not persistent unless configured
to be, and ends with the process that started it, also if that is killed. A Redis of
the machine is not affected. The modules here use a raw socket, because only
`scanbus.bus` uses the ``redis`` package.

Errors::

    ScanbusError
    +-- NoRedisServerError     no server binary, and none could be fetched
    +-- PrivateRedisError      the server did not start or did not answer in time
"""

from scanbus.cli.private_redis.server import (
    SOCKET_PATH_BYTES,
    PrivateRedis,
    PrivateRedisError,
)
from scanbus.cli.private_redis.server_binary import (
    SERVER_VARIABLE,
    NoRedisServerError,
    fetch_redis_server,
    find_redis_server,
    server_version,
)

__all__ = [
    "SERVER_VARIABLE",
    "SOCKET_PATH_BYTES",
    "NoRedisServerError",
    "PrivateRedis",
    "PrivateRedisError",
    "fetch_redis_server",
    "find_redis_server",
    "server_version",
]
