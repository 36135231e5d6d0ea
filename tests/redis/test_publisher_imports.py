"""What importing the publisher leaves out is loaded before the first point is sent."""

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.redis


def test_sending_the_first_point_loads_nothing_large(redis_url: str) -> None:
    """A trigger may wait for the first point: opening is the time to be slow."""
    program = f"""
import sys
large = {{"asyncio", "pydantic", "redis", "rich", "structlog"}}
from scanbus.publisher import Publisher
with Publisher({redis_url!r}, close_timeout_s=0) as publisher, publisher.scan() as scan:
    scan.channel("a")
    before = set(sys.modules)
    scan.send("a", 1.0)
    loaded = {{name.partition(".")[0] for name in set(sys.modules) - before}}
print("LOADED", *sorted(large & loaded))
print("THERE", *sorted({{"redis", "structlog"}} & before))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        timeout=20,
        check=True,
        text=True,
    )
    assert done.stdout.splitlines()[-2:] == ["LOADED", "THERE redis structlog"]
