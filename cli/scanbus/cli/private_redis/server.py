"""A Redis server owned by one process: start, kill, restart, end with the owner."""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from scanbus.cli.private_redis.server_binary import find_redis_server, server_version
from scanbus.schemas.errors import ScanbusError

__all__ = ["SOCKET_PATH_BYTES", "PrivateRedis", "PrivateRedisError"]

# Runs beside the server and reads its pid from a pipe. When the pipe closes, because
# the owner has ended or died (SIGKILL included), it kills the server and removes the
# folder.
# PR_SET_PDEATHSIG would need code between fork and exec, which is unsafe with threads.
CLEANUP_SCRIPT = """
pid=
while read -r line; do pid=$line; done
[ -n "$pid" ] && kill -9 "$pid" 2>/dev/null
rm -rf -- "$1"
"""

# sun_path has 108 bytes, with the final zero (unix(7)).
SOCKET_PATH_BYTES = 107


class PrivateRedisError(ScanbusError):
    """A private server ended before it answered, or never answered."""

    binary: str
    reason: str
    log_tail: str
    template = "{binary} {reason}; its log ends with: {log_tail}"


class PrivateRedis:
    """A Redis server on a unix socket in a temporary folder, for one owner.

    A context manager. Not safe to share between threads while starting or stopping.

    Parameters
    ----------
    options : mapping, optional
        Lines of the server's configuration, such as ``{"maxmemory": "64mb",
        "appendonly": "yes"}``; they replace the defaults (no persistence) and those of
        `config`. Several words are written unchanged; ``'""'`` is the empty string.
    config : Path, optional
        A configuration file that is read first.
    tcp : bool
        Also listen on a free port of 127.0.0.1. Restarts keep the port.
    environment : mapping, optional
        Environment variables of the server in addition to those of this process.
    binary : Path, optional
        Binary of the server; by default that of `find_redis_server`.
    start_timeout_s : float
        Longest wait for the first answer, in seconds, with the loading of an
        append-only file.
    report : callable, optional
        Called with one sentence if a server must be fetched first.

    Raises
    ------
    NoRedisServerError
        If there is no server, none can be fetched, or it does not run.

    Examples
    --------
    >>> with PrivateRedis(options={"maxmemory": "64mb"}) as redis:  # doctest: +SKIP
    ...     redis.url
    'unix:///tmp/scanbus-redis-k2v9x1/redis.sock'
    """

    def __init__(
        self,
        *,
        options: Mapping[str, str | int] | None = None,
        config: Path | None = None,
        tcp: bool = False,
        environment: Mapping[str, str] | None = None,
        binary: Path | None = None,
        start_timeout_s: float = 20.0,
        report: Callable[[str], None] | None = None,
    ) -> None:
        self._options = dict(options or {})
        self._config = config.resolve() if config else None
        self._tcp = tcp
        self._environment = {**os.environ, **(environment or {})}
        self._binary = binary or find_redis_server(report)
        self._start_timeout_s = start_timeout_s
        self._version = server_version(self._binary)
        self._port = 0
        self._folder: Path | None = None
        self._cleanup: subprocess.Popen[str] | None = None
        self._server: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Start the server."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop the server and remove its folder."""
        self.stop()

    @property
    def version(self) -> str:
        """The server's version, such as ``'7.0.15'``."""
        return self._version

    @property
    def folder(self) -> Path:
        """Folder of socket, log and append-only file; `stop` removes it."""
        if self._folder is None:
            raise RuntimeError("the private Redis has not been started")
        return self._folder

    @property
    def socket_path(self) -> Path:
        """The unix socket."""
        return self.folder / "redis.sock"

    @property
    def url(self) -> str:
        """Address of the unix socket, ``unix://…``; restarts keep it."""
        return f"unix://{self.socket_path}"

    @property
    def tcp_url(self) -> str:
        """Address over TCP, ``redis://127.0.0.1:…``; restarts keep it."""
        if not self._port:
            raise RuntimeError("this private Redis has no TCP port: pass tcp=True")
        return f"redis://127.0.0.1:{self._port}"

    @property
    def pid(self) -> int:
        """Process id of the running server."""
        if self._server is None:
            raise RuntimeError("the private Redis is not running")
        return self._server.pid

    @property
    def is_running(self) -> bool:
        """Whether the server's process is alive."""
        return self._server is not None and self._server.poll() is None

    def start(self) -> None:
        """Start the server and wait until it answers.

        Raises
        ------
        PrivateRedisError
            If it ends or does not answer in time.
        """
        if self.is_running:
            return
        if self._cleanup is None:
            self._make_folder()
        try:
            self._launch()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the server and remove its folder; may be called twice."""
        self._end_server(graceful=True)
        cleanup, self._cleanup = self._cleanup, None
        if cleanup is not None and cleanup.stdin is not None:
            # A broken pipe: the cleanup process was killed; see below for the folder.
            with contextlib.suppress(BrokenPipeError):
                cleanup.stdin.close()
            cleanup.wait(timeout=20)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def kill(self) -> None:
        """Kill the server with SIGKILL, like a crash; its folder stays."""
        self._end_server(graceful=False)

    def restart(self) -> None:
        """Start again in the same folder and at the same address.

        A server that still runs is stopped first with SIGTERM, as when its machine
        shuts down; one that was killed loads what it had on disk.
        """
        self._end_server(graceful=True)
        self.start()

    def _make_folder(self) -> None:
        made = tempfile.mkdtemp(prefix="scanbus-redis-")
        if len(os.fsencode(made)) + len("/redis.sock") > SOCKET_PATH_BYTES:
            Path(made).rmdir()
            made = tempfile.mkdtemp(prefix="scanbus-redis-", dir="/tmp")
        self._folder = Path(made)
        self._cleanup = subprocess.Popen(
            ["/bin/sh", "-c", CLEANUP_SCRIPT, "scanbus-redis-cleanup", made],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )

    def _launch(self) -> None:
        # Another process may take the free port before the server does: try again,
        # but only while the address is not in use by any client.
        attempts = 3 if self._tcp and not self._port else 1
        for attempt in range(attempts):
            self._launch_once(self._port or (_free_port() if self._tcp else 0))
            reason = self._wait_for_answer()
            if reason is None:
                return
            log_tail = self._log_tail()
            self._end_server(graceful=False)
            taken = "Address already in use" in log_tail
            if attempt + 1 == attempts or not taken:
                raise PrivateRedisError(str(self._binary), reason, log_tail)

    def _launch_once(self, port: int) -> None:
        conf = self.folder / "private.conf"
        conf.write_text(self._configuration(port))
        self.socket_path.unlink(missing_ok=True)  # left by a killed server
        self._port_tried = port
        # Its own session: Ctrl-C must reach only the owner, which may still have data
        # to write when it ends.
        with (self.folder / "redis.err").open("wb") as errors:
            self._server = subprocess.Popen(
                [str(self._binary), str(conf)],
                cwd=self.folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                start_new_session=True,
            )
        self._tell_cleanup(str(self._server.pid))

    def _configuration(self, port: int) -> str:
        lines: dict[str, str | int] = {
            "bind": "127.0.0.1",
            "daemonize": "no",
            "supervised": "no",
            "save": '""',
            "appendonly": "no",
        }
        if self._config is not None:
            lines = {"include": str(self._config), **lines}
        lines |= self._options
        lines |= {
            "port": port,
            "unixsocket": str(self.socket_path),
            "unixsocketperm": 700,
            "dir": str(self.folder),
            "pidfile": '""',
            "logfile": str(self.folder / "redis.log"),
        }
        return "".join(f"{key} {value}\n" for key, value in lines.items())

    def _wait_for_answer(self) -> str | None:
        """Return None once the server answers, else why it does not."""
        deadline = time.monotonic() + self._start_timeout_s
        while time.monotonic() < deadline:
            if not self.is_running:
                return "ended at once"
            if _answers(self.socket_path):
                self._port = self._port_tried
                return None
            time.sleep(0.01)
        return f"did not answer within {self._start_timeout_s:g} s"

    def _end_server(self, *, graceful: bool) -> None:
        server, self._server = self._server, None
        if server is None:
            return
        self._tell_cleanup("")  # first: the pid is free for others after the wait
        if graceful:
            server.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(timeout=10)
        server.kill()
        server.wait(timeout=20)

    def _tell_cleanup(self, line: str) -> None:
        if self._cleanup is None or self._cleanup.stdin is None:
            return
        # Without the cleanup process, only `stop` ends the server.
        with contextlib.suppress(BrokenPipeError):
            self._cleanup.stdin.write(line + "\n")
            self._cleanup.stdin.flush()

    def _log_tail(self) -> str:
        # Errors in the configuration go to stderr, before the log is opened.
        lines: list[str] = []
        for name in ("redis.log", "redis.err"):
            path = self.folder / name
            text = path.read_text(errors="replace") if path.exists() else ""
            lines += text.strip().splitlines()[-4:]
        return " / ".join(lines) or "(nothing)"


def _answers(path: Path) -> bool:
    """Return whether a server on this socket accepts commands; not while LOADING."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(1.0)
            connection.connect(str(path))
            connection.sendall(b"PING\r\n")
            # -NOAUTH: it runs, and requires the password that the owner configured.
            return connection.recv(64).startswith((b"+PONG", b"-NOAUTH"))
    except OSError:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
