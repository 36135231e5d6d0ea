"""From wherever a program calls: it works or it raises, and nothing hangs.

Every program here is a process of its own, as exit and fork are what is asked for.
"""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from scanbus.bus.store import Bus, connect
from tests.support.published import MemoryWriter, read_scan, record_of

pytestmark = pytest.mark.redis

UID = "program01"
HEAD = """
import atexit, asyncio, gc, multiprocessing, os, signal, sys, threading, time
from scanbus.publisher import Publisher
from scanbus.schemas.errors import ScanbusError
from scanbus.subscriber import Subscriber
URL, UID, SPOOL = sys.argv[1:]

def tried(call, *arguments, **options):
    try:
        call(*arguments, **options)
    except Exception as error:
        print(type(error).__name__, error, flush=True)
    else:
        print("worked", flush=True)

def forked(call):
    pid = os.fork()
    if not pid:
        try:
            call()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
"""
BLOCK = """
with Publisher(URL, close_timeout_s=20) as publisher, publisher.scan(uid=UID) as scan:
    scan.channel("x")
    scan.send("x", 0.0)
"""


@pytest.fixture
def bus(redis_url: str) -> Iterator[Bus]:
    with connect(redis_url, name="test") as client:
        yield client


@pytest.fixture
def writer(redis_url: str) -> Iterator[MemoryWriter]:
    with MemoryWriter(redis_url) as writer:
        yield writer


def output_of(url: str, program: str, spool: str = "") -> list[str]:
    """Return the lines that a program prints; it must end by itself."""
    done = subprocess.run(
        [sys.executable, "-c", HEAD + program, url, UID, spool],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout.splitlines()


def values(bus: Bus) -> list[float]:
    return list(map(float, read_scan(bus, UID)["x"].values("x")))


CALLS = (
    "scan.send('x', 1.0)",
    "scan.send('x', 1)",
    "scan.send('x', [1.0])",
    "scan.skip('x')",
    "scan.flush(5)",
    "scan.wait_durable(5)",
    "scan.verdict(5)",
    "scan.update({'a': 1})",
    "scan.prepare()",
    "scan.channel('y')",
    "scan.finish('SUCCESS')",
    "publisher.scan().__enter__()",
)


def test_a_forked_process_cannot_use_the_publisher_of_its_parent(
    redis_url: str, bus: Bus, writer: MemoryWriter
) -> None:
    """Each call is that of another process."""
    forks = "".join(f"    forked(lambda: tried(lambda: {call}))\n" for call in CALLS)
    lines = output_of(redis_url, f"{BLOCK}{forks}    scan.send('x', 2.0)\n")

    assert len(lines) == len(CALLS)
    for call, line in zip(CALLS, lines, strict=True):
        assert "make the Publisher after the fork" in line, call
    assert values(bus) == [0.0, 2.0]
    assert record_of(bus, UID).final_verdict is not None


def test_a_worker_of_multiprocessing_is_told_and_the_parent_goes_on(
    redis_url: str, bus: Bus, writer: MemoryWriter
) -> None:
    lines = output_of(
        redis_url,
        f"""{BLOCK}
    def work():
        for number in range(10):
            tried(scan.send, "x", float(number))
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join(20)
    print(process.exitcode)
    scan.send("x", 1.0)
""",
    )

    assert lines.pop() == "0"
    assert len(lines) == 10
    assert all("make the Publisher after the fork" in line for line in lines)
    assert values(bus) == [0.0, 1.0]


def test_a_fork_in_the_middle_of_sends_of_other_threads_harms_neither(
    redis_url: str, bus: Bus, writer: MemoryWriter
) -> None:
    lines = output_of(
        redis_url,
        f"""{BLOCK}
    sent, is_over = [0], threading.Event()
    def send():
        while not is_over.is_set():
            number = sent[0] + 1
            scan.send("x", float(number) if number % 3 else [float(number)])
            sent[0] = number
    thread = threading.Thread(target=send)
    thread.start()
    for _ in range(10):
        forked(lambda: tried(scan.send, "x", [1.0]))
    is_over.set()
    thread.join()
    print(sent[0])
""",
    )

    n_sent = int(lines.pop())
    assert n_sent > 10
    assert len(lines) == 10
    assert all("make the Publisher after the fork" in line for line in lines)
    assert values(bus) == [float(number) for number in range(n_sent + 1)]


@pytest.mark.parametrize("leave", ["sys.exit()", "return", "os._exit(0)"])
def test_a_forked_process_leaves_the_block_and_the_spool_to_its_parent(
    leave: str, redis_url: str, bus: Bus, writer: MemoryWriter, tmp_path: object
) -> None:
    lines = output_of(
        redis_url,
        f"""
def main():
    with Publisher(URL, close_timeout_s=20, spool=SPOOL) as publisher:
        with publisher.scan(uid=UID) as scan:
            scan.channel("x")
            scan.send("x", 0.0)
            scan.flush()
            if not os.fork():
                {leave}
            os.wait()
            print(os.listdir(SPOOL) == [UID])
            scan.send("x", 1.0)
            print(scan.is_open)
main()
""",
        str(tmp_path),
    )

    assert lines == ["True", "True"]
    assert values(bus) == [0.0, 1.0]


def test_a_server_that_becomes_a_daemon_is_told_and_ends(
    redis_url: str, bus: Bus
) -> None:
    lines = output_of(
        redis_url,
        """
publisher = Publisher(URL, close_timeout_s=0.5)
scan = publisher.scan(uid=UID).__enter__()
scan.channel("x")
scan.send("x", 0.0)
scan.flush()
done, told = os.pipe()
if os.fork():
    os.close(told)
    os.read(done, 1)  # Until the daemon has ended, whose end closes the pipe.
    os._exit(0)
os.setsid()
if os.fork():
    os._exit(0)
tried(scan.send, "x", 1.0)
tried(publisher.scan)
publisher.close()
with Publisher(URL, close_timeout_s=0.5) as own, own.scan(uid="daemon01") as scan:
    scan.channel("x")
    tried(scan.send, "x", 1.0)
""",
    )

    assert len(lines) == 3
    assert all("make the Publisher after the fork" in line for line in lines[:2])
    assert lines[2] == "worked"
    assert values(bus) == [0.0]
    assert read_scan(bus, "daemon01")["x"].values("x") == [1.0]


def test_a_forked_process_cannot_use_the_subscriber_of_its_parent(
    redis_url: str, bus: Bus, writer: MemoryWriter
) -> None:
    lines = output_of(
        redis_url,
        f"""{BLOCK}
    scan.flush()
    with Subscriber(URL) as subscriber:
        reader = subscriber.scan(UID)
        forked(lambda: tried(subscriber.scans))
        forked(lambda: tried(reader.refresh))
        forked(subscriber.close)
        tried(reader.refresh)
""",
    )

    assert len(lines) == 3
    assert all("make the Subscriber after the fork" in line for line in lines[:2])
    assert lines[2] == "worked"


def test_threads_go_on_after_the_end_of_the_main_thread(
    redis_url: str, bus: Bus, writer: MemoryWriter
) -> None:
    lines = output_of(
        redis_url,
        """
publisher = Publisher(URL, close_timeout_s=20)
def work():
    threading.main_thread().join()
    time.sleep(0.3)
    with publisher.scan(uid=UID) as scan:
        scan.channel("x")
        scan.detector("d", shape=(4, 4), dtype="uint32")
        import numpy
        for number in range(300):
            scan.send("x", float(number))
            scan.send("d", numpy.zeros((4, 4), "uint32"))
            time.sleep(0.001)
    print(scan.verdict().verdict.value)
threading.Thread(target=work).start()
""",
    )

    assert lines == ["complete"]
    assert len(values(bus)) == 300


def test_calls_while_the_interpreter_exits_raise(
    redis_url: str, bus: Bus, writer: MemoryWriter
) -> None:
    lines = output_of(
        redis_url,
        """
publisher = Publisher(URL, close_timeout_s=20)
scan = publisher.scan(uid=UID).__enter__()
scan.channel("x")
atexit.register(lambda: tried(scan.send, "x", 1.0))
atexit.register(lambda: tried(publisher.scan))
atexit.register(publisher.close)
scan.send("x", 0.0)
""",
    )

    assert len(lines) == 2
    assert all(line.startswith("ScanStateError") for line in lines)
    assert values(bus) == [0.0]
    assert record_of(bus, UID).final_verdict is not None


def test_a_finaliser_and_a_signal_handler_may_send(
    redis_url: str, bus: Bus, writer: MemoryWriter
) -> None:
    lines = output_of(
        redis_url,
        f"""{BLOCK}
    n_sent = [0]
    class Cycle:
        def __init__(self):
            self.me = self
        def __del__(self):
            scan.send("x", [-1.0])
            n_sent[0] += 1
    def handle(*_):
        scan.send("x", -2.0)
        n_sent[0] += 1
    signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    gc.set_threshold(50, 2, 2)
    until = time.monotonic() + 2
    while time.monotonic() < until:
        Cycle()
        scan.send("x", [1.0])
        n_sent[0] += 1
    signal.setitimer(signal.ITIMER_REAL, 0)
    gc.disable()
    gc.collect()  # What is left would send when the scan is over.
    tried(scan.flush)
    print(n_sent[0])
""",
    )

    worked, n_sent = lines
    assert worked == "worked"
    came = values(bus)
    # A finaliser may run between another one's send and its count.
    assert abs(len(came) - 1 - int(n_sent)) <= 3
    assert {-1.0, -2.0, 1.0} <= set(came)


def test_blocking_calls_work_inside_a_running_event_loop(
    redis_url: str, bus: Bus, writer: MemoryWriter
) -> None:
    lines = output_of(
        redis_url,
        """
async def main():
    loop = asyncio.get_running_loop()
    with Publisher(URL, close_timeout_s=20) as publisher:
        with publisher.scan(uid=UID) as scan:
            scan.channel("x")
            scan.send("x", 0.0)
            await asyncio.gather(
                *(asyncio.to_thread(scan.send, "x", float(n)) for n in range(1, 50))
            )
        print((await asyncio.to_thread(scan.verdict)).verdict.value)
asyncio.run(main())
""",
    )

    assert lines == ["complete"]
    assert sorted(values(bus)) == [float(number) for number in range(50)]


def gevent_output(url: str, program: str) -> list[str]:
    pytest.importorskip("gevent")
    done = subprocess.run(
        [sys.executable, "-c", program, url, UID, ""],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


PATCH = "import gevent.monkey; gevent.monkey.patch_all()\n"


def test_a_program_that_gevent_patched_publishes(
    redis_url: str, bus: Bus, writer: MemoryWriter
) -> None:
    program = """
import gevent, numpy
with Publisher(URL, close_timeout_s=20) as publisher:
    with publisher.scan(uid=UID) as scan:
        scan.channel("x")
        scan.detector("d", shape=(64, 64), dtype="uint16")
        for number in range(100):
            scan.send("x", float(number))
            scan.send("d", numpy.full((64, 64), number, "uint16"))
        gevent.joinall([gevent.spawn(scan.send, "x", 1.0 * n) for n in range(100, 110)])
        scan.flush()
    print(scan.verdict().verdict.value)
"""
    assert gevent_output(redis_url, PATCH + HEAD + program) == ["complete"]
    assert values(bus) == [float(number) for number in range(110)]


def test_a_program_that_gevent_patches_too_late_is_told(redis_url: str) -> None:
    lines = gevent_output(redis_url, HEAD + PATCH + "tried(Publisher, URL)")
    assert lines[0].startswith("ScanStateError")
    assert "first" in lines[0]
