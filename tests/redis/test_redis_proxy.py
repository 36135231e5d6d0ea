"""The proxy that answers in Redis' place: what it answers, and what the server gets."""

from collections.abc import Iterator

import pytest
import redis

from scanbus.bus.store import Bus, connect
from tests.support.redis_proxy import (
    BROKEN_REPLIES,
    CLOSE,
    ERRORS,
    RedisProxy,
    error,
)

pytestmark = pytest.mark.redis
E = redis.exceptions


@pytest.fixture
def proxy(redis_url: str) -> Iterator[RedisProxy]:
    with RedisProxy(redis_url) as one:
        yield one


@pytest.fixture
def client(proxy: RedisProxy) -> Iterator[Bus]:
    with connect(proxy.url, name="test") as one:
        yield one


def test_without_a_fault_it_is_not_noticed(proxy: RedisProxy, client: Bus) -> None:
    large = bytes(3 << 20)
    assert client.set("a", large)
    assert client.get("a") == large
    client.xadd("s", {"x": 1}, id="1-1")
    assert client.xlen("s") == 1
    assert not client.xread({"s": "1-1"}, block=20)
    with client.pipeline() as pipe:
        for _ in range(2):
            pipe.incr("n")
        pipe.get("none")
        assert pipe.execute() == [1, 2, None]
    assert client.eval("return {1, {'a', false}, redis.status_reply('b')}", 0) == [
        1,
        [b"a", None],
        b"b",
    ]
    assert proxy.seen["INCRBY"] == 2


def test_the_nth_such_command_gets_the_answer(proxy: RedisProxy, client: Bus) -> None:
    fault = proxy.answer("INCRBY", error("WHAT is this"), key="a*", skip=1, times=2)
    assert client.incr("abc") == 1
    for _ in range(2):
        with pytest.raises(E.ResponseError, match="WHAT"):
            client.incr("abc")
        assert client.incr("b")
    assert fault.wait(0)
    assert client.incr("abc") == 2


def test_an_answer_may_hide_that_the_command_was_executed(
    proxy: RedisProxy, client: Bus
) -> None:
    proxy.answer("INCRBY", CLOSE, executes=True)
    with pytest.raises(E.ConnectionError):
        client.incr("a")
    assert client.incr("a") == 2
    proxy.answer("INCRBY", b":77\r\n")
    assert client.incr("a") == 77
    assert client.incr("a") == 3


def test_a_refused_command_aborts_its_transaction(
    proxy: RedisProxy, client: Bus
) -> None:
    proxy.answer("INCRBY", ERRORS["OOM"], skip=1)
    with client.pipeline() as pipe:
        pipe.incr("a")
        pipe.incr("a")
        with pytest.raises(E.ResponseError):
            pipe.execute()
    assert client.get("a") is None


@pytest.mark.parametrize("name", ERRORS)
def test_each_error_arrives(proxy: RedisProxy, client: Bus, name: str) -> None:
    proxy.answer("*", ERRORS[name], key="a")
    with pytest.raises(E.RedisError):
        client.get("a")
    assert client.get("a") is None


@pytest.mark.parametrize("reply", BROKEN_REPLIES)
def test_what_is_no_reply_breaks_the_connection(
    proxy: RedisProxy, client: Bus, reply: bytes
) -> None:
    proxy.answer("GET", reply)
    with pytest.raises(E.RedisError):
        client.get("a")
    assert client.get("a") is None


def test_faults_come_by_chance_and_can_be_healed(
    proxy: RedisProxy, client: Bus
) -> None:
    fault = proxy.answer("INCRBY", ERRORS["BUSY"], times=None, chance=0.3, seed=5)
    n_refused = 0
    for _ in range(200):
        try:
            client.incr("a")
        except E.ResponseError:
            n_refused += 1
    assert n_refused == fault.n_answered
    assert 30 < n_refused < 90
    proxy.heal()
    assert [client.incr("a") for _ in range(50)][-1] == 250 - n_refused


def test_connections_are_dropped_and_come_again(proxy: RedisProxy, client: Bus) -> None:
    before = client.client_id()
    proxy.drop_all()
    assert client.client_id() != before
