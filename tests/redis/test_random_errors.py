"""Random errors and wrong replies while scans run: nothing lost, doubled or hung.

Publisher, writer and subscriber are behind the same proxy. Every answer of Redis to any
command may be an error of any kind, a reply of another type, or a closed connection,
and the command may have been executed or not.
"""

import random
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from scanbus.bus.store import connect, writers_alive
from scanbus.publisher import Publisher, Scan
from scanbus.schemas import VerdictWord
from scanbus.subscriber import Subscriber
from tests.support.redis_proxy import (
    BROKEN_REPLIES,
    CLOSE,
    ERRORS,
    WRONG_REPLIES,
    RedisProxy,
)
from tests.support.writers import wait_until, writer

pytestmark = pytest.mark.redis

N = 150
COMMANDS = ("*", "*", "XADD", "EVAL", "HGET", "XREAD", "EXEC", "PEXPIRE", "XRANGE")
# An empty or other array can be a right reply: that nothing came.
WRONG = [each for each in WRONG_REPLIES if not each.startswith(b"*")]


def disturb(proxy: RedisProxy, seed: int, is_over: threading.Event) -> None:
    """Answer random commands with random errors, with pauses, until it is over."""
    dice = random.Random(seed)
    while not is_over.is_set():
        kinds = (list(ERRORS.values()), WRONG, list(BROKEN_REPLIES), [CLOSE])
        reply = dice.choice(dice.choices(kinds, (6, 2, 1, 1))[0])
        proxy.answer(
            dice.choice(COMMANDS),
            reply,
            times=None,
            chance=dice.choice((0.1, 0.5, 1.0)),
            seed=dice.randrange(1000),
            executes=dice.random() < 0.5 and reply not in WRONG,
        )
        is_over.wait(dice.uniform(0.05, 0.8))
        proxy.heal()
        is_over.wait(dice.uniform(0.05, 0.4))


def send_all(scan: Scan) -> None:
    for point in range(N):
        scan.send("th", float(point))
        scan.send("cam", np.full((64, 64), point, np.uint16))
        time.sleep(0.03)


def read_all(url: str, uid: str, found: list[float]) -> None:
    with Subscriber(url, lapse_s=30) as subscriber:
        for batch in subscriber.scan(uid).stream("th"):
            found += batch.values.tolist()


@pytest.mark.parametrize("seed", range(3))
def test_random_errors_lose_double_and_hang_nothing(
    redis_url: str, tmp_path: Path, seed: int
) -> None:
    is_over = threading.Event()
    with RedisProxy(redis_url) as proxy, RedisProxy(redis_url) as quiet:
        with connect(redis_url, name="test") as client, writer(proxy.url, tmp_path):
            wait_until(lambda: writers_alive(client))
            with Publisher(proxy.url) as publisher:
                found: list[float] = []
                with publisher.scan() as scan:
                    scan.channel("th", role="axis")
                    scan.detector("cam", shape=(64, 64), dtype="uint16")
                    scan.prepare()
                    reader = threading.Thread(
                        target=read_all, args=(quiet.url, scan.uid, found)
                    )
                    faults = [
                        threading.Thread(target=disturb, args=(each, seed, is_over))
                        for each in (proxy, quiet)
                    ]
                    reader.start()
                    wait_until(lambda: quiet.seen["XREAD"])
                    for thread in faults:
                        thread.start()
                    try:
                        send_all(scan)
                    finally:
                        is_over.set()
                        for thread in faults:
                            thread.join()
                verdict = scan.verdict(60)
                reader.join(30)
        assert verdict.verdict is VerdictWord.COMPLETE, verdict
        for ledger in verdict.channels.values():
            assert (ledger.written, ledger.duplicate) == (N, ())
        assert not reader.is_alive()
        assert found == np.arange(N).tolist()
