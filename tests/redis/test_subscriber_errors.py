"""Errors of Redis that nobody foresaw, and a subscriber."""

from collections.abc import Iterator

import numpy as np
import pytest

from scanbus.publisher import Publisher
from scanbus.schemas.errors import BusRefusedError
from scanbus.subscriber import Subscriber
from tests.support.redis_proxy import (
    BROKEN_REPLIES,
    CLOSE,
    ERRORS,
    WRONG_REPLIES,
    RedisProxy,
    error,
)

pytestmark = pytest.mark.redis


@pytest.fixture
def proxy(redis_url: str) -> Iterator[RedisProxy]:
    with RedisProxy(redis_url) as one:
        yield one


@pytest.mark.parametrize("command", ["XREAD", "EVAL"])
def test_a_stream_goes_on_after_any_error_and_wrong_reply(
    redis_url: str, proxy: RedisProxy, command: str
) -> None:
    known = (ERRORS[each] for each in ("UNBLOCKED", "NOPERM", "SOMETHING", "READONLY"))
    replies = [*known, CLOSE, *BROKEN_REPLIES]
    # Some wrong replies are right ones for XREAD: nothing came, or for another stream.
    replies += [each for each in WRONG_REPLIES if not each.startswith(b"*")]
    with Publisher(redis_url, close_timeout_s=0.1) as publisher:
        with publisher.scan() as scan, Subscriber(proxy.url) as subscriber:
            scan.channel("th")
            scan.prepare()
            batches = iter(subscriber.scan(scan.uid).stream("th", start=0))
            found: list[float] = []
            for reply in replies:
                scan.send("th", float(len(found)))
                proxy.answer(command, reply, times=2)
                found += next(batches).values.tolist()
                proxy.heal()
            assert found == np.arange(len(replies)).tolist()


def test_an_error_that_stays_is_named_at_the_deadline(
    redis_url: str, proxy: RedisProxy
) -> None:
    with Subscriber(proxy.url, reconnect_s=0.5) as subscriber:
        assert subscriber.scans() == []
        proxy.answer("EVAL", error("SOMETHING new"), times=None)
        with pytest.raises(BusRefusedError, match="SOMETHING new"):
            subscriber.scans()
