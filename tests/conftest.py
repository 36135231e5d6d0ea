"""What every test may ask for: private Redis servers and the shared real data."""

import faulthandler
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import pytest
import redis
from hypothesis import HealthCheck, settings

from scanbus.cli.private_redis import PrivateRedis
from tests.support.sampled import mark_left_out

ROOT = Path(__file__).resolve().parent.parent
SHARED_DATA = ROOT.parent / "shared" / "data"
# Longer than any publisher that a failed test left open needs to close.
EXIT_S = 90
STDERR = 2

# A shell that runs something in the background has it ignore Ctrl-C, and children
# inherit that: tests which interrupt a program would wait for ever.
signal.signal(signal.SIGINT, signal.default_int_handler)

# The machine that runs the tests may be busy: a slow example is no failure there.
settings.register_profile("dev", deadline=None)
settings.register_profile(
    "ci",
    deadline=None,
    derandomize=True,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile(
    os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev")
)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Before `-m` decides which are run."""
    mark_left_out(items)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure() -> None:
    """End a process that a thread of a failed test keeps alive; say which thread."""
    faulthandler.dump_traceback_later(EXIT_S, exit=True, file=STDERR)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One process per processor that this one may use, hyper-threads included.

    Tests wait for other processes about half of their time.
    """
    return len(os.sched_getaffinity(0))


class RedisFactory(Protocol):
    """Start one more private server; it is stopped when the test ends."""

    def __call__(
        self,
        options: Mapping[str, str | int] | None = None,
        *,
        config: Path | None = None,
        tcp: bool = False,
    ) -> PrivateRedis: ...


@pytest.fixture(scope="session")
def redis_server() -> Iterator[PrivateRedis]:
    """One server for the whole run. Tests that change or kill it make their own."""
    with PrivateRedis(tcp=True) as server:
        yield server


@pytest.fixture
def redis_url(redis_server: PrivateRedis) -> str:
    """Address of an empty database on the shared server."""
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushall()
        client.script_flush()
    return redis_server.url


@pytest.fixture
def redis_factory() -> Iterator[RedisFactory]:
    """Start servers with options of their own: maxmemory, appendonly, TCP, ..."""
    with ExitStack() as stack:

        def start(
            options: Mapping[str, str | int] | None = None,
            *,
            config: Path | None = None,
            tcp: bool = False,
        ) -> PrivateRedis:
            server = PrivateRedis(options=options, config=config, tcp=tcp)
            return stack.enter_context(server)

        yield start


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with real detector frames, beside the repository; skips without it."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the real frames (../shared/data) are not on this machine")
    return SHARED_DATA


@pytest.fixture(scope="session")
def repository() -> Path:
    """Root of the repository."""
    return ROOT
