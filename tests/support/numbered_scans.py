"""Scans of one dataset by their numbers, sent by real publishers."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from scanbus.bus.store import connect, writers_alive
from scanbus.cli.private_redis import PrivateRedis
from scanbus.publisher import Publisher
from scanbus.schemas import Verdict
from tests.support.waiting import wait_until

__all__ = ["DATASET", "SESSION", "await_writer", "flush", "publish", "values_in"]

SESSION = "20260101"
DATASET = f"proposal/id00/{SESSION}/RAW_DATA/sample/sample_0001"


def publish(
    publisher: Publisher, values: Any, *, verdict_s: float = 60.0, **where: Any
) -> Verdict | None:
    """Publish one scan; return its verdict, unless it is not waited for."""
    with publisher.scan(session=SESSION, **where) as scan:
        scan.channel("a")
        scan.send("a", np.asarray(values, dtype=float))
    return scan.verdict(verdict_s) if verdict_s else None


def values_in(root: Path, number: int) -> list[float]:
    with h5py.File(root / DATASET / f"scan{number:04d}/scan{number:04d}.h5") as file:
        return list(file[f"{number}.1/measurement/a"][()])


def flush(server: PrivateRedis) -> None:
    with connect(server.url, name="test") as client:
        client.flushall()


def await_writer(server: PrivateRedis) -> None:
    """Wait until publishers know of a writer, which they ask for numbers."""
    with connect(server.url, name="test") as client:
        wait_until(lambda: bool(writers_alive(client)), timeout_s=60)
