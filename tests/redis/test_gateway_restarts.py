"""Every gateway that is killed goes on in the same scan when it is started again."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import h5py
import hdf5plugin  # noqa: F401 (registers the filters that frames need)
import numpy as np
import numpy.typing as npt
import pytest

from scanbus.bus.store import (
    announcements,
    connect,
    ends_of_streams,
    find_scan,
    gateways_alive,
    note_gateway,
    read_gateway,
)
from scanbus.publisher import close_scan
from scanbus.publisher.gateways.runner import GatewayRunner, GatewaySettings, ScanNames
from scanbus.publisher.gateways.wire.simulated_v2 import SeriesV2
from scanbus.schemas import EndReason, Verdict, VerdictWord
from scanbus.schemas.errors import ConfigurationError
from scanbus.writer import WriterSettings, run_writer
from tests.support.gateway_process import GatewayProcess, wait_alive
from tests.support.gateway_senders import (
    DISTINCT,
    SENDERS,
    Sender,
    ZmqSender,
    dectris_gateway,
    made_sender,
)
from tests.support.roots import made_root
from tests.support.waiting import found_below
from tests.support.writers import final_verdict, wait_until, writer

pytestmark = [pytest.mark.redis, pytest.mark.sampled(2)]

SHAPE = (40, 60)
NAMES = ScanNames("eiger", {"proposal": "hg1", "collection": "sample"})
WHY = "the gateway was killed and started again"


PLACES = ("spool", "bus")
# Each kind of sender, at one place for what a gateway leaves; all in the long form.
PAIRS = [
    pytest.param(
        (made, place),
        id=f"{name}-{place}",
        marks=()
        if name in DISTINCT and PLACES.index(place) == number % 2
        else pytest.mark.long,
    )
    for number, (name, made) in enumerate(SENDERS.items())
    for place in PLACES
]


@pytest.fixture(params=PAIRS)
def pair(request: pytest.FixtureRequest) -> tuple[Callable[[], Sender], str]:
    """Return what makes a sender, and where the gateway leaves what it has."""
    found: tuple[Callable[[], Sender], str] = request.param
    return found


@pytest.fixture
def sender(
    pair: tuple[Callable[[], Sender], str], request: pytest.FixtureRequest
) -> Iterator[Sender]:
    """One sender after the other."""
    yield from made_sender(pair[0], request.node.originalname)


@pytest.fixture
def spool(pair: tuple[Callable[[], Sender], str], tmp_path: Path) -> Path | None:
    """The folder of a spool, or None."""
    return tmp_path / "spool" if pair[1] == "spool" else None


class Restarted:
    """A gateway that is killed and started again."""

    def __init__(self, sender: Sender, url: str, spool: Path | None) -> None:
        self._sender = sender
        self._url = url
        self._spool = spool
        self._process = self._start(once=False)

    def _start(self, *, once: bool) -> GatewayProcess:
        return GatewayProcess(
            self._sender.maker(), self._url, NAMES, once=once, spool=self._spool
        )

    def kill(self) -> None:
        self._process.kill()

    def restart(self, *, once: bool = True) -> None:
        self._process.kill()
        self._sender.await_loss()
        self._process = self._start(once=once)
        wait_alive(self._url, self._process.pid)

    def wait(self) -> None:
        self._process.wait()

    def close(self) -> None:
        self._process.close()


@pytest.fixture
def gate(sender: Sender, redis_url: str, spool: Path | None) -> Iterator[Restarted]:
    """A gateway of the sender, as a service."""
    made = Restarted(sender, redis_url, spool)
    yield made
    made.close()


def frame(number: int) -> npt.NDArray[Any]:
    return np.random.default_rng(number).poisson(9, SHAPE).astype("<u2")


def send(sender: Sender, series: int, numbers: range) -> None:
    for number in numbers:
        sender.frame(series, number, frame(number))


def uids(url: str) -> list[str]:
    with connect(url, name="test") as client:
        found = (each.document for each in announcements(client))
        return [each.scan.uid for each in found if each]


def wait_sent(url: str, n_frames: int) -> None:
    """Wait until all values of the last scan's first frames are on the bus.

    Those of each channel: what one of them lacks is lost with the gateway.
    """

    def is_sent() -> bool:
        with connect(url, name="test") as client:
            found = uids(url)
            prepared = find_scan(client, found[-1]).prepared if found else None
            if prepared is None:
                return False
            lanes = [lane.name for lane in prepared.lanes]
            ends = ends_of_streams(client, found[-1], lanes)
        points = [sum(map(int, end[1].split(b"-"))) if end else 0 for end in ends]
        return min(points) >= n_frames

    wait_until(is_sent)


def written(url: str, root: Path) -> Verdict:
    """Write the only scan; return its verdict."""
    (uid,) = uids(url)
    run_writer(WriterSettings.load(redis=url, root=made_root(root)), once=True)
    return final_verdict(url, uid)


def check(root: Path, verdict: Verdict, n_frames: int) -> None:
    """Every frame and value that is not missing is right, and in its place."""

    def there(channel: str) -> list[int]:
        missing = verdict.channels[channel].missing
        return sorted(set(range(n_frames)).difference(*(range(*m) for m in missing)))

    with h5py.File(found_below(root, "scan0001.h5")[0]) as file:
        found = file["1.1/measurement/eiger"][()]
        numbers = file["1.1/measurement/eiger_frame_number"][()]
    assert len(found) == n_frames
    frames, values = there("eiger"), there("eiger_frame_number")
    np.testing.assert_array_equal(found[frames], [frame(n) for n in frames])
    np.testing.assert_array_equal(numbers[values], values)


def test_a_killed_gateway_goes_on_in_the_same_scan(
    gate: Restarted, sender: Sender, redis_url: str, tmp_path: Path
) -> None:
    sender.start(1, 20)
    send(sender, 1, range(10))
    wait_sent(redis_url, 10)
    gate.restart()
    send(sender, 1, range(10, 20))
    sender.end(1)
    gate.wait()
    verdict = written(redis_url, tmp_path)
    assert verdict.verdict is VerdictWord.COMPLETE
    assert verdict.end_reason == EndReason.SUCCESS.value
    check(tmp_path, verdict, 20)
    with connect(redis_url, name="test") as client:
        record = find_scan(client, verdict.uid)
    assert any("goes on with frame 10" in each.note for each in record.updates)


def test_a_killed_gateway_goes_on_with_several_channels_of_a_detector(
    redis_url: str, tmp_path: Path
) -> None:
    sender = ZmqSender(dectris_gateway, SeriesV2)
    gate = Restarted(sender, redis_url, None)

    def send_both(numbers: range) -> None:
        for number in numbers:
            names = ("threshold_1", "threshold_2")
            sender.frame(1, number, {name: frame(number) for name in names})

    try:
        sender.start(1, 6)
        send_both(range(3))
        wait_sent(redis_url, 3)
        gate.restart()
        send_both(range(3, 6))
        sender.end(1)
        gate.wait()
    finally:
        gate.close()
        sender.close()
    verdict = written(redis_url, tmp_path)
    assert verdict.verdict is VerdictWord.COMPLETE
    frames = {name for name in verdict.channels if "threshold" in name}
    assert frames == {"eiger_threshold_1", "eiger_threshold_2"}
    assert all(each.expected == 6 for each in verdict.channels.values())


def test_what_was_lost_meanwhile_is_named_with_its_reason(
    gate: Restarted, sender: Sender, redis_url: str, tmp_path: Path
) -> None:
    """Also if it is killed again, and at the end of the series."""
    sender.start(1, 20)
    send(sender, 1, range(5))
    wait_sent(redis_url, 5)
    gate.restart(once=False)
    send(sender, 1, range(8, 12))
    wait_sent(redis_url, 12)
    gate.restart(once=False)
    send(sender, 1, range(13, 18))
    wait_sent(redis_url, 18)
    gate.restart()
    sender.end(1)
    gate.wait()
    verdict = written(redis_url, tmp_path)
    assert verdict.verdict is VerdictWord.PARTIAL
    lost = {(5, 8): "frames 5 to 7", (12, 13): "frame 12"}
    if sender.has_starts:  # Others promise no number of frames.
        lost[18, 20] = "frames 18 to 19"
    for name in ("eiger", "eiger_frame_number"):
        assert verdict.channels[name].missing == tuple(lost)
    for frames in lost.values():
        assert f"eiger: {WHY}: {frames} w" in verdict.reason
    check(tmp_path, verdict, 20 if sender.has_starts else 18)


def test_frames_that_come_again_after_a_restart_stand_once(
    gate: Restarted, sender: Sender, redis_url: str, tmp_path: Path
) -> None:
    sender.start(1, 12)
    send(sender, 1, range(8))
    wait_sent(redis_url, 8)
    gate.restart()
    send(sender, 1, range(4, 12))
    sender.end(1)
    gate.wait()
    verdict = written(redis_url, tmp_path)
    assert verdict.verdict is VerdictWord.COMPLETE
    check(tmp_path, verdict, 12)


def test_a_gateway_killed_before_the_first_frame_makes_one_scan(
    gate: Restarted, sender: Sender, redis_url: str, tmp_path: Path
) -> None:
    """A detector that is armed and waits for its trigger; its numbers begin with 1."""
    if not sender.has_starts:
        pytest.skip("nothing says that it is armed")
    sender.start(1, 6)
    wait_until(lambda: uids(redis_url))
    gate.restart()
    for number in range(1, 7):
        sender.frame(1, number, frame(number - 1))
    sender.end(1)
    gate.wait()
    verdict = written(redis_url, tmp_path)
    assert verdict.verdict is VerdictWord.COMPLETE
    with h5py.File(found_below(tmp_path, "scan0001.h5")[0]) as file:
        found = file["1.1/measurement/eiger"][()]
    np.testing.assert_array_equal(found, [frame(n) for n in range(6)])


def test_an_end_that_comes_after_the_restart_ends_the_scan(
    gate: Restarted, sender: Sender, redis_url: str, tmp_path: Path
) -> None:
    sender.start(1, 5)
    send(sender, 1, range(5))
    wait_sent(redis_url, 5)
    gate.restart()
    sender.end(1)
    gate.wait()
    verdict = written(redis_url, tmp_path)
    assert verdict.verdict is VerdictWord.COMPLETE
    check(tmp_path, verdict, 5)


def test_another_series_after_the_restart_is_another_scan(
    gate: Restarted, sender: Sender, redis_url: str, tmp_path: Path
) -> None:
    """While the first one is written: it has no end, as that came meanwhile."""
    with writer(redis_url, tmp_path):
        sender.start(1, 9)
        send(sender, 1, range(5))
        wait_sent(redis_url, 5)
        gate.restart(once=False)
        sender.start(2, 3)
        send(sender, 2, range(3))
        sender.end(2)
        first, second = wait_until(
            lambda: len(uids(redis_url)) == 2 and uids(redis_url)
        )
        verdict = final_verdict(redis_url, first)
        if sender.has_starts:
            assert verdict.end_reason == EndReason.FAILURE.value
            assert verdict.channels["eiger"].missing == ((5, 9),)
        check(tmp_path, verdict, 9 if sender.has_starts else 5)
        verdict = final_verdict(redis_url, second)
        assert verdict.verdict is VerdictWord.COMPLETE


def test_a_series_that_ended_before_the_kill_is_not_begun_again(
    gate: Restarted, sender: Sender, redis_url: str
) -> None:
    """A frame that comes too late is refused, as before."""
    if not sender.has_starts:
        pytest.skip("nothing says that it is over")
    sender.start(1, 3)
    send(sender, 1, range(3))
    sender.end(1)
    name = f"{sender.gateway().kind} {sender.gateway().address}"
    with connect(redis_url, name="test") as client:
        wait_until(lambda: "1" in read_gateway(client, name).get("ended", ()))
        gate.restart(once=False)
        if sender.names_series:
            sender.frame(1, 2, frame(2))
        sender.start(2, 1)
        wait_until(lambda: len(uids(redis_url)) == 2)
        (state,) = read_gateway(client, name)["on_the_way"]
    assert state["series"] == "2"


def test_frames_of_the_hole_that_come_later_are_kept(
    gate: Restarted, sender: Sender, redis_url: str, tmp_path: Path
) -> None:
    """They are late points: nothing waited for them."""
    sender.start(1, 10)
    send(sender, 1, range(4))
    wait_sent(redis_url, 4)
    gate.restart()
    send(sender, 1, range(7, 10))
    send(sender, 1, range(5, 6))
    sender.end(1)
    gate.wait()
    verdict = written(redis_url, tmp_path)
    ledger = verdict.channels["eiger"]
    assert ledger.missing == ((4, 7),)
    assert ledger.late == ((5, 6),)
    check(tmp_path, verdict, 10)


def test_an_end_that_was_received_and_not_passed_on_is_made_good(
    gate: Restarted, sender: Sender, redis_url: str, tmp_path: Path
) -> None:
    """The gateway is killed between the two, and the detector says it once only."""
    sender.start(1, 6)
    send(sender, 1, range(5))
    wait_sent(redis_url, 5)
    gate.kill()
    name = f"{sender.gateway().kind} {sender.gateway().address}"
    with connect(redis_url, name="test") as client:
        noted = read_gateway(client, name)
        noted["on_the_way"][0]["end"] = ["SUCCESS", "said once"]
        note_gateway(client, name, noted)
    gate.restart()
    gate.wait()
    verdict = written(redis_url, tmp_path)
    assert verdict.end_reason == EndReason.SUCCESS.value
    n_frames = 6 if sender.has_starts else 5
    assert verdict.channels["eiger"].missing == (((5, 6),) if n_frames == 6 else ())
    check(tmp_path, verdict, n_frames)


def test_a_successor_with_another_detectors_name_begins_another_scan(
    gate: Restarted, sender: Sender, redis_url: str, spool: Path | None
) -> None:
    sender.start(1, 8)
    send(sender, 1, range(3))
    wait_sent(redis_url, 3)
    gate.kill()
    names = ScanNames("pilatus", NAMES.scan)
    other = GatewayProcess(sender.maker(), redis_url, names, once=True, spool=spool)
    wait_alive(redis_url, other.pid)
    send(sender, 1, range(3, 5))
    sender.end(1)
    other.wait()
    first, second = uids(redis_url)
    with connect(redis_url, name="test") as client:
        ended = find_scan(client, first).ended
        assert ended is not None
        assert "its successor has other channels" in ended.text
        prepared = find_scan(client, second).prepared
    assert prepared is not None
    assert prepared.lanes[0].name == "pilatus"


def test_what_comes_after_the_scan_was_closed_is_another_scan(
    gate: Restarted, sender: Sender, redis_url: str, tmp_path: Path
) -> None:
    """An operator, or the writer, has closed it while there was no gateway."""
    sender.start(1, 8)
    send(sender, 1, range(5))
    wait_sent(redis_url, 5)
    gate.kill()
    (first,) = uids(redis_url)
    with connect(redis_url, name="test") as client:
        client.delete(f"scanbus:{{{first}}}:publisher")  # As if it had expired.
    close_scan(redis_url, first)
    gate.restart()
    send(sender, 1, range(5, 8))
    sender.end(1)
    gate.wait()
    run_writer(
        WriterSettings.load(redis=redis_url, root=made_root(tmp_path)), once=True
    )
    _, second = uids(redis_url)
    assert final_verdict(redis_url, first).channels["eiger"].expected == 5
    verdict = final_verdict(redis_url, second)
    assert verdict.end_reason == EndReason.SUCCESS.value
    assert (5, 8) not in verdict.channels["eiger"].missing
    with h5py.File(found_below(tmp_path, "scan0002.h5")[0]) as file:
        found = file["2.1/measurement/eiger"][()]
    np.testing.assert_array_equal(found[-3:], [frame(n) for n in range(5, 8)])


@pytest.mark.long
@pytest.mark.parametrize("seed", range(6))
def test_a_gateway_killed_at_any_time_makes_one_scan(
    gate: Restarted, sender: Sender, redis_url: str, tmp_path: Path, seed: int
) -> None:
    """What was on the bus before a kill is in the file."""
    random, n_frames = Random(seed), 200
    with writer(redis_url, tmp_path):
        sender.start(1, n_frames)
        number = 0 if sender.has_starts else 1
        send(sender, 1, range(number))
        wait_until(lambda: uids(redis_url))
        for _ in range(4):
            stop = number + random.randrange(1, 30)
            send(sender, 1, range(number, stop))
            time.sleep(random.uniform(0, 0.2))
            gate.restart(once=False)
            number = stop
        gate.restart()
        send(sender, 1, range(number, n_frames))
        sender.end(1)
        gate.wait()
        (uid,) = uids(redis_url)
        verdict = final_verdict(redis_url, uid)
    for span in verdict.channels["eiger"].missing:
        assert WHY in verdict.reason, span
    check(tmp_path, verdict, n_frames)


def test_a_gateway_is_on_the_bus_between_series(
    gate: Restarted, sender: Sender, redis_url: str
) -> None:
    del gate
    name = f"{sender.gateway().kind} {sender.gateway().address}"
    with connect(redis_url, name="test") as client:

        def is_idle() -> bool:
            found = gateways_alive(client).get(name, {})
            return found.get("doing") == "waiting for messages"

        wait_until(is_idle)
        assert read_gateway(client, name)["on_the_way"] == []


@pytest.mark.long
def test_of_two_gateways_of_one_address_the_second_is_refused(
    gate: Restarted, sender: Sender, redis_url: str
) -> None:
    """Each would get a part of the frames."""
    del gate
    name = f"{sender.gateway().kind} {sender.gateway().address}"
    with connect(redis_url, name="test") as client:
        wait_until(lambda: gateways_alive(client).get(name))
    runner = GatewayRunner(sender.gateway(), GatewaySettings(redis_url, NAMES))
    with pytest.raises(ConfigurationError, match="another gateway receives from"):
        runner.run()
