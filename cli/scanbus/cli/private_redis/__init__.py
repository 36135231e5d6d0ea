"""Start a Redis server of one's own, for the demo and the tests.

It listens on a unix socket in a temporary folder, keeps nothing on disk unless told
to, and goes away with the process that started it, also when that one is killed. The
machine's own Redis, if any, is not touched. The modules here speak to the server over
a raw socket: the ``redis`` package belongs to `scanbus.bus`.

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
