"""Frames by reference: runs, URLs, and what must not be taken for one."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanbus.bus.protocol import Variable, decode_block, encode_block, pack_variable
from scanbus.schemas import ChannelDescription, FrameRun, parse_frame_url
from scanbus.schemas.errors import PayloadError
from scanbus.schemas.frame_references import frame_runs, frame_url, parse_runs
from scanbus.writer.model.reference_map import (
    Extent,
    ReferenceFiles,
    frame_sources,
    points_of,
)

CHANNEL = ChannelDescription(
    name="eiger",
    group="eiger",
    device="eiger",
    dtype="string",
    codec="reference",
    max_point_bytes=1024,
    frames={"dtype": "uint16", "shape": (6, 8)},
)
NAMES = st.sampled_from(["/a.h5", "/b c.h5", "/dä/e.h5"])
PLACES = st.one_of(
    st.just(("", "", 0)),
    st.tuples(NAMES, st.sampled_from(["/data", "/x/y"]), st.integers(0, 9)),
    st.tuples(NAMES, st.just(""), st.integers(0, 3)),
)


@given(places=st.lists(PLACES, min_size=1))
def test_a_block_reads_back_as_the_urls_of_its_frames(
    places: list[tuple[str, str, int]],
) -> None:
    urls = [frame_url(*place) for place in places]
    assert [parse_frame_url(url) for url in urls] == places
    packed = pack_variable(CHANNEL, urls)
    block = memoryview(b"".join(encode_block(CHANNEL, packed)))
    found = decode_block(CHANNEL, block, len(urls), "reference")
    assert isinstance(found, Variable)
    assert found.texts() == urls
    with pytest.raises(PayloadError, match="in an entry of"):
        decode_block(CHANNEL, block, len(urls) + 1, "reference")


RUN = {"file": "/a.h5", "path": "/d", "first": 0, "count": 1}


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"nonsense",
        b"{}",
        b"[1]",
        b"[[]]",
        b"[" * 100_000,
        b"\xff\xfe",
        *(
            json.dumps([{**RUN, **change}]).encode()
            for change in (
                {"file": "a.h5"},
                {"file": "/../etc/passwd"},
                {"file": "/a\0.h5"},
                {"file": "/a?b"},
                {"file": 7},
                {"file": None},
                {"file": "/" + "a" * 2000},
                {"file": "/\ud800"},
                {"path": "d"},
                {"path": "/d&slice=7"},
                {"path": ["/d"]},
                {"file": ""},
                {"first": -1},
                {"first": 2**60},
                {"first": 1.5},
                {"first": True},
                {"count": 0},
                {"count": 2},
                {"count": 2**62},
                {"count": "1"},
            )
        ),
    ],
    ids=repr,
)
def test_what_is_no_reference_is_refused(block: bytes) -> None:
    with pytest.raises(PayloadError, match="eiger"):
        decode_block(CHANNEL, memoryview(block), 1, "reference")


def test_a_few_bytes_do_not_become_gigabytes() -> None:
    run = {**RUN, "file": "/" + "a" * 900, "count": 2**20}
    with pytest.raises(ValueError, match="send shorter ones"):
        parse_runs(json.dumps([run]).encode(), 2**20)


@pytest.mark.parametrize(
    "change",
    [
        {"codec": "none"},
        {"frames": None},
        {"dtype": "uint16", "max_point_bytes": None},
        {"frames": {"dtype": "string", "shape": (6, 8)}},
        {"frames": {"dtype": "uint16", "shape": (6, -1)}},
        {"frames": {"dtype": "uint16", "shape": ()}},
        {"fill_value": 70_000},
    ],
)
def test_an_inconsistent_description_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"eiger|frames"):
        ChannelDescription.model_validate({**CHANNEL.model_dump(), **change})


@given(
    order=st.lists(st.integers(0, 3), min_size=1, max_size=60),
    run=st.integers(1, 4),
    lengths=st.lists(st.one_of(st.none(), st.integers(0, 99)), min_size=4, max_size=4),
)
def test_every_frame_is_mapped_once_to_its_point(
    order: list[int], run: int, lengths: list[int | None]
) -> None:
    """Writers that take turns in any order; frames behind the end are left out."""
    urls: list[str] = []
    wanted: dict[int, tuple[int, int]] = {}
    frames = [0] * 4
    for writer in order:
        for _ in range(run):
            frame = frames[writer]
            frames[writer] += 1
            length = lengths[writer]
            if length is None or frame < length:
                wanted[len(urls)] = (writer, frame)
            urls.append(frame_url(f"/{writer}.h5", "/d", frame))
    files = ReferenceFiles()
    half = len(urls) // 2
    files.add(frame_runs(urls[:half]))
    files.add(frame_runs(urls[half:]))
    extents = {file: Extent(file[0], lengths[int(file[0][1])]) for file in files.pieces}
    found = {
        one.start + k * one.step: (int(one.file[1]), one.first + k * one.frame_step)
        for one in frame_sources(files, extents)
        for k in range(one.count)
    }
    assert found == wanted
    for file, extent in extents.items():
        if extent.length is not None:
            lacking = points_of(files.pieces[file], extent.length)
            points = [p for start, stop in lacking for p in range(start, stop)]
            mine = [i for i, url in enumerate(urls) if f"/{file[0]}?" in url]
            assert points == [point for point in mine if point not in wanted]


def test_writers_that_take_turns_need_a_mapping_each() -> None:
    files = ReferenceFiles()
    for point in range(4000):
        files.add([FrameRun(f"/{point % 4}.h5", "/d", point // 4, 1)])
    assert files.n_pieces == 4
    steps = [one.step for pieces in files.pieces.values() for one in pieces]
    assert steps == [4] * 4
