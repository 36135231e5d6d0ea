"""Hostile messages, over a real socket: each is refused, and the series goes on."""

import socket
from pathlib import Path
from random import Random
from typing import Any

import cbor2
import numpy as np
import psutil
import pytest

from scanbus.publisher.gateways.dectris import DectrisGateway, SimulatedSender
from scanbus.publisher.gateways.dectris.simulated_messages import SeriesV1
from scanbus.publisher.gateways.runner import Gateway
from scanbus.publisher.gateways.runner.series_counts import SeriesCounts
from scanbus.publisher.gateways.wire.simulated_v2 import SeriesV2
from scanbus.publisher.gateways.zmq import ZmqGateway
from scanbus.publisher.gateways.zmq.simulated_messages import MaxivSeries
from scanbus.schemas import VerdictWord
from tests.redis.test_gateways import frame, frames_in, verdict_of, written
from tests.support.gate import Gate
from tests.support.waiting import wait_until
from tests.unit.test_dectris_messages import BAD_V1, BAD_V2
from tests.unit.test_zmq_messages import BAD

pytestmark = pytest.mark.redis

PLAIN = frame(0)
N_FRAMES = 5
MORE_BYTES = 200 * 2**20


def image_with(**fields: Any) -> list[bytes]:
    """Return an image of stream V2 with other fields."""
    (sent,) = SeriesV2(1).image(0, PLAIN)
    return [cbor2.dumps({**cbor2.loads(sent), **fields})]


# What is right by itself, and cannot be a frame of a scan.
UNFIT_V2 = [
    SeriesV2(1).image(0, {"a\0b": PLAIN}),
    SeriesV2(1).image(0, {"": PLAIN}),
    SeriesV2(1).image(0, {"arrival_time": PLAIN, "t": PLAIN}),
    SeriesV2(1).image(0, PLAIN.astype("<f2")),
    SeriesV2(1).image(0, PLAIN.reshape(1, 1, 1, 1, 1, -1)),
    image_with(data={f"channel_{n}": None for n in range(100)}),
    SeriesV2(1, {"pixel_mask": {"a\0": PLAIN}}).header(),
    SeriesV2(9).calibration("x", PLAIN),
]
UNFIT_ARRAYS = [
    MaxivSeries(1).image(0, PLAIN.astype("<f2")),
    MaxivSeries(1).image(0, PLAIN.reshape(1, 1, 1, 1, 1, -1)),
]
V1 = [parts for parts, _ in BAD_V1.values() if parts]
V2 = [[message] for message, _ in BAD_V2.values()]
ARRAYS = [parts for parts, _ in BAD.values() if parts]
CASES: dict[str, tuple[type, Any, list[list[bytes]]]] = {
    "dectris-v1": (DectrisGateway, SeriesV1, V1),
    "dectris-v2": (DectrisGateway, SeriesV2, [*V2, *UNFIT_V2]),
    "jungfraujoch": (ZmqGateway, SeriesV2, [*V2, *UNFIT_V2]),
    "maxiv": (ZmqGateway, MaxivSeries, [*ARRAYS, *UNFIT_ARRAYS]),
}


class OneGateway:
    """A sender, as far as `Gate` needs it."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def gateway(self) -> Gateway:
        return self._gateway


@pytest.mark.parametrize(("kind", "series", "hostile"), CASES.values(), ids=CASES)
def test_hostile_messages_cost_no_frame(
    redis_url: str, tmp_path: Path, kind: type, series: Any, hostile: list[list[bytes]]
) -> None:
    config = {"nimages": N_FRAMES, "number_of_images": N_FRAMES}
    messages = series(1, config)
    before = psutil.Process().memory_info().rss
    with SimulatedSender("tcp://127.0.0.1:*") as sender:
        gate = Gate(OneGateway(kind(sender.address)), redis_url, once=True)
        assert sender.send(messages.header())
        for number in range(N_FRAMES):
            for parts in hostile:
                assert sender.send(parts)
            assert sender.send(messages.image(number, frame(number)))
        assert sender.send(messages.end())
        report = gate.report()
    grown = psutil.Process().memory_info().rss - before
    (_, counts) = report.series[0]
    assert report.failed == {}
    assert report.refused == counts.refused == N_FRAMES * len(hostile)
    assert (counts.frames, counts.missing) == (N_FRAMES, 0)
    assert grown < MORE_BYTES
    written(redis_url, tmp_path)
    assert verdict_of(redis_url, report).verdict is VerdictWord.COMPLETE
    np.testing.assert_array_equal(
        frames_in(tmp_path), [frame(number) for number in range(N_FRAMES)]
    )


def mutated(random: Random, parts: list[bytes]) -> list[bytes]:
    """Return a message of which some bytes were changed, cut, repeated or added."""
    index = random.randrange(len(parts))
    octets = bytearray(parts[index])
    for _ in range(random.randint(1, 4)):
        place = random.randrange(len(octets) + 1)
        match random.randrange(5):
            case 0:
                octets[place : place + 1] = random.randbytes(1)
            case 1:
                del octets[place : place + random.choice([1, 8, 1000])]
            case 2:
                octets[place:place] = random.choice([b"9" * 30, b"[" * 500, b"\x9b"])
            case 3:
                octets[place : place + 8] = (2**62).to_bytes(8, "big")
            case 4:
                octets[place:place] = octets[:200]
    changed = [*parts]
    changed[index] = bytes(octets)
    if random.random() < 0.1:
        changed.pop(random.randrange(len(changed)))
    return changed or [b""]


@pytest.mark.parametrize("kind", CASES)
def test_after_any_mutated_messages_a_series_is_whole(
    redis_url: str, tmp_path: Path, kind: str
) -> None:
    """Some of them are right all the same, and begin, end or continue a series."""
    make, series, _ = CASES[kind]
    config = {"nimages": N_FRAMES, "number_of_images": N_FRAMES}
    random, first = Random(kind), series(1, config)
    valid = [first.header(), first.image(0, PLAIN), first.image(1, PLAIN), first.end()]
    before = psutil.Process().memory_info().rss
    with SimulatedSender("tcp://127.0.0.1:*") as sender:
        gate = Gate(OneGateway(make(sender.address)), redis_url)
        assert sender.send(first.header())
        for number in range(200):
            assert sender.send(mutated(random, valid[number % 4]))
        last = series(77, config)
        for parts in (
            last.header(),
            *(last.image(number, frame(number)) for number in range(N_FRAMES)),
            last.end(),
        ):
            assert sender.send(parts)
        wait_until(lambda: is_whole(gate))
        report = gate.stop()
    assert report.refused > 50
    assert psutil.Process().memory_info().rss - before < MORE_BYTES
    written(redis_url, tmp_path)
    verdict = verdict_of(redis_url, report, len(report.series) - 1)
    assert verdict.verdict is VerdictWord.COMPLETE


def is_whole(gate: Gate) -> bool:
    """Whether the last series that ended has all its frames."""
    ended = tuple(gate.runner.so_far.series)
    return bool(ended) and ended[-1][1] == SeriesCounts(frames=N_FRAMES)


def test_a_first_frame_that_does_not_unpack_costs_itself_alone(redis_url: str) -> None:
    """It waits for the second frame, which tells if numbers begin at 0 or 1."""
    series = SeriesV1(1, {"nimages": 3})
    big = PLAIN.astype(">u2")  # Unpacked by the gateway, as the bus is little-endian.
    broken = series.image(1, big)
    broken[2] = broken[2][:16] + b"\xff" * 30 + broken[2][46:]
    images = [series.image(number, big) for number in (2, 3)]
    with SimulatedSender("tcp://127.0.0.1:*") as sender:
        gate = Gate(OneGateway(DectrisGateway(sender.address)), redis_url, once=True)
        for parts in (series.header(), broken, *images, series.end()):
            assert sender.send(parts)
        report = gate.report()
    counts = report.series[0][1]
    assert (counts.frames, counts.refused, counts.missing) == (2, 1, 1)
    assert report.failed == {}


def greet(peer: socket.socket) -> None:
    """Be a PUSH socket, as far as the handshake of ZMTP 3.0 goes."""
    peer.settimeout(20)
    peer.sendall(b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(48))
    left = 64
    while left:
        left -= len(peer.recv(left))
    ready = b"\x05READY\x0bSocket-Type\x00\x00\x00\x04PUSH"
    peer.sendall(bytes([4, len(ready)]) + ready)


HOSTILE_PEERS = {
    "a part of terabytes": b"\x02" + (2**42).to_bytes(8, "big") + b"x" * 1000,
    "rubbish": b"\xff" * 100,
}


@pytest.mark.parametrize("octets", HOSTILE_PEERS.values(), ids=HOSTILE_PEERS)
def test_after_a_hostile_peer_the_next_one_is_served(
    redis_url: str, octets: bytes
) -> None:
    """libzmq disconnects it, and would never connect to that address again."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        gate = Gate(OneGateway(DectrisGateway(address)), redis_url, once=True)
        peer, _ = server.accept()
        with peer:
            greet(peer)
            peer.sendall(octets)
            while peer.recv(1000):
                pass
    series = SeriesV1(1)
    with SimulatedSender(address) as sender:
        for parts in (series.header(), series.image(0, PLAIN), series.end()):
            assert sender.send(parts)
        report = gate.report()
    assert (report.series[0][1].frames, report.refused) == (1, 0)
