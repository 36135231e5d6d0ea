"""A simulated detector at its full rate: each frame byte by byte in the file."""

from pathlib import Path

import pytest

from scanbus.publisher.gateways.runner.frame_numbers import span_text
from scanbus.schemas import VerdictWord
from tests.conftest import RedisFactory
from tests.support.gateway_proof import LARGE, Outcome, prove

pytestmark = pytest.mark.redis

SMALL = (256, 400)
WHY = "the gateway was killed and started again"


def check(found: Outcome, n_frames: int) -> None:
    """What came is the same; what could not come is named."""
    assert found.different == []
    assert found.verdict.channels["eiger"].expected == n_frames
    assert set(found.dropped) <= found.missing


def check_killed(found: Outcome, n_frames: int) -> None:
    check(found, n_frames)
    # One hole, at the kill: what ZeroMQ dropped lies beside what the gateway had.
    (hole,) = found.verdict.channels["eiger"].missing or ((0, 0),)
    assert hole[1] - hole[0] < n_frames // 2
    # At most what was between two of its queues has no number.
    assert len(found.missing_of("eiger_frame_number") - found.missing) < 20
    if found.missing:
        assert f"eiger: {WHY}: {span_text(*hole)} " in found.verdict.reason


@pytest.mark.parametrize("stream", ["v1", "v2"])
def test_each_frame_is_in_the_file_byte_by_byte(
    redis_url: str, tmp_path: Path, stream: str
) -> None:
    found = prove(
        stream,
        tmp_path,
        redis_url,
        shape=SMALL,
        n_frames=300,
        rate=100.0,
        kill=False,
    )
    check(found, 300)
    assert found.verdict.verdict is VerdictWord.COMPLETE


@pytest.mark.parametrize("stream", ["v1", "v2"])
def test_of_a_killed_gateway_what_could_not_come_is_named(
    redis_url: str, tmp_path: Path, stream: str
) -> None:
    found = prove(
        stream,
        tmp_path,
        redis_url,
        shape=SMALL,
        n_frames=600,
        rate=100.0,
        kill=True,
        spool=tmp_path / "spool" if stream == "v2" else None,
    )
    check_killed(found, 600)


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kill", [False, True])
@pytest.mark.parametrize("stream", ["v1", "v2"])
def test_a_minute_of_two_megabytes_at_a_hundred_hertz(
    redis_factory: RedisFactory, tmp_path: Path, stream: str, *, kill: bool
) -> None:
    """Memory is flat, and nothing is lost that ZeroMQ could deliver."""
    server = redis_factory({"maxmemory": "6gb"})
    found = prove(
        stream,
        tmp_path,
        server.url,
        shape=LARGE,
        n_frames=6000,
        rate=100.0,
        kill=kill,
    )
    assert found.payload_bytes > 1.9e6
    assert found.memory_growth() < 1.2
    if kill:
        check_killed(found, 6000)
    else:
        check(found, 6000)
