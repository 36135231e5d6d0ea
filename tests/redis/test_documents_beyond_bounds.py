"""A document that cannot be sent raises where the program calls; the scan goes on."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import pytest

from scanbus.bus.store import Bus, connect
from scanbus.publisher import Publisher, Scan
from scanbus.schemas import EndReason, PlotDescription
from scanbus.schemas.errors import DeclarationError
from tests.support.endless import Endless
from tests.support.published import read_scan, record_of
from tests.support.waiting import wait_until

pytestmark = pytest.mark.redis

TOO_MANY = {"a": ["0"] * 2**20}
TOO_MANY_KEYS = {f"key {number}": number for number in range(300_000)}
TOO_LARGE = {"a": "x" * 64 * 2**20}
# Of an entry; no byte of it is ever touched.
TOO_LARGE_ARRAY = {"a": np.broadcast_to(np.uint8(1), 384 * 2**20 + 1)}
LONE = "\ud800"  # Half of a character: not Unicode, but Python's text may hold it.

CALLS: dict[str, Callable[[Scan], Any]] = {
    "many values": lambda scan: scan.update(TOO_MANY),
    "many keys": lambda scan: scan.update(TOO_MANY_KEYS),
    "endless keys": lambda scan: scan.update(Endless()),
    "endless motors": lambda scan: scan.end_positioners(Endless()),
    "64 MiB": lambda scan: scan.update(TOO_LARGE),
    "a large array": lambda scan: scan.update(TOO_LARGE_ARRAY),
    "very many motors": lambda scan: scan.end_positioners(
        {f"m{number}": 1.0 for number in range(2**19)}
    ),
}


@pytest.fixture
def bus(redis_url: str) -> Iterator[Bus]:
    with connect(redis_url, name="test") as client:
        yield client


@pytest.fixture
def publisher(redis_url: str) -> Iterator[Publisher]:
    with Publisher(redis_url, name="tests", close_timeout_s=0) as publisher:
        yield publisher


@pytest.mark.sampled(7)
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("is_prepared", [False, True])
def test_what_cannot_be_sent_is_refused_and_the_scan_goes_on(
    publisher: Publisher, bus: Bus, call: str, is_prepared: bool
) -> None:
    with publisher.scan() as scan:
        scan.channel("a")
        if is_prepared:
            scan.send("a", 0.0)
        with pytest.raises(DeclarationError):
            CALLS[call](scan)
        scan.update({"b": 1})
        scan.end_positioners({"th": 1.0})
        scan.send("a", [1.0, 2.0])
    wait_until(lambda: record_of(bus, scan.uid).ended is not None)
    record = record_of(bus, scan.uid)
    assert record.ended is not None
    assert record.ended.end_reason is EndReason.SUCCESS
    assert list(record.ended.positioners) == ["th"]
    assert record.metadata() == {"b": 1}
    assert record.problems == []
    assert len(read_scan(bus, scan.uid)["a"].values("a")) == 2 + is_prepared


def test_odd_texts_are_stored_as_far_as_they_can_be(
    publisher: Publisher, bus: Bus
) -> None:
    with publisher.scan(metadata={"a": LONE}) as scan:
        scan.channel("a")
        scan.update({"b": "a\0b"}, note=f"a\0b{LONE}" + "x" * 10**5)
        scan.end_positioners({"th 1": ("deg\0" * 100, LONE)})
        scan.abort("a\0b" + "x" * 10**5)
    wait_until(lambda: record_of(bus, scan.uid).ended is not None)
    record = record_of(bus, scan.uid)
    assert record.ended is not None
    assert record.problems == []
    assert record.metadata()["a"] == '"\\ud800"'
    assert record.metadata()["b"] == '"a\\u0000b"'
    assert record.updates[0].note.startswith("a\N{REPLACEMENT CHARACTER}b?xxx")
    assert record.ended.end_reason is EndReason.USER_ABORT
    assert record.ended.text.startswith("a\N{REPLACEMENT CHARACTER}bxxx")
    assert record.ended.positioners["th_1"].value == "?"


@pytest.mark.parametrize(
    "metadata",
    [TOO_MANY, TOO_MANY_KEYS, Endless(), TOO_LARGE, TOO_LARGE_ARRAY],
    ids=["values", "keys", "endless", "large", "array"],
)
def test_metadata_of_a_scan_are_refused_before_there_is_one(
    publisher: Publisher, bus: Bus, metadata: dict[str, Any]
) -> None:
    with pytest.raises(DeclarationError):
        publisher.scan(metadata=metadata)
    assert not bus.exists("scanbus:scans")
    assert not list(bus.scan_iter("scanbus:number:*"))


def test_motors_of_a_scan_are_refused_before_there_is_one(
    publisher: Publisher, bus: Bus
) -> None:
    motors = {f"m{number}": 1.0 for number in range(2**19)}
    with pytest.raises(DeclarationError, match="values"):
        publisher.scan(positioners=motors)
    assert not bus.exists("scanbus:scans")


def test_metadata_that_do_not_fit_beside_the_channels_follow_them(
    publisher: Publisher, bus: Bus
) -> None:
    nearly = {"a": ["0"] * (2**20 - 20)}
    with publisher.scan(metadata=nearly) as scan:
        scan.channel("a")
        scan.update({"b": 1})
        scan.send("a", 1.0)
    wait_until(lambda: record_of(bus, scan.uid).ended is not None)
    record = record_of(bus, scan.uid)
    assert record.ended is not None
    assert record.ended.end_reason is EndReason.SUCCESS
    assert record.metadata() == nearly | {"b": 1}


class Unspeakable(Exception):  # noqa: N818 - it is no error of ours
    """An exception that cannot be shown."""

    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("a\0b"), "ValueError: a\N{REPLACEMENT CHARACTER}b"),
        (ValueError(LONE), "ValueError: ?"),
        (ValueError("x" * 10**6), "ValueError: " + "x" * (65536 - 13) + "…"),
        (Unspeakable(), "Unspeakable: cannot be shown"),
    ],
)
def test_whatever_an_error_says_the_scan_ends_with_it(
    publisher: Publisher, bus: Bus, error: Exception, text: str
) -> None:
    scan = publisher.scan()
    with suppress(type(error)), scan:
        scan.channel("a")
        scan.send("a", 1.0)
        raise error
    wait_until(lambda: record_of(bus, scan.uid).ended is not None)
    ended = record_of(bus, scan.uid).ended
    assert ended is not None
    assert (ended.end_reason, ended.text) == (EndReason.FAILURE, text)


class Broken(dict[str, Any]):
    """A mapping that cannot be read, as of a device that has gone."""

    def items(self) -> Any:
        raise RuntimeError


class Lying(dict[str, Any]):
    """A mapping that cannot even be looked at."""

    def __iter__(self) -> Any:
        raise RuntimeError

    keys = items = __len__ = __iter__


def test_nothing_that_a_program_says_of_a_scan_ends_it_late(
    redis_url: str, bus: Bus
) -> None:
    odd = {"broken": Broken(a=1), "lying": Lying(a=1), "deep": [Broken(a=1)]}
    title: Any = 5
    plots: Any = [
        {"name": "a b", "signals": ["a", "typo"], "axes": ["typo"]},
        PlotDescription(name="none", signals=("typo",)),
    ]
    with Publisher(redis_url, name="x\0" * 300, close_timeout_s=0) as publisher:
        with publisher.scan(
            metadata=odd, title=title, instrument=LONE * 999, plots=plots
        ) as scan:
            scan.channel("a", units=LONE, display_name="x\0" * 300)
            scan.update(Broken(a=1), note=5)  # type: ignore[arg-type]
            scan.update(5)  # type: ignore[arg-type]
            scan.send("a", 1.0)
            scan.update([1, None])  # type: ignore[arg-type]
            scan.finish("SUCCESS", 5)  # type: ignore[arg-type]
        wait_until(lambda: record_of(bus, scan.uid).ended is not None)
    record = record_of(bus, scan.uid)
    assert record.problems == []
    assert record.ended is not None
    assert (record.ended.end_reason, record.ended.text) == (EndReason.SUCCESS, "5")
    assert record.prepared is not None
    assert [plot.name for plot in record.prepared.plots] == ["a_b"]
    notes = [update.note for update in record.updates if update.note]
    assert "plot 'none': there is no channel 'typo'" in notes
    assert record.metadata()["metadata"] == "[1, null]"
    assert sorted(odd) == sorted(key for key in record.metadata() if key in odd)


@pytest.mark.parametrize(
    "option", [{"compression": float("nan")}, {"quota_bytes": 1.5}, {"plots": [5]}]
)
def test_slips_in_options_are_refused_before_there_is_a_scan(
    publisher: Publisher, bus: Bus, option: dict[str, Any]
) -> None:
    with pytest.raises((TypeError, ValueError)):
        publisher.scan(**option)
    assert not bus.exists("scanbus:scans")
