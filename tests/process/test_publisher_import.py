"""Importing the publisher is quick: what a program needs only later, it loads later."""

import json
import os
import subprocess
import sys
import textwrap

from scanbus.schemas import PlotDescription, ScanJudged, Verdict, VerdictWord
from tests.support.descriptions import NOW, UID, announced, bytes_lane, prepared

# Loaded with the first connection, the first line of the log, or the first frame.
LATER = {
    "asyncio",
    "bitshuffle",
    "blosc2",
    "h5py",
    "hdf5plugin",
    "hiredis",
    "redis",
    "rich",
    "ssl",
    "structlog",
}


def printed(code: str, *args: str) -> list[str]:
    """What a fresh process prints as JSON."""
    child = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *args],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        check=True,
    )
    words: list[str] = json.loads(child.stdout)
    return words


def test_importing_the_publisher_loads_neither_redis_nor_what_logs_or_packs() -> None:
    code = """
        import json, sys
        before = set(sys.modules)
        import scanbus.publisher
        print(json.dumps([name for name in sys.modules if name not in before]))
    """
    loaded = printed(code)
    assert "scanbus.publisher" in loaded
    assert LATER.intersection(loaded) == set()


def test_importing_the_publisher_builds_no_model() -> None:
    code = """
        import json
        import scanbus.publisher
        from pydantic import BaseModel

        def below(kind):
            for each in kind.__subclasses__():
                yield each
                yield from below(each)

        ours = [each for each in below(BaseModel) if "scanbus" in each.__module__]
        built = [each.__name__ for each in ours if each.__pydantic_complete__]
        print(json.dumps([str(len(ours)), *built]))
    """
    n_models, *built = printed(code)
    assert int(n_models) > 10
    assert built == []


def test_models_may_be_used_first_by_several_threads_at_once() -> None:
    """The monitor reads events while the program declares channels."""
    events = [
        prepared(
            bytes_lane(),
            metadata={"dark": {"array": {"dtype": "uint8", "shape": [0], "data": ""}}},
            plots=(PlotDescription(name="plot", signals=("a",)),),
        ),
        ScanJudged(time=NOW, verdict=Verdict(uid=UID, verdict=VerdictWord.COMPLETE)),
    ]
    code = """
        import json, sys, threading
        from scanbus.schemas import ChannelDescription, parse_announcement, parse_event

        announcement, *events = (text.encode() for text in sys.argv[1:])
        channel = {"name": "th", "group": "g", "device": "d", "nexus": {"field": "x"}}
        calls = [
            lambda: ChannelDescription(**channel).model_dump_json(),
            lambda: parse_announcement(announcement).to_json(),
            *(lambda event=event: parse_event(event).to_json() for event in events),
        ]
        problems = []
        all_at_once = threading.Barrier(4 * len(calls))

        def run(first):
            all_at_once.wait()
            for call in calls[first:] + calls[:first]:
                try:
                    call()
                except Exception as error:
                    problems.append(repr(error))

        sys.setswitchinterval(1e-6)
        threads = [
            threading.Thread(target=run, args=(number % len(calls),))
            for number in range(4 * len(calls))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print(json.dumps(problems))
    """
    texts = [document.to_json().decode() for document in (announced(), *events)]
    assert printed(code, *texts) == []
